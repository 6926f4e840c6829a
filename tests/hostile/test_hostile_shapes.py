"""Records that are JSON, and a record, and still not what readers rely on: skipped and named, never fatal."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from payloads import HTML, TERMINAL, as_json, places, put, store
from strangers import runs

from vbench.core.errors import VbenchError
from vbench.records.record import CompressedArray, Record
from vbench.records.store import LARGEST, RunStore, to_archive
from vbench.reports.compare import comparison
from vbench.reports.frame import frame
from vbench.reports.page import page_of
from vbench.reports.select import select
from vbench.reports.tables import report, report_of
from vbench.reports.transfer import transfer_matrices
from vbench.reports.verify import verify

BATTERY = 2
RECORDS = [as_json(record) for record in runs()]
GOOD = runs()[0]
PLENTY = settings(derandomize=True, deadline=None, database=None)

#: Where something else is put, what, and the words by which the refusal tells it.
DAMAGES = {
    "config empty": (("config",), {}, "config.victim"),
    "victim a word": (("config", "victim"), "x", "config.victim"),
    "victim without weights": (("config", "victim"), {"name": "agw"}, "config.victim.weights"),
    "name a number": (("config", "victim", "name"), 7, "config.victim.name"),
    "options a list": (("config", "victim", "options"), [1], "config.victim.options"),
    "size of words": (("config", "victim", "options", "input_size"), ["a", "b"], "input_size"),
    "attack null": (("config", "attack"), None, "config.attack"),
    "settings a list": (("config", "attack", "settings"), [], "config.attack.settings"),
    "dataset a number": (("config", "dataset"), 1e308, "config.dataset"),
    "threat a list": (("config", "threat"), [], "config.threat"),
    "norm unknown": (("config", "threat", "norm"), HTML, "config.threat.norm"),
    "side unknown": (("config", "threat", "side"), "left", "config.threat.side"),
    "eps no number": (("config", "threat", "eps"), "nan", "config.threat.eps"),
    "eps without end": (("config", "threat", "eps"), "1e999999999", "config.threat.eps"),
    "eps over zero": (("config", "threat", "eps"), "1/0", "config.threat.eps"),
    "eps infinite": (("config", "threat", "eps_value"), float("inf"), "config.threat.eps_value"),
    "seed a word": (("config", "seed"), "0", "config.seed"),
    "seed huge": (("config", "seed"), 10**400, "config.seed"),
    "surrogate a word": (("config", "surrogate"), "agw", "config.surrogate"),
    "id a path": (("id",), "../../../x", "id: "),
    "id hidden": (("id",), ".x", "id: "),
    "no trial": (("clean",), [], "clean"),
    "one side without trials": (("adversarial",), [], "adversarial"),
    "infinite share": (("clean", 0, "r1"), float("inf"), "clean.0.r1"),
    "share no number": (("adversarial", 1, "map"), float("nan"), "adversarial.1.map"),
    "share of 10^308": (("adversarial", 0, "r10"), 1e308, "adversarial.0.r10"),
    "queries below none": (("clean", 0, "queries"), -1, "clean.0.queries"),
    "queries huge": (("clean", 0, "queries"), 10**300, "clean.0.queries"),
    "cost infinite": (("cost", "attack_seconds"), float("-inf"), "cost.attack_seconds"),
    "size no number": (("size", "l2"), float("nan"), "size.l2"),
    "interval infinite": (("drop_interval", "r1"), [0.0, float("inf")], "drop_interval.r1"),
    "success of 10^300": (("asr",), 1e300, "asr"),
    "member without trials": (("members", 0, "trials"), [], "members.0"),
    "member wins too much": (("members", 0, "won"), 9.0, "members.0.won"),
    "array of 10^18": (("per_query", "clean_rank", "shape"), [10**9, 10**9], "per_query"),
    "array of another shape": (("per_query", "clean_rank", "shape"), [120], "per_query"),
    "ranks with decimals": (("per_query", "clean_rank", "dtype"), "<f4", "per_query.clean_rank"),
}


def test_every_damage_is_skipped_and_named(vbench, tmp_path):
    folder = store(tmp_path, RECORDS)
    for name, (at, value, _) in DAMAGES.items():
        record = copy.deepcopy(RECORDS[BATTERY])
        put(record, at, value)
        (folder / f"{name.replace(' ', '_').replace('^', '')}-0.json").write_text(json.dumps(record))
    for style in ("json", "markdown"):
        done = vbench("report", "--runs", folder, "--format", style)
        lines = [line for line in done.stderr.splitlines() if line.startswith("skipped ")]
        assert len(lines) == len(DAMAGES)
        for name, (*_, words) in DAMAGES.items():
            (line,) = [one for one in lines if f"/{name.replace(' ', '_').replace('^', '')}-0.json: " in one]
            assert words in line.partition(".json: ")[2] and len(line) < 600
        if style == "json":
            assert {row["id"] for row in json.loads(done.stdout)} == {record["id"] for record in RECORDS}


@pytest.mark.parametrize("style", ["markdown", "html"])
def test_a_strange_word_anywhere_costs_one_record_at_most(vbench, tmp_path, style):
    """Every string of a record by itself, each in a record of its own."""
    known = store(tmp_path / "runs", RECORDS)
    free = list(places(RECORDS[BATTERY]))
    bound = [("id",), ("config", "threat", "eps"), ("config", "threat", "side")]
    for number, at in enumerate([*free, *bound]):
        record = copy.deepcopy(RECORDS[BATTERY])
        record["config"]["seed"] = number
        put(record, at, TERMINAL)
        (known / f"strange-{number}.json").write_text(json.dumps(record))
    out = tmp_path / "out"
    done = vbench("report", "--runs", known, "--format", style, "--no-figures", "--out", out)
    assert len(free) > 30 and out.stat().st_size > 1000
    assert done.stderr.count("skipped ") == len(bound)


def test_what_is_no_file_is_not_waited_for(vbench, tmp_path):
    folder = store(tmp_path, RECORDS[:1])
    os.mkfifo(folder / "pipe-0.json")
    (folder / "zeros-0.json").symlink_to("/dev/zero")
    (folder / "loop-0.json").symlink_to("loop-0.json")
    with (folder / "large-0.json").open("wb") as file:
        file.truncate(LARGEST + 1)
    (folder / ".agw-pgd-0.json.k1ll3d").write_text("{")
    done = vbench("report", "--runs", folder)
    lines = [line for line in done.stderr.splitlines() if line.startswith("skipped ")]
    assert sorted(line.split()[1].rpartition("/")[2] for line in lines) == [
        "large-0.json:",
        "loop-0.json:",
        "pipe-0.json:",
        "zeros-0.json:",
    ]


def readers(records: list[Record]) -> None:
    """Everything that is made of records, figures aside."""
    for style in ("markdown", "latex", "plain", "csv", "json"):
        report_of(records, style)
        report(records, style)
    report_of(records, "plain", group="victim")
    page_of(records, figures=False)
    comparison(records)
    report(records, "html")
    transfer_matrices(records)
    to_archive(records)
    for record in records:
        verify(record)
    # What was asked for may not be there; that is one line.
    for asked in (
        lambda: report_of(records, "plain", versus="uap"),
        lambda: select(records, "eps=8/255 victim=agw seed=0 universal=yes"),
        lambda: frame(records, "query"),
    ):
        try:
            asked()
        except VbenchError as refused:
            assert "\n" not in str(refused)


_STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["1/0", "8", "linf", "both", "feature", HTML, TERMINAL, "a" * 3000]),
    st.recursive(st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner)),
)


def inside(value: object) -> list:
    """Every list and mapping of a record."""
    found = [value] if isinstance(value, (dict, list)) and value else []
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return found + [one for part in parts for one in inside(part)]


def parsed(folder: Path, record: object) -> list[Record]:
    (folder / "r-0.json").write_text(json.dumps(record))
    return RunStore(folder).read_all().records


@settings(PLENTY, max_examples=150)
@given(data=st.data())
def test_a_record_that_is_read_can_be_reported(tmp_path_factory, data):
    """Mutated records: whatever the store lets through, nobody stumbles over."""
    record = copy.deepcopy(data.draw(st.sampled_from(RECORDS)))
    # Two levels deep the interesting parts are: few of the hundred numbers of trials.
    for _ in range(data.draw(st.integers(1, 2))):
        part = data.draw(st.sampled_from([one for one in inside(record) if "r5" not in one]))
        key = data.draw(st.sampled_from(list(part) if isinstance(part, dict) else list(range(len(part)))))
        if data.draw(st.booleans()):
            part[key] = data.draw(_STRANGE)
        else:
            part.pop(key)
    for found in parsed(tmp_path_factory.getbasetemp(), record):
        readers([GOOD, found])


@settings(PLENTY, max_examples=50)
@given(st.recursive(_STRANGE, lambda inner: st.dictionaries(st.sampled_from(list(RECORDS[0])), inner)))
def test_any_json_is_a_record_or_is_named(tmp_path_factory, value):
    folder = tmp_path_factory.getbasetemp()
    (folder / "r-0.json").write_text(json.dumps(value))
    contents = RunStore(folder).read_all()
    assert len(contents.records) + len(contents.broken) == 1


@settings(PLENTY, max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes_are_named(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    (folder / "r-0.json").write_bytes(content)
    (_, reason), *_ = RunStore(folder).read_all().broken
    assert reason


@settings(PLENTY, max_examples=100)
@given(
    st.lists(st.integers(-(2**70), 2**70), max_size=3),
    st.sampled_from(["<i4", "<f4"]),
    st.text(max_size=20)
    | st.sampled_from([CompressedArray.pack([[1, 2]]).data, CompressedArray.pack([0.5] * 99).data]),
)
def test_an_array_is_what_it_says_or_refused(shape, dtype, content):
    packed = CompressedArray(dtype=dtype, shape=tuple(shape), data=content)
    try:
        assert packed.unpack().shape == tuple(shape)
    except VbenchError as refused:
        assert "broken" in str(refused)
