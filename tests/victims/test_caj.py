"""CAJ: AGW's network with its own augmentation, losses and mirror averaging."""

from __future__ import annotations

import math

import pytest
import torch
import two_stream_oracle as oracle
from released_agw import released_layout, save_released
from victim_checks import check_refused, misfits, untrained

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.victims.agw import AGW
from vbench.victims.caj import CAJ
from vbench.victims.load import build_victim
from vbench.victims.losses import enhanced_squared_triplet
from vbench.victims.training.batches import exchange_channels
from vbench.victims.training.recipe import TrainBatch

BOTH = [Modality.VISIBLE, Modality.INFRARED]
BLOCKS = (1, 3, 4, 1)
SMALL = {"width": 0.0625, "blocks": BLOCKS, "input_size": (32, 16), "device": "cpu"}


def draw(*shape, seed):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def state():
    return released_layout(6, width=4, blocks=BLOCKS)


@pytest.fixture(scope="module")
def path(state, tmp_path_factory):
    return save_released(tmp_path_factory.mktemp("released") / "regdb_adp_best.t", state, mINP=0.1)


def pooled_vectors(state, current):
    return ((current**3).mean(dim=(2, 3)) + 1e-12) ** (1 / 3)


@pytest.mark.parametrize("modality", BOTH)
def test_both_vectors_equal_the_network_written_out_and_are_averaged_with_the_mirror(state, path, modality):
    images = draw(3, 3, 32, 16, seed=1)
    expected = {"pooled": [], "neck": []}
    for view in (images, images.flip(3)):
        pooled = pooled_vectors(state, oracle.maps(state, view, modality)["layer4"])
        expected["pooled"].append(oracle.unit(pooled))
        expected["neck"].append(oracle.unit(oracle.batch_norm(state, "bottleneck", pooled)))
    for name, (plain, mirrored) in expected.items():
        averaged = oracle.unit((plain + mirrored) / 2)
        once = build_victim(CAJ, path, **SMALL, embedding=name, flip=False)(images, modality)
        twice = build_victim(CAJ, path, **SMALL, embedding=name)(images, modality)
        torch.testing.assert_close(once.embedding, plain, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(twice.embedding, averaged, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(twice.parts[name], averaged, rtol=1e-4, atol=1e-6)
        assert not torch.allclose(plain, averaged, atol=1e-4)


def test_defaults_are_what_the_authors_test_with(path):
    victim = build_victim(CAJ, path, **SMALL)
    assert (victim.flip, victim.embedding, victim.num_classes) == (True, "neck", 6)
    assert victim.weights_metadata["mINP"] == 0.1
    assert AGW.released is CAJ.released


@misfits(missing=["NL_3.0.theta.bias"], unexpected=["wpa.gate"], misshaped=["bottleneck.bias"])
def test_file_that_does_not_fit_is_refused_by_name(state, tmp_path, change, message):
    check_refused(CAJ, state, change, message, tmp_path / "caj.t", **SMALL)


@pytest.mark.parametrize("stage", CAJ.stages)
def test_edits_reach_both_passes_and_row_i_belongs_to_image_i(path, stage):
    victim = build_victim(CAJ, path, **SMALL)
    images = draw(3, 3, 32, 16, seed=2)
    plain = victim(images, BOTH[0])
    calls = []

    def darken_second(features):
        calls.append(features.shape)
        scale = torch.ones(3, 1, 1, 1)
        scale[1] = 0.3
        return features * scale

    edited = victim(images, BOTH[0], {stage: darken_second})
    assert calls == [plain.features[stage].shape] * 2
    moved = (edited.embedding - plain.embedding).norm(dim=1)
    assert moved[1] > 1e-5 and moved[0] < 1e-6 and moved[2] < 1e-6


def test_gradient_reaches_the_image_through_both_passes(path):
    victim = build_victim(CAJ, path, **SMALL).double()
    image = draw(1, 3, 32, 16, seed=3).double().requires_grad_()
    direction, step = draw(victim.embedding_dim, seed=4).double(), draw(1, 3, 32, 16, seed=5).double() - 0.5

    def score(x):
        return (victim(x, BOTH[1]).embedding @ direction).sum()

    (gradient,) = torch.autograd.grad(score(image), image)
    with torch.no_grad():
        numeric = (score(image + 1e-7 * step) - score(image - 1e-7 * step)) / 2e-7
    assert gradient.abs().max() > 0
    torch.testing.assert_close((gradient * step).sum(), numeric, rtol=1e-4, atol=1e-8)


def squared_triplet(vectors, labels):
    """The loss anchor by anchor, pair by pair."""
    rows, total = vectors.tolist(), 0.0
    for i, anchor in enumerate(rows):
        near, far = [], []
        for j, other in enumerate(rows):
            if j != i:
                distance = math.sqrt(sum((a - b) ** 2 for a, b in zip(anchor, other, strict=True)))
                (near if labels[j] == labels[i] else far).append(distance)
        positive = sum(d * math.exp(d) for d in near) / sum(math.exp(d) for d in near)
        negative = sum(d * math.exp(-d) for d in far) / sum(math.exp(-d) for d in far)
        square = (positive - negative) ** 2
        total += math.log1p(math.exp(square if positive > negative else -square))
    return total / len(rows)


def test_squared_triplet_equals_the_loop_and_has_its_gradient():
    labels = torch.tensor([0, 1, 0, 2, 1, 2, 2])
    vectors = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    assert enhanced_squared_triplet(vectors, labels).item() == pytest.approx(
        squared_triplet(vectors, labels.tolist()), rel=1e-9
    )
    assert torch.autograd.gradcheck(
        lambda x: enhanced_squared_triplet(x, labels), vectors.requires_grad_(), atol=1e-6
    )


def test_squared_triplet_of_a_very_hard_anchor_is_finite_and_still_pulls():
    vectors = torch.tensor([[0.0], [60.0], [1.0], [59.0]], requires_grad=True)
    loss = enhanced_squared_triplet(vectors, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert loss.isfinite() and vectors.grad.isfinite().all() and vectors.grad.abs().max() > 1


def literal_exchange(images, shares, generator):
    """Each image on its own: the first kind whose cumulative share exceeds a uniform draw."""
    out = images.clone()
    for image, at in zip(out, torch.rand(len(images), dtype=torch.float64, generator=generator), strict=True):
        red, green, blue = image.clone()
        kind, reached = 0, shares[0] / sum(shares)
        while at >= reached:
            kind += 1
            reached = sum(shares[: kind + 1]) / sum(shares)
        grey = 0.2989 * red + 0.5870 * green + 0.1140 * blue
        if kind < 4:
            image[:] = (red, green, blue, grey)[kind]
    return out


def test_exchange_copies_one_source_to_all_channels_in_the_given_shares():
    images = draw(4000, 3, 2, 1, seed=7)
    before = images.clone()
    shares = (2, 2, 2, 1, 1)
    changed = exchange_channels(images, shares, torch.Generator().manual_seed(8))
    assert torch.equal(images, before)
    torch.testing.assert_close(
        changed, literal_exchange(images, shares, torch.Generator().manual_seed(8)), rtol=1e-6, atol=1e-7
    )
    copied = [(changed == images[:, [c]]).all(dim=(1, 2, 3)).float().mean().item() for c in range(3)]
    assert copied == pytest.approx([0.25] * 3, abs=0.03)
    assert (changed == images).all(dim=(1, 2, 3)).float().mean().item() == pytest.approx(0.125, abs=0.02)


@pytest.mark.parametrize("shares", [(1, 1, 1), (0, 0, 0, 0, 0), (1, 1, 1, -1, 1)])
def test_senseless_shares_are_refused(shares):
    with pytest.raises(BadInput, match="five shares"):
        exchange_channels(torch.zeros(1, 3, 1, 1), shares, torch.Generator())


def test_losses_equal_the_objective_written_out(state, path):
    victim = build_victim(CAJ, path, **SMALL)
    visible, infrared = draw(48, 3, 32, 16, seed=9), draw(24, 3, 32, 16, seed=10)
    labels = torch.arange(6).repeat_interleave(4)
    batch = TrainBatch(
        visible, infrared, labels, torch.Generator().manual_seed(11), instances=4, label_smoothing=0.1
    )
    seen = {}
    for name in ("visible_stem", "infrared_stem"):
        stem = getattr(victim.trunk, name)
        stem.register_forward_pre_hook(lambda _, inputs, name=name: seen.setdefault(name, inputs[0]))
    losses = victim.training_losses(batch)
    generator = torch.Generator().manual_seed(11)
    first, second = oracle.normalised(visible[:24]), oracle.normalised(visible[24:])
    second = literal_exchange(second, (1, 1, 1, 0, 0), generator)
    thermal = literal_exchange(oracle.normalised(infrared), (2, 2, 2, 1, 1), generator)
    for name, wanted in (("visible_stem", torch.cat((first, second))), ("infrared_stem", thermal)):
        torch.testing.assert_close(seen[name], wanted, rtol=1e-5, atol=1e-6)
    stems = [oracle.stem(state, view, BOTH[0]) for view in (first, second)]
    stems.append(oracle.stem(state, thermal, BOTH[1]))
    pooled = pooled_vectors(state, oracle.shared_maps(state, torch.cat(stems))["layer4"])
    logits = oracle.batch_norm(state, "bottleneck", pooled) @ state["classifier.weight"].T
    all_labels = torch.cat((labels, labels, labels))
    assert set(losses) == {"identity", "triplet"}
    torch.testing.assert_close(
        losses["identity"], oracle.cross_entropy(logits, all_labels, 0.1), rtol=1e-4, atol=0
    )
    assert losses["triplet"].item() == pytest.approx(squared_triplet(pooled, all_labels.tolist()), rel=1e-4)


def test_training_reaches_every_parameter_and_only_the_given_generator():
    victim = CAJ(num_classes=4, width=0.0625, blocks=BLOCKS, input_size=(32, 16)).train()
    with torch.no_grad():
        for added in victim.non_local.values():
            for one in added:
                one.norm.weight.fill_(0.2)
    before = torch.get_rng_state()
    batch = TrainBatch(
        draw(8, 3, 32, 16, seed=12),
        draw(4, 3, 32, 16, seed=13),
        torch.tensor([0, 0, 3, 3]),
        torch.Generator().manual_seed(14),
        instances=2,
    )
    assert untrained(victim, batch) == []
    assert torch.equal(torch.get_rng_state(), before)


def test_recipes_ask_for_two_visible_views():
    thin, full = CAJ(num_classes=2, **CAJ.THIN).recipe(), CAJ(num_classes=2).recipe()
    assert thin.visible_views == full.visible_views == 2
    assert (full.epochs, full.erasing, full.learning_rate) == (100, 0.5, 0.1)
