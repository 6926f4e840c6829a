"""rank_embeddings against rank_metrics on distances from scipy, and its memory on a large gallery."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from vbench.core.errors import BadInput, VbenchError
from vbench.core.types import SIMILARITIES
from vbench.metrics import rank_embeddings, rank_metrics, ranking_distance


def plain_distance(query, gallery, similarity):
    """Distances by scipy, or by a loop where scipy has none."""
    query, gallery = query.double().numpy(), gallery.double().numpy()
    if similarity in ("cosine", "euclidean"):
        return cdist(query, gallery, similarity)
    if similarity == "dot":
        return np.array([[-np.dot(q, g) for g in gallery] for q in query])
    choose, half = {"dot-max": max, "dot-min": min}[similarity], query.shape[1] // 2

    def fused(q, g):
        pairs = [(a, b) for a in (q[:half], q[half:]) for b in (g[:half], g[half:])]
        return -choose(np.dot(a, b) for a, b in pairs)

    return np.array([[fused(q, g) for g in gallery] for q in query])


def embedded_trial(seed, queries=37, gallery=53, dim=16, ids=8):
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(queries, dim, generator=generator) + 0.5
    gallery_embedding = torch.randn(gallery, dim, generator=generator) + 0.5
    rng = np.random.default_rng(seed)
    labels = (
        rng.integers(0, ids, queries),
        rng.integers(0, ids, gallery),
        rng.choice([3, 6], queries),
        rng.choice([1, 2, 4, 5], gallery),
    )
    return query, gallery_embedding, labels


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("protocol", ["sysu", "regdb", "llcm"])
@pytest.mark.parametrize("chunk", [1, 10, None])
def test_same_as_ranking_independent_distances(similarity, protocol, chunk):
    query, gallery, labels = embedded_trial(0)
    found = rank_embeddings(query, gallery, *labels, similarity=similarity, protocol=protocol, chunk=chunk)
    for distance in (
        ranking_distance(query, gallery, similarity),
        plain_distance(query, gallery, similarity),
    ):
        expected = rank_metrics(distance, *labels, protocol=protocol)
        assert torch.equal(found.first_match_rank, expected.first_match_rank)
        assert torch.equal(found.average_precision.nan_to_num(-1), expected.average_precision.nan_to_num(-1))
        assert torch.equal(found.cmc, expected.cmc)
        assert (found.mAP, found.mINP) == (expected.mAP, expected.mINP)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("gallery_size", [5, 301, 1000])
def test_collapsed_embeddings_are_ties_wherever_they_stand(similarity, gallery_size):
    """Single-precision products of equal rows differ by their place in the matrix; ours must not."""
    query, _, _ = embedded_trial(1, queries=23, dim=2048)
    collapsed = torch.randn(1, 2048, generator=torch.Generator().manual_seed(2)).expand(gallery_size, -1)
    ids = np.arange(gallery_size) % 5
    labels = (np.arange(23) % 5, ids, np.full(23, 6), np.full(gallery_size, 1))
    found = rank_embeddings(query, collapsed.contiguous(), *labels, similarity=similarity)
    assert found.tied_share == 1.0
    assert found.first_match_rank.tolist() == (np.arange(23) % 5 + 1).tolist()


def test_cosine_ignores_length_and_euclidean_does_not():
    query, gallery, labels = embedded_trial(3)
    stretch = torch.linspace(0.1, 9.0, len(gallery))[:, None]
    results = {
        name: [rank_embeddings(query, g, *labels, similarity=name).mAP for g in (gallery, gallery * stretch)]
        for name in ("cosine", "euclidean")
    }
    assert results["cosine"][0] == results["cosine"][1]
    assert results["euclidean"][0] != results["euclidean"][1]


@pytest.mark.parametrize("side", ["query", "gallery"])
def test_an_embedding_that_is_not_finite_is_named(side):
    query, gallery, labels = embedded_trial(4)
    {"query": query, "gallery": gallery}[side][5, 2] = float("nan")
    with pytest.raises(VbenchError, match=rf"{side} embedding 5 is not finite \(1 of "):
        rank_embeddings(query, gallery, *labels)


def test_bad_input():
    query, gallery, labels = embedded_trial(5)
    with pytest.raises(BadInput, match="did you mean 'cosine'"):
        rank_embeddings(query, gallery, *labels, similarity="cosin")
    with pytest.raises(BadInput, match="queries x D"):
        rank_embeddings(query[:, :3], gallery, *labels)
    with pytest.raises(BadInput, match="two equal halves"):
        rank_embeddings(query[:, :3], gallery[:, :3], *labels, similarity="dot-max")
    with pytest.raises(BadInput, match="chunk"):
        rank_embeddings(query, gallery, *labels, chunk=0)


@pytest.mark.slow
def test_memory_stays_bounded_with_a_gallery_of_100_000():
    """400 x 100,000 distances alone are 160 MB, and their masks and sums several times that."""
    script = """
        import resource
        import numpy as np, torch
        from vbench.metrics import rank_embeddings

        torch.set_num_threads(1)
        generator = torch.Generator().manual_seed(0)
        query = torch.randn(400, 8, generator=generator)
        gallery = torch.randn(100_000, 8, generator=generator)
        ids = np.arange(100_000) // 10
        labels = (np.arange(400), ids, np.full(400, 6), np.full(100_000, 1))
        rank_embeddings(query[:2], gallery[:100], labels[0][:2], ids[:100], [6, 6], [1] * 100)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = rank_embeddings(query, gallery, *labels, chunk=4)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert found.valid.all()
        print((after - before) // 1024)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100
