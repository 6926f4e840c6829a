"""docs/library.md: its examples run, and its tables of columns and fields are whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from quick import SIZE, Quick

from vbench.defaults import SyntheticSet
from vbench.library.result import Result
from vbench.record import Record

PAGE = (Path(__file__).parents[2] / "docs" / "library.md").read_text()
BLOCKS = re.findall(r"(?:<!-- ([\w. ]+) -->\n)?```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The names that the page's examples leave behind, run in order; small data, nothing trained."""
    folder = tmp_path_factory.mktemp("page")
    names: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VBENCH_CACHE", str(folder / "cache"))
        patched.chdir(folder)
        patched.setattr(SyntheticSet.__init__, "__defaults__", ("sysu", 6, 6, 0, SIZE))
        patched.setattr("vbench.prepare.thin_weights", _untrained)
        patched.setattr("vbench.runner.clean_gate", lambda bench: None)
        for mark, code in BLOCKS:
            if mark == "not run":
                continue
            if mark == "archive.jsonl":
                _archive(Path("runs"), Path(mark))
            exec(compile(code, "library.md", "exec"), names)
    return names


def _untrained(spec, dataset, cache, size, quiet):
    return Quick(dataset.root, dataset.name, cache).weights(spec.name)


def _archive(runs: Path, to: Path) -> None:
    from vbench.store import to_archive

    to.write_text(to_archive(Result.read(runs).records))


def test_every_example_runs(ran):
    assert len(BLOCKS) == 8
    assert len(ran["found"]) == 2 and len(ran["mine"]) == 3
    assert ran["mine"].records[0].size["linf_levels"] == pytest.approx(4, abs=1e-4)


def test_ranks_unpacked_by_three_lines_are_the_records_own(ran):
    record = ran["found"].records[0]
    assert ran["one"]["id"] == record.id
    hits = (ran["ranks"] == 1).sum(axis=1) / (ran["ranks"] > 0).sum(axis=1)
    assert hits.to_dict() == pytest.approx({trial.trial: trial.r1 for trial in record.adversarial})
    assert ran["after"]["map"].tolist() == pytest.approx([trial.map for trial in record.adversarial])


def test_an_archive_in_plain_pandas_has_the_records_figures(ran):
    rows, flat = ran["rows"], ran["flat"]
    for record in ran["found"]:
        own = rows[rows["id"] == record.id]
        assert own["map"].mean() == pytest.approx(record.mean("adversarial", "map"))
        (line,) = flat[flat["id"] == record.id].to_dict("records")
        assert line["label"] == record.label and line["config.threat.eps"] == "8/255"


def test_every_column_is_explained(ran):
    metrics = r"(r1|r5|r10|r20|map|minp)(_before|_after|_drop|_drop_relative|_before_sd|_after_sd)"
    frames = [ran["found"].to_frame(per) for per in ("run", "trial", "query")]
    columns = {column for frame in frames for column in frame.columns}
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    named = set(re.findall(r"`([^`]+)`", prose))
    assert {one for one in columns if not re.fullmatch(metrics, one)} - named == set()


def test_every_field_of_a_record_is_named_in_order():
    text = PAGE.split("Fields, in the order of the file:")[1]
    named = [name for name in re.findall(r"`(\w+)`", text) if name in Record.model_fields]
    assert named == list(Record.model_fields)
