"""The workflow of this repository, and the one for others, run what exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from gate.gate_mutations import MUTATIONS
from typer.main import get_command

from vbench.cli import app

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "gate.yml"
(SNIPPET,) = re.findall(r"```yaml\n(on: .*?)```", (ROOT / "docs" / "gate.md").read_text(), re.DOTALL)


def steps(text: str) -> list[dict]:
    (job,) = yaml.safe_load(text)["jobs"].values()
    return job["steps"]


def checks(text: str) -> list[list[str]]:
    lines = [shlex.split(step["run"]) for step in steps(text) if "vbench check" in step.get("run", "")]
    assert lines
    return lines


@pytest.mark.parametrize("text", [WORKFLOW.read_text(), SNIPPET], ids=["own", "page"])
def test_its_check_is_a_command_with_these_options(text):
    known = {option for parameter in get_command(app).commands["check"].params for option in parameter.opts}
    for line in checks(text):
        assert {part for part in line if part.startswith("--")} <= known


def test_our_own_checks_the_project_s_baseline_and_installs_by_make():
    text = WORKFLOW.read_text()
    (line,) = checks(text)
    assert (ROOT / line[2]).is_file()
    assert any(step.get("run") == "make install" for step in steps(text))
    make = (ROOT / "Makefile").read_text()
    assert "vbench check tests/gate/baseline.json" in make


def test_its_cache_key_hashes_files_that_exist():
    key = next(step["with"]["key"] for step in steps(WORKFLOW.read_text()) if "key" in step.get("with", {}))
    patterns = re.findall(r"'([^']+)'", key)
    assert patterns
    for pattern in patterns:
        assert any(ROOT.glob(pattern)), pattern


def test_the_one_for_others_has_a_cache_artifacts_and_torch_for_cpus():
    uses = [step.get("uses", "").partition("@")[0] for step in steps(SNIPPET)]
    assert {"actions/cache", "actions/upload-artifact"} <= set(uses)
    assert any("--torch-backend=cpu" in step.get("run", "") for step in steps(SNIPPET))
    cache = next(step["with"] for step in steps(SNIPPET) if "cache" in step.get("uses", ""))
    (job,) = yaml.safe_load(SNIPPET)["jobs"].values()
    assert job["env"]["VBENCH_CACHE"].endswith(f"/{cache['path']}")


def test_the_page_tells_of_every_broken_line():
    page = (ROOT / "docs" / "gate.md").read_text()
    told = " ".join(page.split())
    assert [mutation.what for mutation in MUTATIONS if mutation.what not in told] == []
