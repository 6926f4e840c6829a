"""Reading a page in the browser: what is shown, in which order."""

from __future__ import annotations

import re

#: The table with the most rows of the study of ``page_records``.
WIDE = "#table-1"


def shown(page, table=WIDE, column=0):
    """Texts of a column in the rows of a table that are to be seen, top down."""
    return page.eval_on_selector_all(
        f"{table} table > tbody",
        """(bodies, column) => bodies.filter(body => body.offsetParent !== null)
        .map(body => body.rows[0].cells[column].querySelector("span:not(.unseen)").textContent)""",
        column,
    )


def heading(page, name, table=WIDE):
    return page.locator(f"{table} th button", has_text=re.compile(f"^{name}$"))


def order(page, name, table=WIDE):
    return heading(page, name, table).locator("..").get_attribute("aria-sort")


def count(page):
    return page.locator("[data-count]").text_content()
