"""The HTML report in Chromium: sorting, filtering, opening, exploring; colours, sizes, print; no way out.

Every test also fails if the page logs anything or asks for anything but itself (fixture ``visit``).
"""

from __future__ import annotations

import re

import pytest
from page_records import run, study, with_images
from test_page import hostile, page_text

from vbench.reports.page.queries import explorer
from vbench.reports.page.report import page_of


@pytest.fixture(scope="module")
def text():
    return page_of(study())


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


# ------------------------------------------------------------------ sorting


def test_numbers_sort_by_value_both_ways_and_back(visit, text):
    page = visit(text)
    before = shown(page)
    heading(page, "Rank-1").click()
    assert order(page, "Rank-1") == "ascending"
    after = [float(cell.split("→ ")[1].removesuffix(" (bold)")) for cell in shown(page, column=3)]
    # As text 9.0 would stand after 78.0.
    assert after == sorted(after) and after[0] == 9.0 and len(after) == 6
    heading(page, "Rank-1").click()
    assert order(page, "Rank-1") == "descending"
    assert shown(page)[0] == "noise"
    heading(page, "Rank-1").click()
    assert order(page, "Rank-1") == "none" and shown(page) == before


def test_text_sorts_as_words_and_one_heading_at_a_time(visit, text):
    page = visit(text)
    heading(page, "Rank-1").click()
    heading(page, "attack").click()
    assert order(page, "Rank-1") == "none" and order(page, "attack") == "ascending"
    names = shown(page)
    assert names == sorted(names, key=str.lower) and names[0].startswith("fsam_uap")


def test_what_has_no_value_stays_last(visit):
    without = run("silent", 0.5)
    without.asr = None
    page = visit(page_text([without, run("weak", 0.7, asr=0.1), run("strong", 0.1, asr=0.9)]))
    for expected in (["weak", "strong", "silent"], ["strong", "weak", "silent"]):
        heading(page, "ASR").click()
        assert shown(page) == expected


def test_controls_follow_their_attack(visit, text):
    page = visit(text)
    for _ in range(2):
        heading(page, "Rank-1").click()
        below = page.eval_on_selector_all(
            f"{WIDE} tr.below", "rows => rows.map(r => r.parentNode.rows[0].textContent)"
        )
        assert len(below) == 1 and "fsam_uap" in below[0]


def test_keys_alone_sort_and_open(visit, text):
    page = visit(text)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    heading(page, "Rank-1").focus()
    page.keyboard.press("Enter")
    assert order(page, "Rank-1") == "ascending"
    page.keyboard.press("Space")
    assert order(page, "Rank-1") == "descending"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none", "where the keyboard is must be seen"
    toggle = page.locator(f"{WIDE} [data-toggle]").first
    toggle.focus()
    page.keyboard.press("Enter")
    assert toggle.get_attribute("aria-expanded") == "true"
    assert page.locator(f"{WIDE} .more pre").first.is_visible()


# ------------------------------------------------------------------ filtering


def count(page):
    return page.locator("[data-count]").text_content()


def test_filters_add_up_and_the_counter_tells(visit, text):
    page = visit(text)
    assert count(page) == "9 of 9 rows shown"
    page.get_by_label("Attack", exact=True).select_option("=pgd")
    assert count(page) == "4 of 9 rows shown"
    page.get_by_label("Data", exact=True).select_option("=synthetic")
    assert count(page) == "3 of 9 rows shown"
    page.get_by_label("Search").fill("DDAG")
    assert count(page) == "1 of 9 rows shown"
    assert shown(page) == ["pgd"] and shown(page, "#table-2") == []
    assert page.locator("#table-2 [data-none]").is_visible()
    page.get_by_role("button", name="Reset").click()
    assert count(page) == "9 of 9 rows shown" and len(shown(page)) == 6
    assert not page.locator("#table-2 [data-none]").is_visible()


def test_search_takes_words_in_any_order_and_sorting_keeps_the_filter(visit, text):
    page = visit(text)
    page.get_by_label("Search").fill("training universal")
    assert shown(page) == ["uap", "fsam_uap (stealthy)"]
    heading(page, "Rank-1").click()
    assert shown(page) == ["fsam_uap (stealthy)", "uap"]
    page.get_by_label("Search").fill("no such row")
    assert count(page) == "0 of 9 rows shown"


def test_the_counter_is_announced(visit, text):
    counter = visit(text).locator("[data-count]")
    assert counter.get_attribute("aria-live") == "polite" and counter.get_attribute("role") == "status"


# ------------------------------------------------------------------ opening and exploring


def test_details_are_closed_until_asked_for(visit, text):
    page = visit(text)
    assert page.locator(".more:visible").count() == 0
    page.locator("tbody", has_text="odfa").locator("[data-toggle]").click()
    (command,) = page.locator("pre:visible").all_text_contents()
    assert command.startswith("vbench run --dataset sysu --root FOLDER")
    assert "fingerprint 00aa11bb22cc33dd" in page.locator(".more:visible").text_content()


def test_the_explorer_shows_the_run_that_is_asked_for(visit, text):
    page = visit(text)
    harmful = max(explorer(study()).runs, key=lambda one: one["lost"])["name"]
    title = page.locator("#explored-title")
    order = page.locator("[data-run] option").all_text_contents()
    assert title.text_content().startswith(harmful), "the run that loses the most Rank-1 comes first"
    rows = page.locator("[data-explored] tbody")
    assert rows.count() == 20
    page.locator("[data-run]").select_option(label="noise on agw, seed 0")
    page.get_by_role("button", name="Next run").click()
    assert title.text_content().startswith("pgd on agw, seed 0")
    for _ in range(2):
        page.get_by_role("button", name="Previous run").click()
    assert title.text_content().startswith(order[-1]), "before the first comes the last"
    page.locator("[data-run]").select_option(label="uap on agw, seed 1")
    assert title.text_content().startswith("uap on agw, seed 1")
    row = page.locator(f"{WIDE} tbody", has_text="fsam_uap")
    row.locator("[data-toggle]").click()
    row.locator("[data-query-run]").click()
    assert title.text_content().startswith("fsam_uap on agw")
    assert page.evaluate("location.hash") == "#queries"


