"""How far chance alone carries the mean of paired differences: the sign-flip test."""

from __future__ import annotations

import numpy as np

from vbench.errors import BadInput


def flip_noise(
    differences: np.ndarray,
    groups: np.ndarray,
    tail: float,
    generator: np.random.Generator,
    flips: int = 20_000,
) -> float:
    """What the mean of ``differences`` exceeds with probability ``tail`` at most if their signs are chance.

    ``differences``: N finite values, one a query, of the same query measured twice. ``groups``: N labels;
    the values of one group keep or change their sign together, since the images of one person are not
    independent. A mean above the result is larger, one below its negative smaller, each at the one-sided
    level ``tail``. With groups of one and 0/1 outcomes this is McNemar's exact test (Fisher's randomisation
    test of pairs: Good, Permutation, Parametric and Bootstrap Tests, 2005, section 3.2). All signs are
    enumerated where they are at most ``flips``, else that many are drawn.

    Raises :class:`BadInput` for shapes that differ, nothing to compare and a ``tail`` outside (0, 1).
    """
    differences = np.asarray(differences, dtype=np.float64)
    if differences.ndim != 1 or differences.shape != np.shape(groups) or not len(differences):
        raise BadInput(
            f"differences and groups must be N values, got {differences.shape}, {np.shape(groups)}"
        )
    if not 0 < tail < 1:
        raise BadInput(f"tail must lie between 0 and 1, got {tail}")
    _, group = np.unique(groups, return_inverse=True)
    totals = np.bincount(group, weights=differences)
    totals = totals[totals != 0]
    null = _signs(len(totals), flips, generator) @ totals / len(differences)
    # Sums of the same values in another order differ in their last digits; equal ones are chance.
    return float(np.quantile(null, 1 - tail, method="higher")) + 1e-12


def _signs(count: int, flips: int, generator: np.random.Generator) -> np.ndarray:
    """Rows of +-1: every one there is, or ``flips`` of them, the measured ones (no sign flipped) included."""
    if 2**count <= flips:
        bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    else:
        bits = generator.integers(0, 2, (flips, count), dtype=np.int8)
        bits[0] = 1
    return bits * 2.0 - 1.0
