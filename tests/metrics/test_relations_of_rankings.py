"""What must not change a ranking: the origin, lengths, rotations, orders, chunks, names of identities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vbench.core.types import SIMILARITIES
from vbench.metrics import rank_embeddings, rank_metrics, ranking, ranking_distance

PER_QUERY = ("first_match_rank", "average_precision", "inverse_negative_penalty", "valid", "tied")


def assert_same(one, other, order=slice(None)):
    for name in PER_QUERY:
        np.testing.assert_array_equal(
            getattr(one, name).numpy()[order], getattr(other, name).numpy(), err_msg=name
        )
    assert one.mAP == pytest.approx(other.mAP, abs=1e-12)


def drawn(seed=0, queries=60, gallery=80, dim=32, ids=9, dtype=torch.float64):
    """Queries and gallery around a centre for each identity, with labels of the rule of RegDB."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(ids, dim, generator=generator, dtype=torch.float64)
    labels = torch.arange(queries) % ids, torch.arange(gallery) % ids
    sides = [
        centres[one] + 2.5 * torch.randn(len(one), dim, generator=generator, dtype=torch.float64)
        for one in labels
    ]
    return sides[0].to(dtype), sides[1].to(dtype), *labels


def ranked(query, gallery, query_ids, gallery_ids, similarity="euclidean", **options):
    return rank_embeddings(
        query, gallery, query_ids, gallery_ids, similarity=similarity, protocol="regdb", **options
    )


def exactly(query, gallery, query_ids, gallery_ids):
    """Ranked by differences written out in float64."""
    distance = torch.cdist(query.double(), gallery.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return rank_metrics(distance, query_ids, gallery_ids, protocol="regdb")


@pytest.mark.parametrize("offset", [0, 1, 1e2, 1e4, 1e5, 1e6, 1e8])
@pytest.mark.parametrize("side", ["same", "direction"])
def test_one_vector_added_to_all_embeddings_changes_no_euclidean_ranking(offset, side):
    query, gallery, *labels = drawn()
    shift = torch.full((32,), offset, dtype=torch.float64)
    if side == "direction":
        shift *= torch.linspace(-1, 1, 32, dtype=torch.float64)
    assert_same(ranked(query, gallery, *labels), ranked(query + shift, gallery + shift, *labels))
    # Float32 itself loses digits far from the origin; from what it holds, nothing more may be lost.
    query, gallery = (query + shift).float(), (gallery + shift).float()
    found = ranked(query, gallery, *labels)
    assert_same(exactly(query, gallery, *labels), found)


def test_the_matrix_product_alone_holds_the_digits_far_from_the_origin(monkeypatch):
    """Without differences written out, which would cost a hundred times as much."""
    monkeypatch.setattr(ranking, "_CANCELLED", 0.0)
    query, gallery, *labels = drawn()
    query, gallery = query + 1e8, gallery + 1e8
    assert_same(exactly(query, gallery, *labels), ranked(query, gallery, *labels))


def test_clusters_far_apart_and_outliers_keep_their_small_distances():
    query, gallery, *labels = drawn(dtype=torch.float32)
    query[::2] += 3e2
    gallery[::3] += 3e2
    gallery[5] = 1e18
    assert_same(exactly(query, gallery, *labels), ranked(query, gallery, *labels))


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e5, 1e-5])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_what_is_collapsed_is_tied_wherever_it_lies(similarity, offset):
    point = torch.randn(1, 256, generator=torch.Generator().manual_seed(3)) + offset
    query, gallery = point.expand(30, -1).contiguous(), point.expand(70, -1).contiguous()
    found = ranked(query, gallery, torch.arange(30) % 5, torch.arange(70) % 5, similarity)
    assert found.tied_share == 1.0
    assert found.first_match_rank.tolist() == (torch.arange(30) % 5 + 1).tolist()
    distance = ranking_distance(query, gallery, similarity)
    assert (distance == distance[:, :1]).all()


