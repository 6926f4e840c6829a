"""rank_metrics against the literal rules, against cases built backwards, and under transformations."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from literal_ranking import literal_ranking, literal_tied

from vbench.core.errors import BadInput, VbenchError
from vbench.metrics import rank_metrics

PROTOCOLS = ("sysu", "regdb", "llcm")
PER_QUERY = ("first_match_rank", "average_precision", "inverse_negative_penalty", "valid", "tied")


@st.composite
def trials(draw, max_queries=8, max_gallery=40, max_ids=6, max_distance=12):
    """Distances on a small grid (many ties), more identities among queries than the gallery has."""
    queries, gallery = draw(st.integers(1, max_queries)), draw(st.integers(1, max_gallery))
    ids = draw(st.integers(1, max_ids))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.integers(1, max_distance))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    distance = (rng.integers(0, levels, (queries, gallery)) / 8).astype(dtype)
    return (
        distance,
        rng.integers(0, ids + 1, queries),
        rng.integers(0, ids, gallery),
        rng.integers(1, 7, queries),
        rng.integers(1, 7, gallery),
    )


def random_trial(seed, queries=40, gallery=60, ids=9, ties=False):
    rng = np.random.default_rng(seed)
    distance = rng.integers(0, 5, (queries, gallery)) / 4 if ties else rng.random((queries, gallery))
    return [
        distance.astype(np.float32),
        rng.integers(0, ids + 1, queries),
        rng.integers(0, ids, gallery),
        rng.integers(1, 7, queries),
        rng.integers(1, 7, gallery),
    ]


def assert_literal(trial, protocol, **options):
    cmc, mean_ap, mean_inp, first, precision, penalty = literal_ranking(*trial, protocol)
    found = rank_metrics(*trial, protocol=protocol, **options)
    np.testing.assert_array_equal(found.cmc.numpy(), cmc)
    np.testing.assert_array_equal(found.first_match_rank.numpy(), first)
    np.testing.assert_array_equal(found.average_precision.numpy(), precision)
    np.testing.assert_array_equal(found.inverse_negative_penalty.numpy(), penalty)
    np.testing.assert_array_equal(found.valid.numpy(), first > 0)
    np.testing.assert_array_equal(found.tied.numpy(), literal_tied(*trial, protocol) & (first > 0))
    assert found.mAP == pytest.approx(mean_ap, rel=1e-13)
    assert found.mINP == pytest.approx(mean_inp, rel=1e-13)
    return found


def assert_same(one, other):
    for name in ("cmc", *PER_QUERY):
        np.testing.assert_array_equal(getattr(one, name).numpy(), getattr(other, name).numpy(), err_msg=name)
    assert (one.mAP, one.mINP, one.tied_share) == (other.mAP, other.mINP, other.tied_share)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=150, deadline=None)
@given(trial=trials(), chunk=st.integers(1, 9))
def test_literal_rule(protocol, trial, chunk):
    try:
        literal_ranking(*trial, protocol)
    except ValueError:
        with pytest.raises(BadInput, match="no query has a match"):
            rank_metrics(*trial, protocol=protocol, chunk=chunk)
        return
    assert_literal(trial, protocol, chunk=chunk)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("ties", [False, True])
def test_literal_rule_with_many_images_an_identity(protocol, ties):
    trial = random_trial(3, queries=30, gallery=200, ids=3, ties=ties)
    found = assert_literal(trial, protocol)
    assert not found.valid.all()
    assert (found.tied_share > 0.9) == ties


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_types_are_ranked_as_their_exact_values(dtype):
    trial = random_trial(5)
    trial[0] = torch.from_numpy(trial[0]).to(dtype)
    found = rank_metrics(*trial)
    trial[0] = trial[0].double()
    assert_same(found, rank_metrics(*trial))
    assert found.tied.any()


def ranking_with_hits_at(places, length):
    """One query of identity 0 whose correct matches stand at the given 1-based places of ``length``."""
    rng = np.random.default_rng(sum(places) + length)
    order = rng.permutation(length)
    distance, ids = np.empty((1, length)), np.empty(length, dtype=int)
    for place, column in enumerate(order, start=1):
        distance[0, column] = place * 0.01
        ids[column] = 0 if place in places else place
    return distance, ids


@pytest.mark.parametrize(
    ("places", "length"), [([1], 5), ([5], 5), ([1, 2, 3], 9), ([2, 7, 30], 30), ([9, 11], 100)]
)
def test_chosen_places_give_their_closed_forms(places, length):
    distance, ids = ranking_with_hits_at(places, length)
    found = rank_metrics(distance, [0], ids, protocol="regdb")
    expected = sum(Fraction(k, place) for k, place in enumerate(places, start=1)) / len(places)
    assert found.mAP == pytest.approx(float(expected), rel=1e-15)
    assert found.mINP == len(places) / places[-1]
    assert found.first_match_rank.tolist() == [places[0]]
    assert found.cmc.tolist() == [float(k >= places[0]) for k in range(1, min(20, length) + 1)]
    assert found.rank(places[0]) == 1.0
    assert places[0] == 1 or found.rank(places[0] - 1) == 0.0


def test_identity_cmc_counts_people_and_precision_counts_images():
    ids = [7, 7, 7, 8, 8, 1]
    distance = torch.arange(6.0)[None]
    cameras = ([6], [1] * 6)
    by_identity = rank_metrics(distance, [1], ids, *cameras, protocol="sysu")
    by_image = rank_metrics(distance, [1], ids, protocol="regdb")
    assert by_identity.first_match_rank.tolist() == [3]
    assert by_image.first_match_rank.tolist() == [6]
    assert by_identity.mAP == by_image.mAP == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("protocol", "query_cam", "nearest_cam", "nearest_id", "rank"),
    [
        ("sysu", 3, 2, 9, 2),
        ("sysu", 2, 3, 9, 2),
        ("sysu", 6, 2, 9, 3),
        ("sysu", 3, 1, 9, 3),
        ("sysu", 3, 3, 9, 3),
        ("sysu", 3, 2, 1, 2),
        ("sysu", 6, 2, 1, 1),
        ("llcm", 4, 4, 9, 3),
        ("llcm", 4, 4, 1, 2),
        ("llcm", 4, 5, 1, 1),
        ("regdb", 3, 2, 9, 3),
        ("regdb", 4, 4, 1, 1),
    ],
)
def test_what_each_rule_removes(protocol, query_cam, nearest_cam, nearest_id, rank):
    """Identity 1 looks at: the image in question, then identity 8, then its match that is always kept."""
    distance = torch.tensor([[1.0, 2.0, 3.0]])
    cams = ([query_cam], [nearest_cam, 5, 7])
    found = rank_metrics(distance, [1], [nearest_id, 8, 1], *cams, protocol=protocol)
    assert found.first_match_rank.tolist() == [rank]


def test_a_query_without_a_match_enters_no_mean():
    distance = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    found = rank_metrics(distance, [1, 99, 2], [1, 2], protocol="regdb")
    assert found.first_match_rank.tolist() == [1, 0, 2]
    assert found.valid.tolist() == [True, False, True]
    assert torch.isnan(found.average_precision).tolist() == [False, True, False]
    assert torch.isnan(found.inverse_negative_penalty).tolist() == [False, True, False]
    assert found.cmc.tolist() == [0.5, 1.0]
    assert found.mAP == found.mINP == 0.75


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_all_equal_distances_follow_gallery_order_and_are_flagged(protocol):
    trial = random_trial(11)
    trial[0] = np.full_like(trial[0], 0.25)
    found = assert_literal(trial, protocol)
    assert found.tied_share == 1.0
    trial[0] = np.tile(np.arange(trial[0].shape[1], dtype=np.float32), (len(trial[0]), 1))
    ordered = rank_metrics(*trial, protocol=protocol)
    assert ordered.tied_share == 0.0
    assert torch.equal(found.first_match_rank, ordered.first_match_rank)
    assert found.mAP == ordered.mAP


def test_a_tie_among_matches_alone_or_with_a_removed_image_is_no_tie():
    assert not rank_metrics(torch.tensor([[1.0, 1.0, 2.0]]), [1], [1, 1, 2], protocol="regdb").tied.any()
    distance, ids = torch.tensor([[1.0, 1.0, 2.0]]), [1, 2, 3]
    assert not rank_metrics(distance, [1], ids, [3], [1, 2, 1], protocol="sysu").tied.any()
    assert rank_metrics(distance, [1], ids, [6], [1, 2, 1], protocol="sysu").tied.all()


def test_ids_that_float32_cannot_tell_apart_stay_apart():
    ids = [16777216, 16777217]
    assert rank_metrics(torch.tensor([[1.0, 2.0]]), [16777217], ids, protocol="regdb").rank(1) == 0.0
    far = [2**62, 2**62 + 1]
    assert rank_metrics(torch.tensor([[1.0, 2.0]]), [2**62 + 1], far, protocol="regdb").rank(1) == 0.0


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("ties", [False, True])
def test_chunk_changes_no_bit(protocol, ties):
    trial = random_trial(1, ties=ties)
    whole = rank_metrics(*trial, protocol=protocol, chunk=1000)
    for chunk in (1, 7, 39, None):
        assert_same(rank_metrics(*trial, protocol=protocol, chunk=chunk), whole)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_query_order_does_not_matter(protocol):
    trial = random_trial(2, ties=True)
    order = np.random.default_rng(0).permutation(len(trial[0]))
    plain = rank_metrics(*trial, protocol=protocol)
    distance, query_ids, gallery_ids, query_cams, gallery_cams = trial
    mixed = rank_metrics(
        distance[order], query_ids[order], gallery_ids, query_cams[order], gallery_cams, protocol=protocol
    )
    for name in PER_QUERY:
        expected, got = getattr(plain, name)[order].numpy(), getattr(mixed, name).numpy()
        np.testing.assert_array_equal(got, expected)
    assert torch.equal(plain.cmc, mixed.cmc)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_gallery_order_does_not_matter_without_ties(protocol):
    distance, query_ids, gallery_ids, query_cams, gallery_cams = trial = random_trial(4)
    order = np.random.default_rng(0).permutation(distance.shape[1])
    mixed = rank_metrics(
        distance[:, order], query_ids, gallery_ids[order], query_cams, gallery_cams[order], protocol=protocol
    )
    assert_same(mixed, rank_metrics(*trial, protocol=protocol))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_query_twice_and_another_scale_change_nothing(protocol):
    distance, query_ids, gallery_ids, query_cams, gallery_cams = trial = random_trial(6, ties=True)
    plain = rank_metrics(*trial, protocol=protocol)
    doubled = rank_metrics(
        np.tile(distance, (2, 1)),
        np.tile(query_ids, 2),
        gallery_ids,
        np.tile(query_cams, 2),
        gallery_cams,
        protocol=protocol,
    )
    assert torch.equal(plain.cmc, doubled.cmc)
    assert doubled.mAP == pytest.approx(plain.mAP, rel=1e-14)
    assert doubled.mINP == pytest.approx(plain.mINP, rel=1e-14)
    assert_same(rank_metrics(distance * 1024 - 300, *trial[1:], protocol=protocol), plain)


@settings(max_examples=60, deadline=None)
@given(trial=trials(), max_rank=st.integers(1, 60))
def test_cmc_never_falls_and_has_the_documented_length(trial, max_rank):
    trial[1][0] = trial[2][0]
    trial[3][:] = 6
    found = rank_metrics(*trial, protocol="sysu", max_rank=max_rank)
    assert found.cmc.dtype == torch.float64
    assert len(found.cmc) == min(max_rank, trial[0].shape[1])
    assert (found.cmc.diff() >= 0).all()
    assert found.cmc.tolist() == [found.rank(k) for k in range(1, len(found.cmc) + 1)]
    assert found.rank(10_000) == 1.0


def test_the_caller_s_distances_are_left_alone():
    trial = [torch.from_numpy(part) for part in random_trial(8)]
    before = trial[0].clone()
    rank_metrics(*trial, protocol="llcm")
    assert torch.equal(trial[0], before)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_distance_that_is_not_finite_is_refused_by_position(value):
    trial = random_trial(9)
    trial[0][17, 4] = value
    with pytest.raises(VbenchError, match=r"query 17 and gallery image 4 ") as caught:
        rank_metrics(*trial, chunk=5)
    assert not isinstance(caught.value, BadInput)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distance": np.zeros((2, 3, 1))}, "matrix of queries x gallery"),
        ({"distance": np.zeros((2, 3), dtype=np.int64)}, "floating-point"),
        ({"distance": np.zeros((0, 3)), "query_ids": []}, "nothing to rank"),
        ({"query_ids": [1]}, "query_ids must have length 2"),
        ({"gallery_ids": [1, 2]}, "gallery_ids must have length 3"),
        ({"gallery_cams": [1, 2]}, "gallery_cams must have length 3"),
        ({"query_ids": [1.0, 2.0]}, "query_ids must be integers"),
        ({"query_cams": None}, "needs cameras"),
        ({"protocol": "sysy"}, "did you mean 'sysu'"),
        ({"query_ids": [8, 9]}, "no query has a match"),
        ({"max_rank": 0}, "max_rank"),
        ({"chunk": 0}, "chunk"),
    ],
)
def test_bad_input_is_one_clear_line(change, message):
    good = {
        "distance": np.ones((2, 3)),
        "query_ids": [1, 2],
        "gallery_ids": [1, 2, 3],
        "query_cams": [6, 6],
        "gallery_cams": [1, 2, 4],
    }
    rank_metrics(**good)
    with pytest.raises(BadInput, match=message) as caught:
        rank_metrics(**{**good, **change})
    assert "\n" not in str(caught.value)


def test_rank_zero_does_not_exist():
    with pytest.raises(BadInput, match="k = 1"):
        rank_metrics(torch.ones(1, 1), [1], [1], protocol="regdb").rank(0)
