"""Setups for tests, written shortly, and what opens them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vbench.records.spec import DataSpec, Given, ModelSpec, RunSpec, Setup
from vbench.run.prepare import Opener
from vbench.run.request import models


def setup(
    dataset: Any = "synthetic",
    root: Path | None = None,
    victim: Any = "agw",
    weights: Path | None = None,
    protocol: str = "",
    layout: str = "sysu",
    size: tuple[int, int] | None = None,
    surrogates: Sequence[str] = (),
    surrogate_weights: Sequence[Path] = (),
    **how: Any,
) -> Setup:
    """A victim on a data set; ``how`` it computes, as fields of :class:`Setup`."""
    name = dataset if isinstance(dataset, str) else Given(dataset)
    data = DataSpec("", name, protocol, str(root) if root else None, layout, size)
    model = ModelSpec(victim if isinstance(victim, str) else Given(victim), str(weights) if weights else None)
    return Setup(data, model, models(surrogates, surrogate_weights), **how)


def opener(*given: Any, **more: Any) -> Opener:
    """What opens :func:`setup`."""
    return Opener(setup(*given, **more))


def spec(at: Setup, attack: str, **more: Any) -> RunSpec:
    """One run."""
    return RunSpec(at, attack, **more)
