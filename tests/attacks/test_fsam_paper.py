"""``fsam_uap[preset=paper]``: the paper's equations against transcriptions, and what its text leaves open."""

from __future__ import annotations

import pytest
import torch
from tiny import TinyVictim, make_training
from torch.nn.functional import conv2d, cross_entropy

from vbench.attacks.build import build_attack, label
from vbench.attacks.fsam_uap.attack import _deltas
from vbench.attacks.fsam_uap.losses import aqal, centres
from vbench.attacks.fsam_uap.modules import FSAM, attention
from vbench.attacks.fsam_uap.training import learn_by_sgd, rates, with_true_labels
from vbench.attacks.perturbation import Perturbation
from vbench.core.errors import BadInput
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.run.craft import Meter

THREAT = ThreatModel("8/255")
V, I = Modality.VISIBLE, Modality.INFRARED  # noqa: E741
QUICK = "preset=paper,evaluations=192,batch=16"


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def victim():
    return TinyVictim().double().eval()


def fit(victim, spec=QUICK, seed=0):
    return build_attack(f"fsam_uap[{spec}]").fit(
        victim, make_training(victim), THREAT, seeded(seed), quiet=True
    )


def points(identities, each, seed):
    shape = (identities * each, 5)
    return {
        m: torch.randn(shape, generator=seeded(seed + k), dtype=torch.float64) for k, m in enumerate(Modality)
    }


def center(rows, j, each):
    return sum(rows[j * each + n] for n in range(each)) / each


@pytest.mark.parametrize("each", [1, 2, 4])
@pytest.mark.parametrize("alpha", [0.2, 4.0])
def test_aqal_is_the_published_sum_over_class_centres(each, alpha):
    x2, x1 = points(3, each, 1), points(3, each, 5)

    def distance(a, b):
        return ((a - b) ** 2).sum().sqrt()

    total, active = 0.0, 0
    for own, other in ((V, I), (I, V)):
        for j in range(3):
            for k in range(3):
                if j == k:
                    continue
                c1 = center(x1[own], j, each)
                value = (
                    distance(center(x2[own], j, each), c1)
                    - distance(center(x2[other], j, each), c1)
                    - distance(center(x2[own], j, each), center(x2[own], k, each))
                    + alpha
                ).item()
                total += max(value, 0.0)
                active += value > 0
    rows = [centres(x2[V], each), centres(x2[I], each), centres(x1[V], each), centres(x1[I], each)]
    found = aqal(*rows, alpha, "relu", "sum")
    assert found.loss.item() == pytest.approx(total, abs=1e-6)
    assert found.active == pytest.approx(active / 12)


def masked(module, phase):
    pooled = torch.stack([phase.mean(1), phase.max(1).values], 1)
    return torch.sigmoid(conv2d(pooled, module.attention.conv.weight, module.attention.conv.bias, padding=3))


def fsam(module, features):
    """x_1 = IFFT(M(x_p) * x_p, x_a), transform scaled by 1 / sqrt(HW), four-quadrant phase."""
    spectrum = torch.fft.fft2(features, norm="ortho")
    amplitude, phase = (spectrum.real**2 + spectrum.imag**2).sqrt(), torch.atan2(spectrum.imag, spectrum.real)
    phase = masked(module, phase) * phase
    turned = torch.complex(amplitude * phase.cos(), amplitude * phase.sin())
    return torch.fft.ifft2(turned, norm="ortho").real


def test_the_paths_are_fsam_at_both_ends_and_the_second_stage_after_what_is_shared(victim):
    """x_1 and x_2 of each modality through weights of its own, stage by stage."""
    attack = build_attack("fsam_uap[preset=paper,level=feature]")
    train, delta = make_training(victim), torch.rand((1, 6, 16, 8), generator=seeded(3)).double() / 32
    modules = attack._modules(victim, seeded(1)).double()
    positions = {modality: torch.tensor([0, 1, 6, 7]) for modality in Modality}
    expected = {}
    for number, modality in enumerate(Modality):
        images = train[modality].batch(positions[modality]) + delta[:, 3 * number : 3 * number + 3]
        own = f"{modality.value}/"
        stem = torch.tanh(victim.norm(victim.stems[modality.value](images.clamp(0, 1) - 0.5)))
        stem = fsam(modules.frequency[own + "stem"], stem)
        x1 = fsam(modules.frequency[own + "layer1"], torch.tanh(victim.body(stem)))
        module = modules.spatial[own + "layer1"]
        x2 = masked(module, x1) * x1
        loss = cross_entropy(victim.classifier(x2.mean((2, 3))), train[modality].labels[positions[modality]])
        expected[modality] = (x1.mean((2, 3)), x2.mean((2, 3)), loss)
    train, _ = with_true_labels(always_right(train))
    found = attack._terms(victim, train, modules, delta, positions, None)
    x2 = [centres(expected[m][1], 2) for m in (V, I)]
    x1 = [centres(expected[m][0], 2) for m in (V, I)]
    loss = aqal(*x2, *x1, 0.2, "relu", "sum").loss
    identity = sum(expected[m][2] for m in Modality)
    assert found.total.item() == pytest.approx((identity + loss).item())
    assert found.attack.item() == pytest.approx((identity - loss).item())


