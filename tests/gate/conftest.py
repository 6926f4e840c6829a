"""The project's own baseline, parts of it, and re-runs of them in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pipeline.conftest import quick, vbench  # noqa: F401

from vbench.gate.baseline import Baseline, read_baseline
from vbench.gate.compare import Gate, check_against

FOLDER = Path(__file__).parent


@pytest.fixture(scope="session")
def baseline() -> Baseline:
    return read_baseline(FOLDER / "baseline.json")


@pytest.fixture(scope="session")
def rerun(baseline, tmp_path_factory) -> Callable[..., Gate]:
    """Run some of the baseline's attacks again and compare."""
    cache = tmp_path_factory.mktemp("gate-cache")

    def run(attacks: Sequence[str], seeds: Sequence[int]) -> Gate:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("VBENCH_CACHE", str(cache))
            return check_against(only(baseline, attacks), FOLDER, seeds, device="cpu", quiet=True)[0]

    return run


def only(baseline: Baseline, attacks: Sequence[str]) -> Baseline:
    """The baseline as if these attacks were all it holds; bounds are those of the whole."""
    found = [one for one in baseline.attacks if one.attack in attacks]
    assert len(found) == len(attacks)
    request = baseline.request.model_copy(update={"attacks": tuple(one.attack for one in found)})
    share = baseline.false_alarm * sum(len(one.metrics) for one in (*found, *baseline.victims))
    changes = {"attacks": found, "request": request, "false_alarm": share / baseline.comparisons}
    return baseline.model_copy(update=changes)
