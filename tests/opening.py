"""Setups for tests, written shortly, and what opens them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vbench.records.spec import DataSpec, ModelSpec, Setup, as_name, models
from vbench.run.prepare import Opener


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
    data = DataSpec("", as_name(dataset), protocol, str(root) if root else None, layout, size)
    model = ModelSpec(as_name(victim), str(weights) if weights else None)
    return Setup(data, model, models(surrogates, surrogate_weights), **how)


def opener(*given: Any, **more: Any) -> Opener:
    """What opens :func:`setup`."""
    return Opener(setup(*given, **more))
