"""The HTML report in Chromium: strangers run nothing; colours, sizes, print, names.

Every test also fails if the page logs anything or asks for anything but itself (fixture ``visit``).
"""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from hostile import hostile_study
from page_records import IR2VIS, run
from PIL import Image
from reading import WIDE, heading, shown

from vbench.reports.page import page_of
from vbench.reports.printed import protocol_words


def test_hostile_records_run_nothing(visit):
    page = visit(page_of(hostile_study(), broken=["<img src=x onerror=alert(1)>"]))
    assert page.locator("figure").count() > 0
    page.locator("[data-toggle]").first.click()
    page.get_by_label("Search").fill("alert")
    page.locator("[data-run]").dispatch_event("change")
    assert page.locator("[data-explored] tbody").count() == 20
    assert page.locator("img:not([src^='data:image/svg+xml;base64,']), iframe, object, svg").count() == 0
    assert page.evaluate("document.scripts.length") == 2


def test_a_script_that_escaping_missed_would_not_run(browser, tmp_path, written):
    path = tmp_path / "page.html"
    path.write_text(written.replace("<main", "<script>window.ran = 1</script><main"))
    page = browser.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(path.as_uri())
    assert page.evaluate("window.ran") is None and "Content Security Policy" in complaints[0]
    page.evaluate("fetch('https://example.org/').catch(() => 0)")
    assert "connect" in complaints[1] or "default-src" in complaints[1]
    page.close()


# ------------------------------------------------------------------ looks

CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => { for (let e = element; e; e = e.parentElement) {
    const found = rgb(getComputedStyle(e).backgroundColor); if (found[3] === 255) return found; }
    return rgb(getComputedStyle(document.documentElement).colorScheme.includes("dark") &&
      matchMedia("(prefers-color-scheme: dark)").matches ? "black" : "white"); };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility() || element.matches("script, style, noscript, option")) continue;
    const both = [light(rgb(getComputedStyle(element).color)), light(ground(element))];
    const [a, b] = both.sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), element.tagName + "." + element.className]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.slow
def test_text_can_be_read_in_both_schemes(visit, written, scheme):
    page = visit(written, scheme=scheme)
    page.locator("[data-toggle]").nth(1).click()
    found = page.evaluate(CONTRASTS)
    assert len(found) > 200
    assert [(round(ratio, 2), what) for ratio, what in found if ratio < 4.5] == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == (scheme == "dark")


@pytest.mark.slow
def test_results_are_on_the_first_screen_and_within_it(visit):
    page = visit(page_of([run("noise", 0.78), run("pgd", 0.1)], figures=False))
    box = page.locator(WIDE).locator("table").bounding_box()
    assert box["y"] + 80 < 800 and box["x"] + box["width"] <= 1280
    assert page.title() == "Adversarial robustness of AGW on " + protocol_words(IR2VIS)


@pytest.mark.slow
def test_a_long_table_has_pages(visit):
    page = visit(page_of([run(f"attack{number}", 0.1 + number / 100) for number in range(30)], figures=False))
    assert len(shown(page)) == 25
    page.get_by_role("button", name="Next", exact=True).first.press("Enter")
    assert shown(page) == [f"attack{number}" for number in range(25, 30)]
    assert "rows 26 to 30 of 30" in page.locator(".pager").first.inner_text()
    page.get_by_label("Search").fill("attack29")
    assert shown(page) == ["attack29"] and not page.locator(".pager").first.is_visible()


@pytest.mark.slow
def test_a_phone_needs_few_screens(visit):
    page = visit(page_of([run("noise", 0.78), run("pgd", 0.1)]), width=390)
    assert page.evaluate("document.documentElement.scrollHeight") < 8000
    assert not page.locator(f"{WIDE} td[data-label='ASR']").first.is_visible()
    page.locator("[data-toggle]").first.click()
    assert page.locator(f"{WIDE} td[data-label='ASR']").first.is_visible()


@pytest.mark.slow
def test_figures_are_dark_where_the_page_is(visit):
    """A figure's ground shows through, and its words are light: the lightest pixel is a word in the dark."""
    figures = {}
    for scheme in ("light", "dark"):
        page = visit(page_of([run("noise", 0.78), run("pgd", 0.1)]), scheme=scheme)
        image = Image.open(io.BytesIO(page.locator("figure img").first.screenshot())).convert("L")
        figures[scheme] = np.median(np.asarray(image))
    assert figures["dark"] < 60 and figures["light"] > 200


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.slow
def test_no_page_is_wider_than_its_screen(visit, written, width):
    page = visit(written, width=width)
    for toggle in page.locator("[data-toggle]").all()[:3]:
        toggle.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_on_a_phone_a_row_is_a_card_that_names_its_figures(visit, written):
    page = visit(written, width=360)
    cell = page.locator(f"{WIDE} td[data-label='Rank-1']").first
    assert page.evaluate("e => getComputedStyle(e, '::before').content", cell.element_handle()) == '"Rank-1"'
    right = page.eval_on_selector_all(
        f"{WIDE} tbody td", "cells => Math.max(...cells.map(c => c.getBoundingClientRect().right))"
    )
    assert right <= 360
    heading(page, "Rank-1").click()
    assert shown(page)[0] == "pgd"


@pytest.mark.slow
def test_print_shows_every_row_with_its_command_and_no_control(visit, written):
    # As wide as what the margins leave of A4 on its side.
    page = visit(written, width=1032)
    page.get_by_label("Search").fill("odfa")
    assert len(shown(page, "#results")) == 1
    page.emulate_media(media="print")
    assert len(shown(page, "#results")) == 9
    assert page.locator("#results pre:visible").count() == 9
    assert page.locator("[data-filters], nav, .toggle, [data-copy]").locator("visible=true").count() == 0
    right = page.eval_on_selector_all(
        "td, th", "cells => Math.max(...cells.map(cell => cell.getBoundingClientRect().right))"
    )
    assert right <= 1032


@pytest.mark.slow
def test_a_printed_page_is_landscape_and_black_on_white(visit, written):
    page = visit(written, scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    box = re.search(rb"/MediaBox \[([\d. ]+)\]", page.pdf(prefer_css_page_size=True))[1].split()
    assert float(box[2]) > float(box[3])


@pytest.mark.slow
def test_without_scripts_all_details_are_open(browser, tmp_path, written):
    path = tmp_path / "page.html"
    path.write_text(written)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("#results pre").first.is_visible()
    assert not page.locator("[data-filters]").is_visible()
    context.close()


def test_every_control_has_a_name(visit, written):
    page = visit(written)
    nameless = page.eval_on_selector_all(
        "button, select, input",
        """controls => controls.filter(c => !c.textContent.trim() && !c.getAttribute("aria-label")
        && !(c.labels && c.labels.length)).length""",
    )
    assert nameless == 0
