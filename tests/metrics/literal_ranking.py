"""The ranking rules as their owners' evaluation code walks through them: one query after the other, slowly.

The oracle of the tests and the baseline of ``tests/bench/ranking_bench.py``. Shares no code with vbench.
"""

from __future__ import annotations

import numpy as np


def literal_ranking(distance, query_ids, gallery_ids, query_cams, gallery_cams, protocol, max_rank=20):
    """Return ``cmc, mAP, mINP, first_match_rank, average_precision, inverse_negative_penalty`` (numpy)."""
    length = min(max_rank, len(gallery_ids))
    curves, precisions, penalties, firsts = [], [], [], []
    ranked = np.argsort(distance, axis=1, kind="stable")
    for query, order in enumerate(ranked):
        ids = gallery_ids[order]
        if protocol == "sysu":
            place = query_cams[query]
            other = {3: 2, 2: 3}.get(int(place))
            hidden = gallery_cams[order] == other if other else np.zeros(len(order), dtype=bool)
        elif protocol == "llcm":
            hidden = (ids == query_ids[query]) & (gallery_cams[order] == query_cams[query])
        else:
            hidden = np.zeros(len(order), dtype=bool)
        ids = ids[~hidden]
        hit = ids == query_ids[query]
        if not hit.any():
            firsts.append(0)
            precisions.append(np.nan)
            penalties.append(np.nan)
            continue

        listed = hit
        if protocol in ("sysu", "llcm"):
            entries = list(dict.fromkeys(ids.tolist()))
            listed = np.array([entry == query_ids[query] for entry in entries])
        firsts.append(int(np.argmax(listed)) + 1)
        curve = np.zeros(length)
        curve[firsts[-1] - 1 :] = 1
        curves.append(curve)

        so_far = hit.cumsum()
        last = np.flatnonzero(hit).max()
        penalties.append(so_far[last] / (last + 1.0))
        at_each = [found / (position + 1.0) for position, found in enumerate(so_far)]
        precisions.append(sum(p for p, is_hit in zip(at_each, hit, strict=True) if is_hit) / hit.sum())
    if not curves:
        raise ValueError("every query is without a match")
    precisions, penalties = np.array(precisions), np.array(penalties)
    cmc = np.sum(curves, axis=0) / len(curves)
    return cmc, np.nanmean(precisions), np.nanmean(penalties), np.array(firsts), precisions, penalties


def literal_tied(distance, query_ids, gallery_ids, query_cams, gallery_cams, protocol):
    """Say for each query whether a kept match and a kept non-match are exactly equally far."""
    tied = []
    for q in range(len(query_ids)):
        kept_match, kept_other = set(), set()
        for g in range(len(gallery_ids)):
            if protocol == "sysu" and {int(query_cams[q]), int(gallery_cams[g])} == {2, 3}:
                continue
            same = query_ids[q] == gallery_ids[g]
            if protocol == "llcm" and same and query_cams[q] == gallery_cams[g]:
                continue
            (kept_match if same else kept_other).add(float(distance[q, g]))
        tied.append(bool(kept_match & kept_other))
    return np.array(tied)
