"""CMPS against its algorithm written out, and what it does to the triplets it is made of."""

from __future__ import annotations

import pytest
import torch
from tiny import first_identity, make_training
from torch.nn.functional import normalize

from vbench.attacks.build import build_attack
from vbench.attacks.cmps import Triplets
from vbench.attacks.training import ModalityView, TrainingView
from vbench.core.errors import BadInput
from vbench.core.threat import ThreatModel
from vbench.core.types import SIMILARITIES, Modality
from vbench.data.pixels import grey_images
from vbench.run.craft import Meter

V, I = Modality.VISIBLE, Modality.INFRARED  # noqa: E741
THREAT = ThreatModel("8/255")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fit(spec, victim, training):
    return build_attack(spec).fit(victim, training, THREAT, seeded(), quiet=True)


def infrared_like(training):
    """The training view with infrared images of three equal channels, as every dataset gives them."""
    view = training[I]
    images = view.images[:, :1].expand(-1, 3, -1, -1).clone()
    return TrainingView({V: training[V], I: ModalityView(images, view.labels, view.embeddings, None)})


def centroid(embeddings, labels, label):
    rows = [row for row, own in zip(embeddings, labels.tolist(), strict=True) if own == label]
    return sum(rows) / len(rows)


def euclidean(a, b):
    return (normalize(a, dim=0) - normalize(b, dim=0)).norm()


def literal_loss(victim, training, delta, image, modality, label, grey, pull_to):
    """Equations 1, 4 and 7 for one image; ``pull_to`` is the list of centroids it is drawn to."""
    image = grey_images(image[None])[0] if grey else image
    with torch.no_grad():
        clean = victim(image[None], modality).embedding[0]
    f = victim((image + delta).clamp(0, 1)[None], modality).embedding[0]
    push, pull = pull_to
    labels = sorted(push)
    far = max(labels, key=lambda k: euclidean(clean, pull[k]).item())
    return (euclidean(pull[far], f) - euclidean(push[label], f) + 0.5).clamp_min(0)


def test_learns_what_the_algorithm_written_out_learns(victim):
    training = make_training(victim)
    learnt = fit("cmps[evaluations=48,batch=6,grey=0.5]", victim, training).delta

    labels = training.identities.tolist()
    with torch.no_grad():
        grey = victim(grey_images(training[V].images.double() / 255), V).embedding
    own = {m: {k: centroid(training[m].embeddings, training[m].labels, k) for k in labels} for m in Modality}
    greys = {k: centroid(grey, training[V].labels, k) for k in labels}

    generator, eps = seeded(), 8 / 255
    delta = (torch.rand(1, 3, 16, 8, generator=generator, dtype=torch.float64) * 2 - 1)[0] * eps / 10
    momentum = torch.zeros_like(delta)
    for _ in range(4):
        chosen, positions = training.pairs(6, generator)
        coins = torch.rand(6, generator=generator, dtype=torch.float64) < 0.5
        for modality in (V, I):
            variable = delta.clone().requires_grad_(True)
            losses = []
            for n, label in enumerate(chosen.tolist()):
                image = training[modality].images[positions[modality][n]].double() / 255
                turned = modality is V and bool(coins[n])
                sets = (own[I], greys) if modality is V else (greys, own[V])
                sets = (own[V], own[I]) if turned else sets
                losses.append(literal_loss(victim, training, variable, image, modality, label, turned, sets))
            (gradient,) = torch.autograd.grad(sum(losses), variable)
            momentum = 1.0 * momentum - gradient / gradient.abs().sum()
            delta = (delta + eps / 12 * momentum.sign()).clamp(-eps, eps)
    assert torch.allclose(learnt, delta, atol=1e-12)


def mean_loss(victim, training, delta):
    triplets = Triplets(victim, training, margin=2.0)
    losses = []
    with torch.no_grad():
        for modality in Modality:
            labels = training[modality].labels
            rows = torch.arange(len(labels))
            if modality is V:
                for turned in (rows < 0, rows >= 0):
                    losses.append(triplets.visible(delta, labels, rows, turned))
            else:
                losses.append(triplets.infrared(delta, labels, rows))
    return torch.stack([loss.mean() for loss in losses])


@pytest.mark.parametrize(("grey", "lowered"), [(0, [0, 2]), (1, [1, 2])])
def test_lowers_the_triplet_losses_it_is_shown_more_than_noise(grey, lowered, victim):
    training = make_training(victim)
    learnt = fit(f"cmps[evaluations=1200,batch=6,grey={grey}]", victim, training).delta
    noise = (torch.rand(3, 16, 8, generator=seeded(9), dtype=torch.float64) - 0.5).sign() * 8 / 255
    after = mean_loss(victim, training, learnt)[lowered]
    assert (after < mean_loss(victim, training, torch.zeros_like(learnt))[lowered]).all()
    assert (after < mean_loss(victim, training, noise)[lowered]).all()


def test_grey_centroids_come_from_grey_images(victim):
    training = make_training(victim)
    pictures = grey_images(training[V].images.double() / 255)
    with torch.no_grad():
        embedded = victim(pictures, V).embedding
    expected = torch.stack([embedded[training[V].labels == k].mean(0) for k in training.identities])
    assert torch.allclose(Triplets(victim, training, 0.5).grey, expected, atol=1e-12)


def test_grey_is_the_weighted_sum_and_leaves_infrared_alone(victim, images):
    grey = grey_images(images)
    red, green, blue = images.unbind(1)
    for channel in grey.unbind(1):
        assert torch.allclose(channel, 0.299 * red + 0.587 * green + 0.114 * blue, atol=1e-12)
    view = infrared_like(make_training(victim))[I]
    infrared = view.images.double() / 255
    assert torch.allclose(grey_images(infrared), infrared, atol=1e-12)


def test_modalities_take_turns_through_their_own_stems_within_the_budget(victim):
    training = make_training(victim)
    seen = []

    def note(name):
        def hook(module, inputs):
            if torch.is_grad_enabled():
                seen.append(name)

        return hook

    for name, stem in victim.stems.items():
        stem.register_forward_pre_hook(note(name))
    with Meter(victim) as meter:
        fit("cmps[evaluations=50,batch=6]", victim, training)
    assert seen == ["visible", "infrared"] * 4
    assert meter.evaluations == 48
    assert meter.forwards == len(training[V].labels)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_every_similarity_of_a_victim_is_served(similarity, victim):
    victim.similarity = similarity
    training = make_training(victim)
    learnt = fit("cmps[evaluations=600,batch=6,margin=2]", victim, training)
    assert learnt.delta.abs().max() == pytest.approx(8 / 255)
    assert 0 < learnt.fit_log["active_triplets"] <= 1
    before, after = (mean_loss(victim, training, delta) for delta in (learnt.delta * 0, learnt.delta))
    assert after.sum() < before.sum()


def test_refusals(victim):
    training = make_training(victim)
    with pytest.raises(BadInput, match="less than one update"):
        fit("cmps[evaluations=5,batch=6]", victim, training)
    with pytest.raises(BadInput, match="grey"):
        build_attack("cmps[grey=1.5]")
    with pytest.raises(BadInput, match="two training identities"):
        fit("cmps[evaluations=50,batch=6]", victim, first_identity(training))
