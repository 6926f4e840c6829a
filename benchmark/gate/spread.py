"""One metric over repeated seeds, as a baseline keeps it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

#: Relative error that writing mean and deviation as decimal text may bring.
_TEXT = 1e-9


class Spread(BaseModel):
    """``values``: one a seed, in the order of the seeds; ``mean``, ``sd`` (n - 1) and ``n`` of them.

    ``resolution`` is the smallest difference that says anything: what one query can change at most. The
    figures must agree with the values, so that no half-edited baseline passes for a measured one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: FiniteFloat
    sd: Annotated[FiniteFloat, Field(ge=0)]
    n: Annotated[int, Field(ge=1)]
    resolution: Annotated[FiniteFloat, Field(ge=0)]
    values: tuple[FiniteFloat, ...]

    @classmethod
    def of(cls, values: Sequence[float], resolution: float) -> Spread:
        """Mean and standard deviation of at least one value; the deviation of a single one is 0."""
        mean, sd = _figures(values)
        return cls(mean=mean, sd=sd, n=len(values), resolution=resolution, values=tuple(values))

    @model_validator(mode="after")
    def _agrees(self) -> Spread:
        if self.n != len(self.values):
            raise ValueError(f"n is {self.n}, and there are {len(self.values)} values")
        for name, found in zip(("mean", "sd"), _figures(self.values), strict=True):
            if not math.isclose(getattr(self, name), found, rel_tol=_TEXT, abs_tol=_TEXT):
                raise ValueError(f"{name} is {getattr(self, name):g}, and that of the values is {found:g}")
        return self


def _figures(values: Sequence[float]) -> tuple[float, float]:
    # statistics works in exact fractions: equal values have a deviation of exactly zero.
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