def test_a_rectified_map_stays_without_negative_values():
    module = FSAM(attention("cbam_spatial", 3, 0.5, seeded()).double(), rectify=True)
    maps = torch.rand((2, 3, 6, 4), generator=seeded(1), dtype=torch.float64)
    maps[1, 0, 0, 0] = -0.5
    plain, found = FSAM(module.attention)(maps), module(maps)
    assert (plain[0] < 0).any()
    assert torch.equal(found[0], plain[0].clamp_min(0)) and torch.equal(found[1], plain[1])


def always_right(train):
    """The view of a classifier that knows all training identities."""
    from dataclasses import replace

    views = {m: replace(view, predictions=view.labels.clone()) for m, view in train.views.items()}
    return type(train)(views)


def test_d_of_each_modality_is_added_to_its_images_alone(victim, tmp_path):
    learnt = fit(victim)
    assert learnt.infrared is not None and not torch.equal(learnt.infrared, learnt.delta)
    images = torch.full((2, 3, 16, 8), 0.5, dtype=torch.float64)
    for modality, own in ((V, learnt.delta), (I, learnt.infrared)):
        assert torch.allclose(learnt.apply(images, modality) - images, own.expand_as(images))
    with pytest.raises(BadInput, match="for each modality"):
        learnt.apply(images)
    learnt.save(tmp_path / "d.safetensors")
    again = Perturbation.load(tmp_path / "d.safetensors")
    assert again.digest == learnt.digest and torch.equal(again.infrared, learnt.infrared)
    larger = again.resized((32, 16), THREAT)
    assert larger.infrared.shape == larger.delta.shape == (3, 32, 16)
    assert not again.still().infrared.any() and not again.still().delta.any()
    assert len({again.digest, larger.digest, again.still().digest}) == 3


def test_six_channels_are_visible_then_infrared():
    delta = torch.arange(6.0).view(1, 6, 1, 1)
    assert [own.flatten().tolist() for own in _deltas(delta).values()] == [[0, 1, 2], [3, 4, 5]]
    copies = delta.expand(4, -1, -1, -1)
    assert [own.shape[0] for own in _deltas(copies).values()] == [2, 2]


def test_a_batch_holds_the_stated_images_of_each_identity(victim):
    train = make_training(victim)
    chosen, positions = train.pairs(4, seeded(), 2)
    for modality in Modality:
        labels = train[modality].labels[positions[modality]]
        assert labels.tolist() == chosen.repeat_interleave(2).tolist()
        assert len(set(positions[modality].tolist())) == 8
    _, more = train.pairs(2, seeded(), 4)
    assert len(more[V]) == 8 and len(set(more[V].tolist())) == 6


def test_the_rate_rises_and_is_a_tenth_at_a_third_and_at_five_sixths():
    found = rates(60, 0.1, 1 / 6)
    assert found[0] == pytest.approx(0.01) and found[9] == found[19] == pytest.approx(0.1)
    assert found[20] == found[49] == pytest.approx(0.01) and found[50] == pytest.approx(0.001)


