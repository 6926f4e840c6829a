"""The site in a browser: it sorts, filters, stays on disk, fits a phone and complains of nothing."""

from __future__ import annotations

import pytest
from handed_in import UAP, relabelled, write
from test_leaderboard_site import EVIL, foreign
from test_page_looks_in_browser import CONTRASTS

from vbench.reports.leaderboard import leaderboard


@pytest.fixture(scope="module")
def site(tmp_path_factory, honest, workshop):
    folder = tmp_path_factory.mktemp("browsed")
    # Consistent in itself and made up: the figures of another model under the configuration of this one.
    other = relabelled(workshop.run("metric_ifgsm[steps=3]", victim="other"), **honest["config"])
    records = [
        honest,
        other,
        relabelled(other, seed=4),
        workshop.run(UAP),
        workshop.run("noise"),
        workshop.run("square[queries=3]"),
        workshop.run("noise", victim="tiny"),
        foreign(honest),
    ]
    for index, record in enumerate(records):
        write(folder / f"person{index}", record)
    (folder / "person0" / "bad.json").write_text("{}")
    leaderboard([folder / f"person{index}" for index in range(len(records))], folder / "site")
    return folder / "site"


@pytest.fixture
def surf(browser, site):
    """Open pages of the site; afterwards none may have complained or asked for anything off the site."""
    complaints, requests, opened = [], [], []

    def go(name: str, width: int = 1280, scheme: str = "light"):
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        opened.append(page)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: requests.append(request.url))
        (path,) = site.glob(name)
        page.goto(path.as_uri())
        return page

    yield go
    for page in opened:
        page.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(site.as_uri() + "/")] == []


def column(page, section: str, title: str) -> list[str]:
    """Texts of a column of the rows that are shown."""
    return page.evaluate(
        """([section, title]) => {
          const table = document.querySelector(`#${section} table`);
          const cells = [...table.tHead.rows[0].cells];
          const heads = cells.map(cell => cell.innerText.trim().replace(/\\W+$/, ""));
          const at = heads.indexOf(title);
          return [...table.tBodies].filter(body => body.offsetParent !== null)
            .map(body => body.rows[0].cells[at].innerText.trim().split("\\n")[0]);
        }""",
        [section, title],
    )


@pytest.mark.slow
def test_every_page_opens_without_a_word(surf, site):
    names = sorted(path.name for path in site.glob("*.html"))
    assert len(names) > 10
    for name in names:
        surf(name)


@pytest.mark.slow
def test_headings_sort(surf):
    page = surf("board-*.html")
    drops = [float(text) for text in column(page, "attacks", "Rank-1 drop")]
    assert len(drops) == 5 and drops != sorted(drops)
    heading = page.locator("#attacks thead button", has_text="Rank-1 drop")
    heading.click()
    assert [float(text) for text in column(page, "attacks", "Rank-1 drop")] == sorted(drops)
    heading.click()
    assert [float(text) for text in column(page, "attacks", "Rank-1 drop")] == sorted(drops, reverse=True)
    heading.click()
    assert [float(text) for text in column(page, "attacks", "Rank-1 drop")] == drops


@pytest.mark.slow
def test_a_search_filters_all_tables_and_says_how_many_are_left(surf):
    page = surf("board-*.html")
    page.locator("[data-search]").fill("noise")
    (shown,) = column(page, "attacks", "Attack")
    assert shown.startswith("noise")
    assert page.locator("[data-count]").inner_text().split(" of ")[0] in ("2", "3", "4")
    page.locator("[data-reset]").click()
    assert len(column(page, "attacks", "Attack")) == 5


@pytest.mark.slow
def test_runs_filter_by_choices(surf):
    page = surf("runs-*.html")
    total = len(column(page, "runs", "Attack"))
    assert total == 8
    page.locator("[data-facet=knowledge]").select_option(label="universal, training")
    assert column(page, "runs", "Attack") == ["uap[evaluations=64,batch=16]"]
    page.locator("[data-reset]").click()
    page.locator("[data-facet=victim]").select_option(label="tiny")
    assert column(page, "runs", "Attack") == ["noise"]


@pytest.mark.slow
def test_what_differs_carries_its_badge(surf):
    page = surf("runs-*.html")
    assert page.locator(".badge", has_text="results differ").count() == 2
    assert page.locator(".badge", has_text="clean in doubt").count() >= 3
    refused = surf("refused.html")
    body = refused.locator("main").inner_text()
    assert "person0/bad.json" in body and "clean results of agw" in body and "person1/" in body


@pytest.mark.slow
def test_links_are_walked(surf, site):
    page = surf("index.html")
    page.locator("#synthetic tbody a").first.click()
    assert "/board-" in page.url
    page.locator("#victims tbody a").first.click()
    assert "/victim-" in page.url
    page.get_by_role("link", name="vbench leaderboard").click()
    assert page.url == (site / "index.html").as_uri()
    page.locator(".card a", has_text="uap").click()
    assert page.url.endswith("/attack-uap.html")


def test_names_of_strangers_are_shown_and_never_run(surf):
    page = surf("runs-*.html")
    assert page.locator("#runs", has_text=EVIL[:30]).count() == 1
    assert page.locator("main img").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_page_fits_and_can_be_read(surf, scheme):
    page = surf("index.html", scheme=scheme)
    box = page.locator("#ranked table").bounding_box()
    assert box["y"] + 80 < 800 and box["x"] + box["width"] <= 1280
    assert [what for ratio, what in page.evaluate(CONTRASTS) if ratio < 4.5] == []


@pytest.mark.parametrize(
    "name", ["index.html", "board-*.html", "runs-*.html", "victim-agw.html", "refused.html"]
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.slow
def test_a_phone_does_not_scroll_sideways(surf, name, scheme):
    page = surf(name, width=360, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
