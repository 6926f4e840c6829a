"""The self-metric and the furthest-negative attack against their definitions written out."""

from __future__ import annotations

import pytest
import torch
from tiny import CLASSES, make_context, make_training
from torch.nn.functional import normalize

from vbench.attacks.build import build_attack
from vbench.core.errors import BadInput
from vbench.core.threat import ThreatModel
from vbench.core.types import SIMILARITIES, Modality

V, I = Modality.VISIBLE, Modality.INFRARED  # noqa: E741
THREAT = ThreatModel("5/255")
EPS = 5 / 255


def perturb(spec, victim, images, modality=I, threat=THREAT):
    context = make_context(victim, images, modality, threat, training=make_training(victim))
    return build_attack(spec).perturb(victim, images, modality, context)


def literal(victim, image, modality, start, steps, rate, loss):
    """Signed ascent on one image, nothing shared with the package's loop."""
    current = start.clone()
    for _ in range(steps):
        current = current.detach().requires_grad_(True)
        loss(victim(current[None], modality).embedding[0]).backward()
        moved = current.detach() + rate * torch.sign(current.grad)
        current = torch.min(torch.max(moved, image - EPS), image + EPS).clamp(0, 1)
    return current.detach()


def test_sma_is_fifteen_steps_of_one_level_from_noise_in_the_whole_budget(victim, images):
    """At 5/255, the budget of the paper."""
    shown = perturb("sma[preset=paper,effort=published]", victim, images)
    assert (shown - perturb("sma[preset=v1]", victim, images)).abs().max() < 1e-6
    for n in (0, 7, 15):
        generator = torch.Generator().manual_seed(1000 + n)
        noise = torch.rand(images.shape[1:], generator=generator, dtype=torch.float64) * 2 - 1
        own = victim(images[n : n + 1], I).embedding[0].detach()
        start = (images[n] + EPS * noise).clamp(0, 1)
        expected = literal(victim, images[n], I, start, 15, 1 / 255, lambda f, own=own: (f - own) @ (f - own))
        assert (shown[n] - expected).abs().max() < 1e-6


def test_sma_differs_from_the_metric_attack_by_its_schedule_alone(victim, images):
    schedule = "steps=15,step_size=1/255"
    same = perturb(f"metric_ifgsm[start=1,{schedule}]", victim, images)
    assert torch.equal(same, perturb(f"sma[start=1,{schedule}]", victim, images))
    assert not torch.equal(same, perturb(f"metric_ifgsm[start=0.5,{schedule}]", victim, images))


@pytest.mark.parametrize(("push", "pull"), [(4, 1), (0, 1), (1, 3)])
def test_fna_is_the_weighted_difference_of_distances(push, pull, victim, images):
    shown = perturb(f"fna[preset=paper,effort=published,push={push},pull={pull}]", victim, images)
    training = make_training(victim)
    visible = training[V]
    centroids = torch.stack([visible.embeddings[visible.labels == j].mean(0) for j in range(CLASSES)])
    centroids = normalize(centroids, dim=1)
    for n in (1, 8):
        own = victim(images[n : n + 1], I).embedding[0].detach()
        order = sorted(range(CLASSES), key=lambda j, own=own: -((own - centroids[j]) @ (own - centroids[j])))
        far = [centroids[j] for j in order[:pull]]

        def loss(f, own=own, far=far):
            return push * (f - own) @ (f - own) - sum((f - c) @ (f - c) for c in far)

        expected = literal(victim, images[n], I, images[n], 15, 1 / 255, loss)
        assert (shown[n] - expected).abs().max() < 1e-6


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize(
    "spec", ["sma", "fna", "fna[guides=training,pull=2]", "fna[momentum=1,nesterov=true]"]
)
def test_both_raise_their_objective_under_every_similarity(spec, similarity, victim, images):
    victim.similarity = similarity
    attack = build_attack(spec)
    context = make_context(victim, images, I, THREAT, training=make_training(victim))
    objective = attack.objective(victim, I, context)
    shown = THREAT.enforce(images, attack.perturb(victim, images, I, context))
    THREAT.check(images, shown)
    noise = (images + context.uniform(images).sign() * EPS).clamp(0, 1)
    with torch.no_grad():
        before, after, chance = (objective(x) for x in (images, shown, noise))
    # Signed steps on the extreme of four products go to and fro between them: one image may end lower.
    assert (after > before).float().mean() > (0.9 if "-" in similarity else 0.999)
    assert (after > chance).float().mean() > 0.9
    assert after.mean() > max(before.mean(), chance.mean())


def test_fna_comes_nearer_to_its_negative_than_sma(victim, images):
    """What the pull is for: the same push without it leaves the furthest identity where it was."""
    attack = build_attack("fna")
    context = make_context(victim, images, I, THREAT, training=make_training(victim))
    (negative,) = attack._negatives(victim, I, context)
    with torch.no_grad():
        fna, sma = (victim(perturb(spec, victim, images), I).embedding for spec in ("fna[push=1]", "sma"))
    near = normalize(negative, dim=1)
    assert ((fna - near).square().sum(1) < (sma - near).square().sum(1)).float().mean() > 0.9


def test_negatives_are_of_the_modality_a_query_is_ranked_against(victim, images):
    training = make_training(victim)
    attack = build_attack("fna[pull=6]")
    for modality in Modality:
        context = make_context(victim, images, modality, THREAT, training=training)
        found = attack._negatives(victim, modality, context)
        assert found.shape == (CLASSES, len(images), 10)
        other = training.prototypes(modality.other)
        assert torch.equal(found[:, 0].sort(0).values, other.sort(0).values)


def test_what_the_attacks_know():
    assert build_attack("sma").knowledge == frozenset()
    assert build_attack("fna").knowledge == {"training"}
    assert build_attack("fna[guides=gallery]").knowledge == {"training", "gallery"}


def test_fna_refuses_more_negatives_than_identities_and_a_context_without_prototypes(victim, images):
    with pytest.raises(BadInput, match="pull=7, and 6 training identities"):
        perturb("fna[pull=7]", victim, images)
    with pytest.raises(BadInput, match="needs training prototypes"):
        build_attack("fna").perturb(victim, images, I, make_context(victim, images, I, THREAT))