def test_ties_of_a_grid_stay_ties_after_a_shift():
    grid = torch.cartesian_prod(*[torch.arange(4.0)] * 3)
    labels = torch.arange(64) % 7, torch.arange(64) % 7
    for shift in (0.0, 0.1, 12345.6789, 1e6 / 3):
        moved = grid.double() + shift
        assert_same(ranked(grid, grid, *labels), ranked(moved, moved, *labels))


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("power", [-1060, -600, -300, -120, -100, 0, 100, 120, 300, 600, 1000])
def test_a_power_of_two_changes_no_ranking(similarity, power):
    query, gallery, *labels = drawn()
    # Few digits, since what is below 2^-1022 has few.
    query, gallery = (side.mul(256).round().div(256) for side in (query, gallery))
    scaled = [side * 2.0 ** (power // 2) * 2.0 ** (power - power // 2) for side in (query, gallery)]
    assert_same(ranked(query, gallery, *labels, similarity), ranked(*scaled, *labels, similarity))


@pytest.mark.parametrize("scale", [1e30, 1e-30, 1e-44, 3e26])
@pytest.mark.parametrize("similarity", ["euclidean", "cosine", "dot"])
def test_float32_embeddings_of_any_size(similarity, scale):
    query, gallery, *labels = drawn()
    query, gallery = ((10 * side).round() for side in (query, gallery))
    expected = ranked(query, gallery, *labels, similarity)
    query, gallery = (query * scale).float(), (gallery * scale).float()
    found = ranked(query, gallery, *labels, similarity)
    if scale != 1e-44:
        assert found.mAP == pytest.approx(expected.mAP, abs=0.01)
        assert found.tied_share <= expected.tied_share + 0.05
    if similarity == "euclidean":
        assert_same(exactly(query, gallery, *labels), found)


def test_cosine_looks_at_no_length():
    query, gallery, *labels = drawn()
    expected = ranked(query, gallery, *labels, "cosine")
    lengths = [
        10.0 ** torch.linspace(-300, 300, len(side), dtype=torch.float64)[:, None]
        for side in (query, gallery)
    ]
    assert_same(expected, ranked(query * lengths[0], gallery * lengths[1], *labels, "cosine"))


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_embeddings_of_length_zero_are_tied_with_each_other(similarity):
    query, gallery, *labels = drawn()
    gallery[:20] = 0
    distance = ranking_distance(query, gallery, similarity)
    assert torch.isfinite(distance).all() and (distance[:, :20] == distance[:, :1]).all()
    assert ranked(torch.zeros_like(query), gallery, *labels, similarity).valid.all()


@pytest.mark.parametrize("similarity", ["euclidean", "cosine", "dot"])
def test_a_rotation_changes_no_ranking(similarity):
    query, gallery, *labels = drawn()
    turn = torch.linalg.qr(
        torch.randn(32, 32, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    ).Q
    found = ranked(query @ turn, gallery @ turn, *labels, similarity)
    assert_same(ranked(query, gallery, *labels, similarity), found)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000), chunk=st.sampled_from([1, 3, 60, 1000]))
def test_orders_and_chunks(similarity, seed, chunk):
    query, gallery, query_ids, gallery_ids = drawn(seed)
    expected = ranked(query, gallery, query_ids, gallery_ids, similarity)
    assert_same(expected, ranked(query, gallery, query_ids, gallery_ids, similarity, chunk=chunk))
    rng = np.random.default_rng(seed)
    rows, columns = torch.from_numpy(rng.permutation(60)), torch.from_numpy(rng.permutation(80))
    assert_same(
        expected, ranked(query[rows], gallery, query_ids[rows], gallery_ids, similarity), rows.numpy()
    )
    # The order of the gallery decides ties, and nothing else.
    found = ranked(query, gallery[columns], query_ids, gallery_ids[columns], similarity)
    assert torch.equal(found.tied, expected.tied)
    for name in PER_QUERY:
        assert torch.equal(getattr(found, name)[~found.tied], getattr(expected, name)[~found.tied])


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_gallery_that_is_there_twice(similarity):
    """The twin of an image is exactly as far away and shows the same person."""
    query, gallery, query_ids, gallery_ids = drawn()
    once = ranked(query, gallery, query_ids, gallery_ids, similarity)
    twice = ranked(
        query, gallery.repeat_interleave(2, 0), query_ids, gallery_ids.repeat_interleave(2), similarity
    )
    assert torch.equal(twice.first_match_rank, 2 * once.first_match_rank - 1)
    assert not twice.tied.any()


@pytest.mark.parametrize(
    "name",
    [
        lambda pid: pid - 5,
        lambda pid: -1 - pid,
        lambda pid: pid * 2**40 - 2**62,
        lambda pid: 20240131123456 + 86400 * pid,
        lambda pid: 2**63 - 1 - pid,
        lambda pid: (pid * 37) % 101,
    ],
)
@pytest.mark.parametrize("protocol", ["sysu", "regdb", "llcm"])
def test_identities_are_names(name, protocol):
    query, gallery, query_ids, gallery_ids = drawn()
    cams = torch.arange(60) % 6 + 1, torch.arange(80) % 6 + 1
    given = [[name(int(pid)) for pid in side] for side in (query_ids, gallery_ids)]
    expected = rank_embeddings(query, gallery, query_ids, gallery_ids, *cams, protocol=protocol)
    assert_same(expected, rank_embeddings(query, gallery, *given, *cams, protocol=protocol))


@pytest.mark.parametrize("dim", [1, 2, 300])
def test_any_number_of_dimensions(dim):
    query, gallery, *labels = drawn(dim=dim)
    for shift in (0.0, 1e5):
        moved = query + shift, gallery + shift
        assert_same(exactly(*moved, *labels), ranked(*moved, *labels))
