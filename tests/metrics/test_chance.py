"""The expected metrics of a random order, against all orders of a small gallery."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from vbench.core.errors import BadInput
from vbench.metrics import chance, rank_metrics
from vbench.metrics.ranking import _chance_of

QUERIES = [1, 1, 2, 3, 9]
QUERY_CAMS = [3, 6, 3, 6, 3]
GALLERY = [1, 1, 2, 3, 3, 4]
GALLERY_CAMS = [1, 2, 1, 2, 4, 1]


@pytest.mark.parametrize("protocol", ["sysu", "regdb", "llcm"])
def test_chance_is_the_mean_over_all_orders(protocol):
    cams = [6, 2, 3, 4, 9] if protocol == "llcm" else QUERY_CAMS
    labels = (QUERIES, GALLERY, cams, GALLERY_CAMS, protocol)
    found = chance(*labels, max_rank=4)
    orders = [torch.tensor(order, dtype=torch.float64) for order in permutations(range(6))]
    all_ = [rank_metrics(order.expand(5, -1), *labels, max_rank=4) for order in orders]
    assert found.mAP == pytest.approx(sum(one.mAP for one in all_) / 720)
    assert found.mINP == pytest.approx(sum(one.mINP for one in all_) / 720)
    for k in (1, 2, 3, 4):
        assert found.rank(k) == pytest.approx(sum(one.rank(k) for one in all_) / 720)


def test_chance_of_regdb_is_that_of_its_size():
    """206 identities with ten images each in both modalities."""
    ids = torch.arange(206).repeat_interleave(10)
    found = chance(ids, ids, protocol="regdb")
    percent = [100 * value for value in (found.rank(1), found.rank(10), found.mAP, found.mINP)]
    assert percent == pytest.approx([0.49, 4.8, 0.84, 0.54], abs=0.05)


def test_chance_in_a_large_gallery_is_that_of_drawn_orders():
    """More images than the integral has nodes for; every query is one random order."""
    gallery, queries = torch.arange(40).repeat_interleave(30), torch.arange(40).repeat(50)
    cams = torch.ones_like(gallery), torch.full_like(queries, 3)
    found = chance(queries, gallery, cams[1], cams[0], "sysu")
    drawn = torch.rand((2000, 1200), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = rank_metrics(drawn, queries, gallery, cams[1], cams[0], "sysu")
    for k in (1, 10, 20):
        assert found.rank(k) == pytest.approx(expected.rank(k), abs=4 * 0.5 / 2000**0.5)
        assert found.rank(k) == pytest.approx(k / 40), "of forty alike identities each is as likely"
    assert found.mAP == pytest.approx(expected.mAP, rel=0.02)
    assert found.mINP == pytest.approx(expected.mINP, rel=0.02)


def test_without_a_match_there_is_no_chance():
    with pytest.raises(BadInput, match="no query has a match"):
        chance([1], [2], protocol="regdb")


@pytest.mark.parametrize(("identities", "images"), [(1000, 20), (2000, 50), (50, 20_000), (10, 400)])
def test_in_a_large_gallery_every_place_of_an_identity_is_as_likely(identities, images):
    others = np.zeros(images, int)
    others[-1] = identities - 1
    cmc, _, _ = _chance_of(images, others, True, 20)
    np.testing.assert_allclose(cmc, np.minimum(np.arange(1, 21) / identities, 1), rtol=1e-9)
