"""The HTML report in Chromium: sorting, filtering, opening, exploring.

Every test also fails if the page logs anything or asks for anything but itself (fixture ``visit``).
"""

from __future__ import annotations

import pytest
from page_records import page_text, run, study, with_images
from reading import WIDE, count, heading, order, shown

from vbench.reports.page.queries import explorer

# ------------------------------------------------------------------ sorting

#: A page is opened in a browser anew for each.
pytestmark = pytest.mark.slow


def test_numbers_sort_by_value_both_ways_and_back(visit, written):
    page = visit(written)
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


def test_signs_and_decimals_count(visit):
    # As words -0.4 stands before -1.2, and 0.25 after 0.3.
    after = {"harms": 0.5, "helps": 0.812, "helps less": 0.804, "a bit": 0.79755, "a bit more": 0.797}
    page = visit(page_text([run(name, value) for name, value in after.items()]))
    heading(page, "Rank-1 drop").click()
    assert shown(page) == ["helps", "helps less", "a bit", "a bit more", "harms"]


def test_text_sorts_as_words_and_one_heading_at_a_time(visit, written):
    page = visit(written)
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


def test_controls_follow_their_attack(visit, written):
    page = visit(written)
    for _ in range(2):
        heading(page, "Rank-1").click()
        below = page.eval_on_selector_all(
            f"{WIDE} tr.below", "rows => rows.map(r => r.parentNode.rows[0].textContent)"
        )
        assert len(below) == 1 and "fsam_uap" in below[0]


def test_keys_alone_sort_and_open(visit, written):
    page = visit(written)
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


def test_filters_add_up_and_the_counter_tells(visit, written):
    page = visit(written)
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


def test_search_takes_words_in_any_order_and_sorting_keeps_the_filter(visit, written):
    page = visit(written)
    page.get_by_label("Search").fill("training universal")
    assert shown(page) == ["uap", "fsam_uap (stealthy)"]
    heading(page, "Rank-1").click()
    assert shown(page) == ["fsam_uap (stealthy)", "uap"]
    page.get_by_label("Search").fill("no such row")
    assert count(page) == "0 of 9 rows shown"


def test_the_counter_is_announced(visit, written):
    counter = visit(written).locator("[data-count]")
    assert counter.get_attribute("aria-live") == "polite" and counter.get_attribute("role") == "status"


# ------------------------------------------------------------------ opening and exploring


def test_details_are_closed_until_asked_for(visit, written):
    page = visit(written)
    assert page.locator(".more:visible").count() == 0
    page.locator("tbody", has_text="odfa").locator("[data-toggle]").click()
    (command,) = page.locator("pre:visible").all_text_contents()
    assert command.startswith("vbench run --dataset sysu --root FOLDER")
    assert "fingerprint 00aa11bb22cc33dd" in page.locator(".more:visible").text_content()


def test_the_explorer_shows_the_run_that_is_asked_for(visit, written):
    page = visit(written)
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


def test_the_explorer_sorts_and_starts_anew_with_each_run(visit, written):
    page = visit(written)

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


def test_figures_load_and_say_what_they_show(visit, written):
    page = visit(written)
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
