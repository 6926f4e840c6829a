"""One metric over repeated seeds, as a baseline keeps it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from scipy import stats

#: Relative error that writing mean and deviation as decimal text may bring.
_TEXT = 1e-9
#: Chance at which seeds that scatter more than their queries explain are taken to have more in common.
_MORE_THAN_QUERIES = 0.05


class Spread(BaseModel):
    """``values``: one a seed, in the order of the seeds; ``mean`` and ``n`` of them.

    ``sd`` is the standard deviation over seeds, with ``dof`` degrees of freedom: that of the values (n - 1),
    or that of their queries, pooled. ``resolution`` is the smallest difference that says anything: what one
    query can change at most. Mean and count must agree with the values, so that no half-edited baseline
    passes for a measured one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: FiniteFloat
    sd: Annotated[FiniteFloat, Field(ge=0)]
    dof: Annotated[FiniteFloat, Field(ge=0)]
    n: Annotated[int, Field(ge=1)]
    resolution: Annotated[FiniteFloat, Field(ge=0)]
    values: tuple[FiniteFloat, ...]

    @classmethod
    def of(cls, values: Sequence[float], resolution: float, parts: np.ndarray | None = None) -> Spread:
        """Statistics of at least one value; the deviation of a single one is 0.

        ``parts`` (seeds x queries) add up to the values over queries, and are independent from query to
        query: where chance belongs to an image alone. Their variances then add up to that of a value, known
        from many more observations (Satterthwaite 1946 counts the degrees of freedom), so that few seeds
        give narrow bounds. Not used where the seeds scatter more than that, beyond chance.
        """
        n, mean = len(values), statistics.mean(values)
        # statistics works in exact fractions: equal values have a deviation of exactly zero.
        sd, dof = statistics.stdev(values) if n > 1 else 0.0, float(n - 1)
        if parts is not None and n > 1:
            each = parts.var(axis=0, ddof=1)
            pooled = float(each.sum())
            if pooled > 0 and (n - 1) * sd**2 / pooled < stats.chi2.isf(_MORE_THAN_QUERIES, n - 1):
                sd, dof = math.sqrt(pooled), (n - 1) * pooled**2 / float((each**2).sum())
        return cls(mean=mean, sd=sd, dof=dof, n=n, resolution=resolution, values=tuple(values))

    @model_validator(mode="after")
    def _agrees(self) -> Spread:
        if self.n != len(self.values):
            raise ValueError(f"n is {self.n}, and there are {len(self.values)} values")
        mean = statistics.mean(self.values)
        if not math.isclose(self.mean, mean, rel_tol=_TEXT, abs_tol=_TEXT):
            raise ValueError(f"mean is {self.mean:g}, and that of the values is {mean:g}")
        if self.sd > 0 and self.dof < 1:
            raise ValueError(f"a deviation with {self.dof:g} degrees of freedom says nothing")
        return self
