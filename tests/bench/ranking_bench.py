"""Time rank_metrics against the per-query loop on a ranking the size of SYSU-MM01's: run as a script."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch

from vbench.metrics import rank_metrics

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "metrics"))
from literal_ranking import literal_ranking

QUERIES, GALLERY, IDENTITIES = 3803, 301, 96
REQUIRED_RATIO = 30.0


def make_trial(seed: int) -> tuple[np.ndarray, ...]:
    """Distances and labels with SYSU-MM01's counts: one image an identity and visible camera, 301 of 384."""
    rng = np.random.default_rng(seed)
    pairs = np.array([(pid, cam) for pid in range(IDENTITIES) for cam in (1, 2, 4, 5)])
    gallery_ids, gallery_cams = pairs[np.sort(rng.choice(len(pairs), GALLERY, replace=False))].T.copy()
    query_ids, query_cams = np.sort(rng.integers(0, IDENTITIES, QUERIES)), rng.choice([3, 6], QUERIES)
    distance = rng.random((QUERIES, GALLERY), dtype=np.float32)
    distance -= 0.3 * (query_ids[:, None] == gallery_ids).astype(np.float32)
    return distance, query_ids, gallery_ids, query_cams, gallery_cams


def seconds(work, repeats: int) -> float:
    """Least wall time of one call over ``repeats`` calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def agree(trial: tuple[np.ndarray, ...], protocol: str) -> bool:
    """Compare every per-query value and every mean of the two ways."""
    cmc, mean_ap, mean_inp, first, precision, penalty = literal_ranking(*trial, protocol)
    ours = rank_metrics(*trial, protocol=protocol)
    return (
        np.array_equal(ours.cmc.numpy(), cmc)
        and np.array_equal(ours.first_match_rank.numpy(), first)
        and np.array_equal(ours.average_precision.numpy(), precision, equal_nan=True)
        and np.array_equal(ours.inverse_negative_penalty.numpy(), penalty, equal_nan=True)
        and bool(np.allclose([ours.mAP, ours.mINP], [mean_ap, mean_inp], rtol=1e-12, atol=0))
    )


def main() -> int:
    """Print both times for each rule; 1 if a result differs or the loop is less than 30 times slower."""
    # The loop has one thread, so ours gets one: like against like, and steady on a shared machine.
    torch.set_num_threads(1)
    trial = make_trial(seed=0)
    tensors = tuple(torch.from_numpy(part) for part in trial)
    failed = False
    print(f"ranking {QUERIES} queries x {GALLERY} gallery, one thread each")
    for protocol in ("sysu", "regdb", "llcm"):
        if not agree(trial, protocol):
            print(f"{protocol:6} DIFFERENT RESULTS")
            failed = True
            continue
        loop = seconds(lambda rule=protocol: literal_ranking(*trial, rule), repeats=3)
        ours = seconds(lambda rule=protocol: rank_metrics(*tensors, protocol=rule), repeats=20)
        ratio = loop / ours
        failed |= ratio < REQUIRED_RATIO
        print(f"{protocol:6} loop {loop * 1e3:8.1f} ms   rank_metrics {ours * 1e3:6.2f} ms   {ratio:6.1f}x")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