def test_the_explorer_sorts_and_starts_anew_with_each_run(visit, text):
    page = visit(text)

    def column(index):
        cells = f"[data-explored] tbody td:nth-child({index + 1})"
        return [float(cell) for cell in page.locator(cells).all_text_contents()]

    falls = column(1)
    assert falls == sorted(falls, reverse=True), "the worst come first"
    heading(page, "query", "[data-explored]").click()
    assert column(0) == sorted(column(0))
    page.get_by_role("button", name="Next run").click()
    assert order(page, "query", "[data-explored]") == "none"
    assert column(1) == sorted(column(1), reverse=True)


def test_figures_load_and_say_what_they_show(visit, text):
    page = visit(text)
    loaded = page.eval_on_selector_all(
        "figure img", "images => images.map(i => i.complete && i.naturalWidth > 100)"
    )
    assert loaded and all(loaded)
    page.locator("figure summary").first.click()
    assert "clean Rank-1 80.0" in page.locator("figure details").first.text_content()


def test_kept_images_have_signs_beside_their_colours(visit, tmp_path):
    records, runs = with_images(tmp_path), tmp_path
    page = visit(page_text(records, runs=runs, images=True))
    page.locator("[data-run]").select_option(label="noise on agw, seed 0")
    assert not page.locator("[data-images]").is_visible()
    page.locator("[data-run]").select_option(label="pgd on agw, seed 0")
    rows = page.locator("[data-kept] .row")
    assert rows.count() == 4
    alts = rows.nth(1).locator("img").evaluate_all("images => images.map(i => i.alt)")
    assert alts[0] == "query, as the victim saw it"
    assert alts[1:] == ["rank 1: wrong person", "rank 2: wrong person", "rank 3: right person"]
    assert "✗ wrong" in rows.nth(1).text_content() and "✓ right" in rows.nth(1).text_content()
    frames = rows.nth(1).locator(".frame").evaluate_all("f => f.map(e => getComputedStyle(e).borderTopStyle)")
    assert frames[1:] == ["dashed", "dashed", "solid"]
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


# ------------------------------------------------------------------ strangers


def test_hostile_records_run_nothing(visit):
    made = [hostile(record) for record in study()]
    for number, record in enumerate(made[1:]):
        record.id, record.config["threat"]["eps"] = f"id{number}", "8/255"
    page = visit(page_of(made, broken=["<img src=x onerror=alert(1)>"]))
    assert page.locator("figure").count() > 0
    page.locator("[data-toggle]").first.click()
    page.get_by_label("Search").fill("alert")
    page.locator("[data-run]").dispatch_event("change")
    assert page.locator("[data-explored] tbody").count() == 20
    assert page.locator("img:not([src^='data:image/svg+xml;base64,']), iframe, object, svg").count() == 0
    assert page.evaluate("document.scripts.length") == 2


def test_a_script_that_escaping_missed_would_not_run(browser, tmp_path, text):
    path = tmp_path / "page.html"
    path.write_text(text.replace("<main", "<script>window.ran = 1</script><main"))
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
def test_text_can_be_read_in_both_schemes(visit, text, scheme):
    page = visit(text, scheme=scheme)
    page.locator("[data-toggle]").nth(1).click()
    found = page.evaluate(CONTRASTS)
    assert len(found) > 200
    assert [(round(ratio, 2), what) for ratio, what in found if ratio < 4.5] == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == (scheme == "dark")


@pytest.mark.parametrize("width", [360, 768])
def test_no_page_is_wider_than_its_screen(visit, text, width):
    page = visit(text, width=width)
    for toggle in page.locator("[data-toggle]").all()[:3]:
        toggle.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_a_phone_a_row_is_a_card_that_names_its_figures(visit, text):
    page = visit(text, width=360)
    cell = page.locator(f"{WIDE} td[data-label='Rank-1']").first
    assert page.evaluate("e => getComputedStyle(e, '::before').content", cell.element_handle()) == '"Rank-1"'
    right = page.eval_on_selector_all(
        f"{WIDE} tbody td", "cells => Math.max(...cells.map(c => c.getBoundingClientRect().right))"
    )
    assert right <= 360
    heading(page, "Rank-1").click()
    assert shown(page)[0] == "pgd"


def test_print_shows_every_row_with_its_command_and_no_control(visit, text):
    # As wide as what the margins leave of A4 on its side.
    page = visit(text, width=1032)
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


def test_a_printed_page_is_landscape_and_black_on_white(visit, text):
    page = visit(text, scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    box = re.search(rb"/MediaBox \[([\d. ]+)\]", page.pdf(prefer_css_page_size=True))[1].split()
    assert float(box[2]) > float(box[3])


def test_without_scripts_all_details_are_open(browser, tmp_path, text):
    path = tmp_path / "page.html"
    path.write_text(text)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("#results pre").first.is_visible()
    assert not page.locator("[data-filters]").is_visible()
    context.close()


def test_every_control_has_a_name(visit, text):
    page = visit(text)
    nameless = page.eval_on_selector_all(
        "button, select, input",
        """controls => controls.filter(c => !c.textContent.trim() && !c.getAttribute("aria-label")
        && !(c.labels && c.labels.length)).length""",
    )
    assert nameless == 0
