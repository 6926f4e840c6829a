"""More chance from an image's seed: independent streams that depend on nothing but seed and purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vbench.attacks.base import Context
from vbench.core.seeds import hashed


def stream_seeds(seeds: Sequence[int], purpose: str) -> tuple[int, ...]:
    """A seed for every seed, 63 bits, unrelated for different purposes."""
    return tuple(hashed(f"{purpose}/{seed}") for seed in seeds)


def attempt_context(context: Context, attempt: int) -> Context:
    """The context of a repeated attempt, with chance of its own; attempt 0 is the context itself."""
    if attempt == 0:
        return context
    return replace(context, seeds=stream_seeds(context.seeds, f"attempt {attempt}"))
