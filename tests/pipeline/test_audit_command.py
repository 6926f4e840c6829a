"""``vbench audit`` as a user meets it: exit codes, formats, and records left alone."""

from __future__ import annotations

import json

import pytest

from vbench.audit.record import Audit
from vbench.records.store import RunStore
from vbench.victims.checkpoint import read_checkpoint, write_checkpoint

MASKED = """
from vbench.victims.agw import AGW

class Masked(AGW):
    name, summary = "masked", "an AGW that hides its gradient"

    def forward(self, images, modality, edits=None):
        return super().forward(images.detach(), modality, edits)
"""


@pytest.mark.slow
def test_a_trained_victim_holds_and_is_stored_beside_the_records(small, vbench, tmp_path):
    runs = tmp_path / "runs"
    vbench("run", *small.arguments(runs), "--attack", "noise")
    done = vbench("audit", *small.arguments(runs), "--queries", 24, "--format", "json")
    printed = json.loads(done.stdout)
    assert printed["queries"] == 24 and printed["queries_in_protocol"] == len(small.bench.dataset.query)
    assert {check["verdict"] for check in printed["checks"]} <= {"pass", "warn"}
    (path,) = (runs / "audits").glob("agw-*.json")
    assert Audit.model_validate_json(path.read_text()) == Audit.model_validate(printed)
    contents = RunStore(runs).read_all()
    assert len(contents.records) == 1 and not contents.broken


@pytest.mark.slow
def test_a_masked_victim_exits_with_1_and_says_what_to_do(small, vbench, tmp_path):
    (tmp_path / "mine.py").write_text(MASKED)
    arguments = small.arguments(tmp_path / "runs")
    arguments[arguments.index("agw")] = f"{tmp_path / 'mine.py'}:Masked"
    found = read_checkpoint(small.weights)
    weights = tmp_path / "masked.safetensors"
    write_checkpoint(weights, found.state, {**found.metadata, "victim": "masked"})
    arguments[arguments.index(str(small.weights))] = str(weights)
    out = vbench(
        "audit", *arguments, "--queries", 24, "--eps", "4/255", "--format", "markdown", expect=1
    ).stdout
    assert "| gradient " in out and "| fail " in out
    assert "- fail gradient: find the quantised" in out
    assert out.strip().splitlines()[-1].startswith("masked: the evaluation does not hold")
    assert len(list((tmp_path / "runs" / "audits").glob("masked-*.json"))) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--victim", "awg"], "did you mean 'agw'"),
        (["--format", "docx"], "unknown format 'docx'"),
        (["--eps", "8"], "did you mean 8/255?"),
        (["--queries", "0"], "at least 1"),
        (["--queries", "5"], "are too few for a significant result"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(small, vbench, tmp_path, arguments, message):
    done = vbench("audit", *small.arguments(tmp_path), *arguments, expect=2)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
