"""Whatever records hold is text on the page, and the page runs and loads nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import json
import re

from hostile import HOSTILE, IMAGE, hostile_study
from markup import text, tree
from page_records import page_text

from vbench.reports.page.document import embed_json


def test_hostile_text_stays_text():
    page = tree(page_text(hostile_study(), broken=[HOSTILE], figures=True))
    assert [script.get("type") for script in page.iter("script")] == ["application/json", None]
    assert {image.get("src").split(",")[0] for image in page.iter("img")} == {"data:image/svg+xml;base64"}
    assert not list(page.iter("textarea")) and not list(page.iter("svg"))
    assert len(list(page.iter("style"))) == 1
    for element in page.iter():
        assert not [name for name in element.attrib if name.startswith("on")]
    assert text(page).count(IMAGE) > 20


def test_data_cannot_end_its_element():
    found = str(embed_json({"a": "</script><!--<script>", "b": "\u2028&"}))
    assert not set("<>&\u2028") & set(found)
    assert json.loads(found) == {"a": "</script><!--<script>", "b": "\u2028&"}


def test_only_the_style_and_the_script_of_the_page_may_run(page, written):
    metas = {meta.get("http-equiv"): meta.get("content") for meta in page.iter("meta")}
    policy = metas["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for kind, pattern in (("style", r"<style>(.*?)</style>"), ("script", r"<script>(.*?)</script>")):
        (source,) = re.findall(pattern, written, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not [element for element in page.iter() if "style" in element.attrib]


def test_nothing_points_outside_the_file(page, written):
    for element in page.iter():
        for name in ("href", "src", "srcset", "action"):
            if name in element.attrib:
                assert element.get(name).startswith(("#", "data:")), element.attrib
    assert not re.search(r"url\(|@import", written)
    ids = [element.get("id") for element in page.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    targets = {element.get("href")[1:] for element in page.iter("a")}
    assert targets <= set(ids)
