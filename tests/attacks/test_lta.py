"""The local transformation attack against its loop written out, and what it does to grey images."""

from __future__ import annotations

import pytest
import torch
from tiny import SIZE, make_context

from vbench.attacks.build import build_attack
from vbench.attacks.steps import stream_seeds
from vbench.core.errors import BadInput
from vbench.core.threat import ThreatModel
from vbench.core.types import SIMILARITIES, Modality
from vbench.data.pixels import grey_images

V = Modality.VISIBLE
THREAT = ThreatModel("5/255")
EPS = 5 / 255


def perturb(spec, victim, images, threat=THREAT):
    context = make_context(victim, images, V, threat)
    return build_attack(spec).perturb(victim, images, V, context)


def test_fifteen_steps_of_one_level_with_momentum_from_the_clean_image(victim, images):
    spec = "lta[preset=paper,effort=published]"
    attack, shown = build_attack(spec), perturb(spec, victim, images)
    assert (shown - perturb("lta[preset=v1]", victim, images)).abs().max() < 1e-6
    for n in (0, 9):
        (seed,) = stream_seeds([1000 + n], "grey patches")
        generator = torch.Generator().manual_seed(seed)
        current, velocity = images[n].clone(), torch.zeros_like(images[n])
        for _ in range(15):
            copy, inside = images[n].clone(), attack.patch(SIZE, generator)
            red, green, blue = images[n]
            copy[:, inside] = (0.299 * red + 0.587 * green + 0.114 * blue)[inside]
            guide = victim(copy[None], V).embedding[0].detach()
            current = current.detach().requires_grad_(True)
            (victim(current[None], V).embedding[0] - guide).square().sum().backward()
            velocity = velocity + current.grad / current.grad.abs().mean()
            moved = current.detach() + velocity.sign() / 255
            current = torch.min(torch.max(moved, images[n] - EPS), images[n] + EPS).clamp(0, 1)
        assert (shown[n] - current).abs().max() < 1e-6


def test_patches_keep_to_their_shares_and_lie_anywhere():
    attack, generator = build_attack("lta"), torch.Generator().manual_seed(0)
    seen = torch.zeros(40, 20)
    for _ in range(1500):
        inside = attack.patch((40, 20), generator)
        rows, columns = inside.any(1), inside.any(0)
        tall, wide = int(rows.sum()), int(columns.sum())
        assert int(inside.sum()) == tall * wide
        # Both sides are rounded to whole pixels.
        assert (tall - 0.5) * (wide - 0.5) <= 0.4 * 800 and (tall + 0.5) * (wide + 0.5) >= 0.02 * 800
        assert (tall - 0.5) / (wide + 0.5) <= 1 / 0.3 and (tall + 0.5) / (wide - 0.5) >= 0.3
        seen += inside
    assert (seen > 0).all()
    assert not build_attack("lta[smallest=1,largest=1,ratio=1]").patch((40, 20), generator).any()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_it_raises_the_distance_to_grey_copies_more_than_noise(similarity, victim, images):
    from vbench.attacks.distances import squared_distance

    victim.similarity = similarity
    context = make_context(victim, images, V, THREAT)
    attack, generator = build_attack("lta"), torch.Generator().manual_seed(3)
    patches = torch.stack([attack.patch(SIZE, generator) for _ in range(8)])

    def objective(candidate):
        with torch.no_grad():
            copies = [torch.where(patch, grey_images(images), images) for patch in patches]
            found = victim(candidate, V).embedding
            rows = [squared_distance(found, victim(copy, V).embedding, similarity) for copy in copies]
        return torch.stack(rows).mean(0)

    shown = THREAT.enforce(images, attack.perturb(victim, images, V, context))
    noise = THREAT.enforce(images, images + context.uniform(images).sign() * EPS)
    # Signed steps on the extreme of four products go to and fro between them: one image may end lower.
    share = 0.85 if "-" in similarity else 0.999
    assert (objective(shown) > objective(images)).float().mean() > share
    assert (objective(shown) > objective(noise)).float().mean() > 0.85


def test_a_grey_image_starts_from_noise_and_is_attacked_too(victim, images):
    grey = grey_images(images)
    grey = (grey * 255).round() / 255
    context = make_context(victim, grey, V, THREAT)
    shown = THREAT.enforce(grey, build_attack("lta").perturb(victim, grey, V, context))
    sma = THREAT.enforce(grey, build_attack("sma").perturb(victim, grey, V, context))
    assert ((shown - sma).abs() > 0.5 / 255).float().mean() < 0.02
    mixed = torch.cat([images[:1], grey[1:2]])
    pair = make_context(victim, mixed, V, THREAT)
    moved = (build_attack("lta").perturb(victim, mixed, V, pair) - mixed).abs().amax((1, 2, 3))
    assert (moved > 0.9 * EPS).all()


def test_chance_is_each_images_own_and_bad_shares_are_refused(victim, images):
    whole = perturb("lta", victim, images)
    context = make_context(victim, images[5:6], V, THREAT, first=5)
    alone = build_attack("lta").perturb(victim, images[5:6], V, context)
    assert (alone - whole[5:6]).abs().max() < 1e-9
    with pytest.raises(BadInput, match="ratio"):
        build_attack("lta[ratio=0]")