def test_training_is_sgd_with_momentum_and_weight_decay():
    start, weight = torch.full((1, 3, 1, 1), 0.01, dtype=torch.float64), torch.ones(1, requires_grad=True)
    target = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)

    def losses(delta):
        return (delta.flatten() * target).sum(), weight.sum() * 2

    found = learn_by_sgd(start, [weight], losses, THREAT, [0.05, 0.01], "test", quiet=True)
    delta, w, velocity, speed = start.flatten().clone(), 1.0, torch.zeros(3), 0.0
    for rate in (0.05, 0.01):
        velocity = 0.9 * velocity + target + 5e-4 * delta
        speed = 0.9 * speed + 2 + 5e-4 * w
        delta = (delta - rate * velocity).clamp(-8 / 255, 8 / 255)
        w -= rate * speed
    assert torch.allclose(found.flatten(), delta)
    assert weight.item() == pytest.approx(w)


def test_true_labels_are_taken_where_the_classifier_knows_the_identities(victim):
    train = make_training(victim)
    unchanged, share = with_true_labels(train)
    assert unchanged is train and share < 0.5
    known, share = with_true_labels(always_right(train))
    assert share == 1.0 and torch.equal(known[V].predictions, known[V].labels)


def test_where_alpha_leaves_no_triple_active_the_fit_goes_on_and_says_so(victim):
    learnt = fit(victim)
    assert learnt.fit_log["active_triples"] == 0.0
    assert "AQAL inactive (0.0 % of triples)" in learnt.fit_log["warnings"]
    alive = fit(victim, f"{QUICK},margin=20")
    assert alive.fit_log["active_triples"] == 1.0
    assert not any("inactive" in text for text in alive.fit_log["warnings"])


OPTIONS = [
    "",
    "images=4+4",
    "anchors=x1_first",
    "anchors=clean",
    "space=embedding",
    "space=maps",
    "delta=total",
    "delta=fixed",
    "masks=first_stage",
    "masks=shared",
    "perturbations=shared",
    "mask_start=0.7",
    "warmup=0.9",
    "modules=joint",
    "modules=clean",
    "reduction=mean",
    "stages=stem",
    "focus=stem",
    "fsam=false",
    "sfm=false",
    "aqal=false",
    "fsam=false,sfm=false",
    "sgd_rate=0.01",
]


def test_every_open_point_is_an_option_that_matters(victim):
    digests = {}
    for option in OPTIONS:
        learnt = fit(victim, f"{QUICK},margin=20,{option}".rstrip(","))
        digests.setdefault(learnt.digest, []).append(option)
    assert all(len(same) == 1 for same in digests.values()), [s for s in digests.values() if len(s) > 1]


@pytest.mark.parametrize("option", ["", "anchors=x1_first", "modules=joint", "epochs=3", "sfm=false"])
def test_a_fit_spends_its_gradient_evaluations(victim, option):
    with Meter(victim) as meter:
        fit(victim, f"{QUICK},{option}".rstrip(","))
    # Three epochs over 36 images, in updates of 16 that take two passes.
    wanted = 2 * 3 * 36 if option == "epochs=3" else 192
    assert wanted - 48 < meter.evaluations <= wanted


def test_feature_level_keeps_the_modules_of_each_modality(victim):
    attack = build_attack(f"fsam_uap[{QUICK},level=feature]")
    learnt = attack.fit(victim, make_training(victim), THREAT, seeded(), quiet=True)
    edits = attack.edits(learnt, victim)
    images = torch.rand((2, 3, 16, 8), generator=seeded(4), dtype=torch.float64)
    assert set(edits) == set(Modality)
    outputs = [victim(images, V, edits[modality]).embedding for modality in Modality]
    assert not torch.allclose(*outputs)
    assert {f"{m.value}/stem" for m in Modality} == {
        name.split(".")[1] for name in learnt.modules if "stem" in name
    }


def test_presets_say_what_they_are():
    usual = build_attack("fsam_uap")
    assert build_attack("fsam_uap[preset=v1]") == usual and label(usual) == "fsam_uap"
    former = build_attack("fsam_uap[preset=v1_paper]")
    assert former == build_attack("fsam_uap[anchors=adversarial,stages=all]")
    assert label(former) == "fsam_uap[preset=v1_paper]"
    paper = build_attack("fsam_uap[preset=paper]")
    assert (paper.margin, paper.images, paper.stages, paper.focus) == (0.2, "2+2", "ends", "last")
    assert label(paper) == "fsam_uap[preset=paper]"


def test_what_the_projects_own_optimizer_cannot_train_is_refused(victim):
    for setting in ("modules=total", "delta=fixed"):
        with pytest.raises(BadInput, match="need optimizer=sgd"):
            fit(victim, setting)
