"""How far chance alone carries the mean of paired differences: the sign-flip test."""

from __future__ import annotations

import numpy as np

from vbench.errors import BadInput
from vbench.metrics.arrays import real_array

#: Sign patterns worked on at once.
_BATCH = 512


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
    if not 0 < tail < 1:
        raise BadInput(f"tail must lie between 0 and 1, got {tail}")
    totals, count = _totals(differences, groups)
    null = _signs(len(totals), flips, generator) @ totals / count
    # Sums of the same values in another order differ in their last digits; equal ones are chance.
    return float(np.quantile(null, 1 - tail, method="higher")) + 1e-12


def flip_pvalue(
    differences: np.ndarray, groups: np.ndarray, generator: np.random.Generator, flips: int = 10_000
) -> float:
    """Two-sided p of the mean of ``differences`` being 0, by the test of :func:`flip_noise`.

    The share of sign patterns whose mean lies at least as far from 0 as the measured one, which counts
    itself: exact where all are enumerated, else never below 1 / ``flips`` (Phipson and Smyth, Permutation
    P-values Should Never Be Zero, 2010). 1 where no group differs. Raises as :func:`flip_noise` does.
    """
    totals, _ = _totals(differences, groups)
    if not len(totals):
        return 1.0
    # Sums of the same values in another order differ in their last digits; equal ones count as reached.
    reached = abs(totals.sum()) - 1e-9 * np.abs(totals).sum()
    if 2 ** len(totals) <= flips:
        return float((np.abs(_signs(len(totals), flips, generator) @ totals) >= reached).mean())
    count = 1
    for start in range(1, flips, _BATCH):
        count += int((np.abs(_drawn(totals, min(_BATCH, flips - start), generator)) >= reached).sum())
    return count / flips


def _drawn(totals: np.ndarray, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Sums of ``totals`` under ``rows`` random sign patterns, a random bit a sign."""
    width = -(-len(totals) // 8)
    random = np.frombuffer(generator.bytes(rows * width), np.uint8).reshape(rows, width)
    kept = np.unpackbits(random, axis=1, count=len(totals))
    return 2 * (kept @ totals) - totals.sum()


def _totals(differences: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, int]:
    """Sums of the groups that differ at all, and how many values there were."""
    differences = real_array("differences", differences)
    if differences.ndim != 1 or differences.shape != np.shape(groups) or not len(differences):
        raise BadInput(
            f"differences and groups must be N values, got {differences.shape}, {np.shape(groups)}"
        )
    _, group = np.unique(groups, return_inverse=True)
    totals = np.bincount(group, weights=differences)
    return totals[totals != 0], len(differences)


def _signs(count: int, flips: int, generator: np.random.Generator) -> np.ndarray:
    """Rows of +-1: every one there is, or ``flips`` of them, the measured ones (no sign flipped) included."""
    if 2**count <= flips:
        bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    else:
        bits = generator.integers(0, 2, (flips, count), dtype=np.int8)
        bits[0] = 1
    return bits * 2.0 - 1.0
