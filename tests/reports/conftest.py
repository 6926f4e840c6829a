"""A browser for tests of pages: one a session, and pages that tell what they did."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from handed_in import FEATURE, Workshop
from markup import tree
from page_records import study

from vbench.reports.page import page_of

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def written() -> str:
    """The page of the study, figures and all."""
    return page_of(study())


@pytest.fixture(scope="session")
def page(written):
    """Its elements."""
    return tree(written)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="session")
def honest(workshop: Workshop) -> dict[str, Any]:
    """One ordinary record, with a drop that is not nothing; to be changed in a copy alone."""
    return workshop.run("metric_ifgsm[steps=3]")


@pytest.fixture(scope="session")
def battery_record(workshop: Workshop) -> dict[str, Any]:
    return workshop.battery()


@pytest.fixture(scope="session")
def tampering_record(workshop: Workshop) -> dict[str, Any]:
    """The record of an attack that changes features, with its controls."""
    return workshop.run(FEATURE)


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium; tests that need one are skipped where none is installed."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra 'dev'")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("needs Chromium: install the package 'chromium', or name its program in CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        # Inside a container the sandbox lacks what it needs; the pages come from the tests.
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@dataclass
class Opened:
    """A page in the browser, what it complained of, and every address it asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def visit(browser, tmp_path):
    """Open a page given as text, from disk; afterwards it must not have complained nor left its file."""
    visited = []

    def open_one(text: str, width: int = 1280, scheme: str = "light", **context) -> Any:
        path = Path(tmp_path / f"page-{len(visited)}.html")
        path.write_text(text, encoding="utf-8")
        size = {"width": width, "height": 800}
        page = browser.new_page(viewport=size, color_scheme=scheme, **context)
        opened = Opened(page)
        page.on("console", lambda message: opened.complaints.append(message.text))
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (opened.complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: opened.requests.append(request.url))
        page.goto(path.as_uri())
        visited.append((path.as_uri(), opened))
        return page

    yield open_one
    for address, opened in visited:
        opened.page.close()
        assert opened.complaints == []
        outside = [url for url in opened.requests if url.split("#")[0] != address]
        assert [url[:60] for url in outside if not url.startswith("data:image/")] == []
