"""The query explorer of the HTML report: its figures against plain Python, its images. No browser needed."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from markup import text, tree
from page_records import page_text, run, study, with_images, with_queries
from PIL import Image

from vbench.records.files import kept_file
from vbench.records.record import CompressedArray
from vbench.reports.page.queries import TOP, explorer


def worst_by_hand(record):
    """Query -> fall of AP, mean over trials with a match, in plain Python."""
    found = {name: record.per_query[name].unpack().tolist() for name in record.per_query}
    falls = {}
    for query in range(len(found["clean_ap"][0])):
        pairs = [
            found["clean_ap"][t][query] - found["adversarial_ap"][t][query]
            for t in range(len(found["clean_ap"]))
            if found["clean_rank"][t][query] > 0
        ]
        if pairs:
            falls[query] = sum(pairs) / len(pairs)
    return falls


def test_the_worst_queries_are_those_that_fall_the_most(page):
    data = json.loads(next(s for s in page.iter("script") if s.get("id") == "query-data").text)
    assert len(data) == 10
    falls = worst_by_hand(study()[1])
    rows = data[1]["rows"]
    assert len(rows) == TOP and data[1]["queries"] == len(falls)
    assert [row[0] for row in rows] == sorted(falls, key=lambda query: -falls[query])[:TOP]
    for query, before, after, *_ in rows:
        assert before - after == pytest.approx(falls[query], abs=2e-4)


def test_ranks_are_medians_over_the_trials_with_a_match():
    rank = np.array([[1, 0], [1, 0], [2, 3]])
    last = np.array([[5, 0], [9, 0], [1, 3]])
    arrays = {"clean_rank": rank, "adversarial_rank": last}
    arrays |= {
        name: np.where(r > 0, 1 / np.maximum(r, 1), np.nan).astype("<f4")
        for name, r in (("clean_ap", rank), ("adversarial_ap", last))
    }
    record = run()
    record.per_query = {name: CompressedArray.pack(array) for name, array in arrays.items()}
    (found,) = explorer([record]).runs
    fell, kept = found["rows"]
    assert fell == [0, 0.8333, 0.437, 1.0, 5.0, 1, 9, 2, 3]
    assert kept == [1, 0.3333, 0.3333, 3.0, 3.0, 3, 3, 0, 1], "two trials have no match"
    assert (found["lost"], found["gained"], found["fell"]) == (50.0, 25.0, 50.0)


def test_records_without_queries_and_with_broken_ones_are_counted():
    broken, bent = with_queries(run(seed=1)), with_queries(run(seed=2))
    broken.per_query["clean_ap"] = CompressedArray(dtype="<f4", shape=(4, 60), data="!!!")
    bent.per_query["clean_ap"] = CompressedArray.pack(np.zeros((3, 60), "<f4"))
    found = explorer([run(), broken, bent, with_queries(run(seed=3))])
    assert (len(found.runs), found.without, found.broken) == (1, 1, {broken.id, bent.id})
    said = text(tree(page_text([run(), broken, bent, with_queries(run(seed=3))])))
    assert "1 of 4 runs keep no values" in said and "2 of 4 runs hold values" in said
    assert "Worst queries" not in page_text([run()])


def data_of(written):
    return json.loads(next(s for s in tree(written).iter("script") if s.get("id") == "query-data").text)


def test_kept_images_are_shown_on_request_alone(tmp_path):
    records, runs = with_images(tmp_path), tmp_path
    assert "data:image/jpeg" not in page_text(records, runs=runs)
    plain, shown = data_of(page_text(records, runs=runs, images=True))
    assert "images" not in plain
    album = shown["images"]
    assert [one["query"] for one in album["queries"]] == [3, 11]
    assert [right for _, right in album["queries"][0]["before"]] == [1, 0, 0]
    assert [right for _, right in album["queries"][0]["after"]] == [0, 0, 1]
    assert len(album["pictures"]) == 2 + 2 + 3, "the gallery was not attacked"
    assert {picture for picture, _ in album["queries"][1]["after"]} == {4, 5, 6}
    opened = [Image.open(io.BytesIO(base64.b64decode(p.split(",")[1]))) for p in album["pictures"]]
    assert {image.size for image in opened} == {(43, 128)}
    first, second = (np.asarray(opened[album["queries"][0][name]], float) for name in ("clean", "shown"))
    assert np.abs(first + second - 255).mean() < 12, "before and after are not the same picture"


def test_broken_images_are_told_and_their_number_is_bounded(tmp_path, monkeypatch):
    records, runs = with_images(tmp_path), tmp_path
    monkeypatch.setattr("vbench.reports.page.queries.MOST_RUNS", 0)
    assert "The images of 1 more runs are left out" in page_text(records, runs=runs, images=True)
    monkeypatch.undo()
    file = kept_file(runs, records[1].id, "images")
    file.write_bytes(file.read_bytes()[:-9])
    written = page_text(records, runs=runs, images=True)
    assert "data:image/jpeg" not in written and "Before quoting" in written
