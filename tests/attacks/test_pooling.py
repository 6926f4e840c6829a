"""Dual averaging of a shared perturbation, against closed forms and a literal loop."""

from __future__ import annotations

import pytest
import torch

from vbench.attacks.updates import Pooling, small_start
from vbench.core.errors import BadInput, VbenchError
from vbench.core.threat import ThreatModel

THREAT = ThreatModel("8/255")
SHAPE = (3, 5, 4)
LIKE = torch.zeros(1, dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def learn(pooling, objective, updates, seed=0, threat=THREAT):
    return pooling.learn(SHAPE, objective, threat, seeded(seed), updates, LIKE, "test", True)


def slopes(count=1, seed=3):
    return torch.randn((count, *SHAPE), dtype=torch.float64, generator=seeded(seed))


def test_on_a_slope_the_pool_is_a_sum():
    """A linear objective always has the same gradient: the pool is its start plus n times the unit slope."""
    slope = slopes()
    found = learn(Pooling(rate=0.02), lambda delta: (delta * slope).sum(), 7)
    start = small_start(SHAPE, THREAT, seeded(), LIKE)
    eps = THREAT.epsilon
    expected = (start + 0.02 * eps * 7 * slope / slope.abs().mean()).clamp(-eps, eps)
    torch.testing.assert_close(found, expected[0])


def test_a_pixel_at_its_bound_remembers_its_votes():
    """Ten pushes up and four down leave it at the upper bound; a clipped step would have left it."""
    calls = []

    def objective(delta):
        calls.append(1)
        return delta.sum() * (1 if len(calls) <= 10 else -1)

    assert torch.equal(
        learn(Pooling(rate=0.5), objective, 14), torch.full(SHAPE, THREAT.epsilon, dtype=torch.float64)
    )


def test_every_image_has_one_vote_whatever_the_size_of_its_gradient():
    own = slopes(4)
    sizes = torch.tensor([1.0, 100.0, 1e-6, 5.0], dtype=torch.float64).view(-1, 1, 1, 1)
    pooling = Pooling(rate=0.01, copies=4)
    found = learn(pooling, lambda delta: (delta * own * sizes).sum(), 5)
    assert torch.allclose(found, learn(pooling, lambda delta: (delta * own).sum(), 5))
    votes = (own / own.abs().mean((1, 2, 3), keepdim=True)).sum(0)
    eps = THREAT.epsilon
    start = small_start(SHAPE, THREAT, seeded(), LIKE)[0]
    expected = (start + 0.01 * eps * 5 * votes / votes.abs().mean()).clamp(-eps, eps)
    torch.testing.assert_close(found, expected)


def test_an_image_without_a_gradient_does_not_vote():
    own = slopes(3)
    mute = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64).view(-1, 1, 1, 1)
    with_mute = learn(Pooling(rate=0.01, copies=3), lambda delta: (delta * own * mute).sum(), 4)
    two = own[[0, 2]]
    without = learn(Pooling(rate=0.01, copies=2), lambda delta: (delta * two).sum(), 4)
    torch.testing.assert_close(with_mute, without)


def two_hills(delta):
    """Climbing from above zero reaches twice the height that climbing from below does."""
    pixel = delta[:, 0, 0, 0]
    return torch.where(pixel > 0, 2 * pixel, -pixel).sum() + 0 * delta.sum()


@pytest.mark.parametrize("seed", range(6))
def test_of_many_starts_the_highest_goes_on(seed):
    found = learn(Pooling(rate=0.2, starts=12), two_hills, 120, seed)
    assert found[0, 0, 0] == pytest.approx(THREAT.epsilon)


def test_single_starts_end_on_either_hill():
    ends = {round(learn(Pooling(rate=0.2), two_hills, 40, seed)[0, 0, 0].item(), 6) for seed in range(8)}
    assert ends == {round(THREAT.epsilon, 6), round(-THREAT.epsilon, 6)}


@pytest.mark.parametrize(("starts", "updates"), [(1, 9), (3, 20), (8, 101)])
def test_starts_spend_the_same_gradients(starts, updates):
    spent = []

    def objective(delta):
        spent.append(torch.is_grad_enabled())
        return (delta * slopes()).sum()

    learn(Pooling(rate=0.01, starts=starts), objective, updates)
    assert sum(spent) == updates


def test_starts_are_compared_on_the_same_batches():
    """An objective of its batch alone: what chance draws decides nothing, so the first start goes on."""
    draws, generator = [], seeded(4)

    def objective(delta):
        draw = torch.rand((), generator=generator, dtype=torch.float64)
        if not torch.is_grad_enabled():
            draws.append(draw.item())
        return draw + 0 * delta.sum() + delta[:, 0, 0, 0].sum() * 1e-9

    Pooling(rate=0.01, starts=3).learn(SHAPE, objective, THREAT, generator, 30, LIKE, "test", True)
    third = len(draws) // 3
    assert draws[:third] == draws[third : 2 * third] == draws[2 * third :]


def test_what_cannot_be_learnt_is_refused():
    with pytest.raises(BadInput, match="too few for 8 starts"):
        learn(Pooling(rate=0.05, starts=8), two_hills, 9)
    with pytest.raises(VbenchError, match="no gradient"):
        learn(Pooling(rate=0.05), lambda delta: (delta * 0).sum(), 5)
    with pytest.raises(VbenchError, match="not finite"):
        learn(Pooling(rate=0.05), lambda delta: (delta * float("nan")).sum(), 5)
