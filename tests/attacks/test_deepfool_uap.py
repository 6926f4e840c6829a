"""The universal perturbation from minimal perturbations of single images, against DeepFool written out."""

from __future__ import annotations

import pytest
import torch
from tiny import make_training
from torch.nn.functional import normalize

from vbench.attacks.build import build_attack
from vbench.attacks.deepfool_uap import _Minimal
from vbench.core.errors import BadInput
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality

V, I = Modality.VISIBLE, Modality.INFRARED  # noqa: E741
THREAT = ThreatModel("8/255")


def fit(spec, victim, training):
    return build_attack(spec).fit(victim, training, THREAT, torch.Generator().manual_seed(0), quiet=True)


def decision(victim, image, modality, centroids):
    embedding = normalize(victim(image[None].clamp(0, 1), modality).embedding, dim=1)[0]
    return -(embedding - normalize(centroids, dim=1)).square().sum(1) / 2


@pytest.mark.parametrize("rivals", [1, 3])
def test_one_step_is_deepfools_step_to_the_nearest_boundary(rivals, victim):
    training = make_training(victim)
    attack = build_attack(f"deepfool_uap[rivals={rivals}]")
    centroids = training.prototypes(V)
    points, delta = training[I].images[:4].double() / 255, torch.zeros(1, 3, 16, 8, dtype=torch.float64)
    own = torch.stack([decision(victim, point, I, centroids).argmax() for point in points])
    found = _Minimal(victim, training, attack)._toward_boundary(points + delta, own, I)
    for n, point in enumerate(points):
        scores = decision(victim, point, I, centroids).tolist()
        others = sorted((k for k in range(len(scores)) if k != own[n]), key=lambda k: -scores[k])[:rivals]
        steps = []
        for k in others:
            free = point.clone().requires_grad_(True)
            now = decision(victim, free, I, centroids)
            (now[k] - now[own[n]]).backward()
            gap, w = abs(scores[k] - scores[own[n]]), free.grad
            steps.append((gap / w.norm().item(), (gap + 1e-4) / w.norm().item() ** 2 * w))
        expected = min(steps, key=lambda one: one[0])[1]
        assert torch.allclose(found[n], expected, atol=1e-9)


def test_what_is_added_fools_the_images_that_were_not_fooled(victim):
    training = make_training(victim)
    minimal = _Minimal(victim, training, build_attack("deepfool_uap[rivals=5]"))
    delta, index = torch.zeros(1, 3, 16, 8, dtype=torch.float64), torch.tensor([3])
    change, fooled = minimal.change(delta, V, index)
    if fooled:
        assert not change.any()
        return
    image, centroids = training[V].images[3].double() / 255, training.prototypes(I)
    before = decision(victim, image, V, centroids).argmax()
    assert decision(victim, image + 1.02 * change[0], V, centroids).argmax() != before
    assert minimal.spent % 5 == 0


def test_learns_to_fool_training_images_within_budget_and_evaluations(victim):
    training = make_training(victim)
    learnt = fit("deepfool_uap[evaluations=600,batch=4]", victim, training)
    assert learnt.delta.abs().max() <= THREAT.epsilon + 1e-12
    changed = 0
    for modality in Modality:
        centroids = training.prototypes(modality.other)
        for image in training[modality].images.double() / 255:
            before, after = (
                decision(victim, x, modality, centroids).argmax() for x in (image, image + learnt.delta)
            )
            changed += int(before != after)
    noise = (
        torch.rand(3, 16, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64) - 0.5
    ).sign()
    floor = 0
    for modality in Modality:
        centroids = training.prototypes(modality.other)
        for image in training[modality].images.double() / 255:
            shown = image + noise * THREAT.epsilon
            floor += int(
                decision(victim, image, modality, centroids).argmax()
                != decision(victim, shown, modality, centroids).argmax()
            )
    assert changed > floor
    assert learnt.fit_log["passes"] == len(learnt.fit_log["fooling_rates"])


def test_a_pass_that_fools_enough_ends_the_fit(victim):
    log = fit("deepfool_uap[evaluations=100000,fooled=0.01]", victim, make_training(victim)).fit_log
    assert log["passes"] < 50 and log["fooling_rates"][-1] >= 0.01


def test_one_identity_is_refused(victim):
    training = make_training(victim)
    training.__dict__["identities"] = training.identities[:1]
    with pytest.raises(BadInput, match="at least two training identities"):
        fit("deepfool_uap[evaluations=100]", victim, training)


def test_evaluations_that_a_step_does_not_use_up_end_the_fit(victim):
    training = make_training(victim)
    attack = "deepfool_uap[rivals=3,batch=4,fooled=1.0,evaluations={}]"
    some, more = (fit(attack.format(count), victim, training) for count in (60, 62))
    # Two evaluations pay for no step with three rivals.
    assert torch.equal(some.delta, more.delta)
    assert some.fit_log["passes"] == more.fit_log["passes"] < 20
