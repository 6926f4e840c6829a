"""Attacks and their shared step loop against ART and torchattacks on the same loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchattacks
from art.attacks.evasion import (
    BasicIterativeMethod,
    FastGradientMethod,
    MomentumIterativeMethod,
    ProjectedGradientDescentPyTorch,
    SimBA,
)
from art.estimators.classification import PyTorchClassifier
from tiny import CLASSES, SIZE, TinyVictim, make_context
from torch.nn.functional import cross_entropy

from vbench.attacks.build import build_attack
from vbench.attacks.classification import Classifier
from vbench.attacks.steps import InputDiversity, ascend
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality

EPS = 8 / 255


@pytest.fixture
def setting(victim, images):
    victim, images = victim.float(), images.float()
    classifier = Classifier(victim, Modality.VISIBLE).eval()
    wrapped = PyTorchClassifier(
        classifier,
        torch.nn.CrossEntropyLoss(),
        (3, *SIZE),
        CLASSES,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    with torch.no_grad():
        labels = classifier(images).argmax(1)
    return classifier, wrapped, images, labels


def ours(classifier, images, labels, steps, step_size):
    def objective(x):
        return cross_entropy(classifier(x), labels, reduction="none")

    return ascend(images, images, objective, ThreatModel("8/255"), steps, step_size).numpy()


def test_one_step_is_the_fast_gradient_method(setting):
    classifier, wrapped, images, labels = setting
    theirs = FastGradientMethod(wrapped, eps=EPS, batch_size=16).generate(images.numpy(), labels.numpy())
    assert np.abs(theirs - ours(classifier, images, labels, 1, EPS)).max() < 1e-6


def test_many_steps_are_projected_gradient_descent(setting):
    classifier, wrapped, images, labels = setting
    attack = ProjectedGradientDescentPyTorch(
        wrapped, eps=EPS, eps_step=EPS / 4, max_iter=6, num_random_init=0, batch_size=16, verbose=False
    )
    theirs = attack.generate(images.numpy(), labels.numpy())
    assert np.abs(theirs - ours(classifier, images, labels, 6, EPS / 4)).max() < 1e-6


@pytest.mark.parametrize(
    ("spec", "engine", "settings"),
    [
        ("fgsm", FastGradientMethod, {}),
        ("pgd[preset=v1]", BasicIterativeMethod, {"eps_step": EPS / 4, "max_iter": 10}),
        ("mifgsm[preset=v1]", MomentumIterativeMethod, {"eps_step": EPS / 4, "max_iter": 10, "decay": 1.0}),
    ],
)
def test_the_attacks_of_the_classifier_are_arts(spec, engine, settings, setting):
    classifier, wrapped, images, labels = setting
    context = make_context(classifier.victim, images, Modality.VISIBLE)
    shown = build_attack(spec).perturb(classifier.victim, images, Modality.VISIBLE, context)
    theirs = engine(wrapped, eps=EPS, batch_size=16, **settings).generate(images.numpy(), labels.numpy())
    assert np.abs(theirs - shown.numpy()).max() < 1e-6


def test_l2_steps_are_those_of_both_libraries(setting):
    classifier, wrapped, images, labels = setting
    # The libraries clip to [0, 1] before or after they project; inside, that is one thing.
    images = images.clamp(0.3, 0.7)

    def objective(x):
        return cross_entropy(classifier(x), labels, reduction="none")

    ours_l2 = ascend(images, images, objective, ThreatModel("0.5", norm="l2"), 6, 0.15)
    attack = torchattacks.PGDL2(classifier, eps=0.5, alpha=0.15, steps=6, random_start=False)
    assert (attack(images, labels) - ours_l2).abs().max() < 1e-6
    theirs = ProjectedGradientDescentPyTorch(
        wrapped, norm=2, eps=0.5, eps_step=0.15, max_iter=6, num_random_init=0, batch_size=16, verbose=False
    ).generate(images.numpy(), labels.numpy())
    assert np.abs(theirs - ours_l2.numpy()).max() < 1e-6


def test_steps_with_diverse_inputs_are_difgsm_on_the_same_views(setting):
    classifier, _, images, labels = setting
    ours_view, their_view = (InputDiversity(range(16), 0.7, 0.6) for _ in range(2))
    attack = torchattacks.DIFGSM(classifier, eps=EPS, alpha=EPS / 4, steps=6, decay=0.9)
    attack.input_diversity = their_view

    def objective(x):
        return cross_entropy(classifier(x), labels, reduction="none")

    shown = ascend(images, images, objective, ThreatModel("8/255"), 6, EPS / 4, 0.9, view=ours_view)
    assert (attack(images, labels) - shown).abs().max() < 1e-6


class Probability(TinyVictim):
    """Embeds to the probability of one class, so that the ranking by dot products falls with it."""

    similarity, label = "dot", 0

    def forward(self, images, modality, edits=None):
        output = super().forward(images, modality, edits)
        output.embedding = output.logits.softmax(1)[:, self.label : self.label + 1]
        return output


def test_simba_is_arts_simba_on_the_same_loss(images, monkeypatch):
    """ART looks at both directions of a pixel and takes the better; where only one lowers the probability,
    which is so for small steps, that is the direction the paper takes."""
    # Away from black and white, where a step into the wall changes nothing.
    victim, image = Probability().eval(), images[:1].float().clamp(0.1, 0.9)
    with torch.no_grad():
        victim.label = int(victim(image, Modality.VISIBLE).logits.argmax())
    model = torch.nn.Sequential(Classifier(victim, Modality.VISIBLE), torch.nn.Softmax(1)).eval()
    wrapped = PyTorchClassifier(
        model, torch.nn.CrossEntropyLoss(), (3, *SIZE), CLASSES, clip_values=(0.0, 1.0), device_type="cpu"
    )
    context = make_context(victim, image, Modality.VISIBLE, ThreatModel("1", quantize=False))
    tries = 60
    order = torch.randperm(3 * SIZE[0] * SIZE[1], generator=torch.Generator().manual_seed(context.seeds[0]))
    monkeypatch.setattr(np.random, "permutation", lambda count: order.numpy())
    theirs = SimBA(wrapped, attack="px", max_iter=tries, epsilon=0.004, verbose=False).generate(
        image.numpy(), np.eye(CLASSES)[[victim.label]]
    )
    # One query where the first direction helped, two where it did not.
    gain = (theirs - image.numpy()).reshape(-1)[order[:tries].numpy()]
    queries = int((1 + (gain <= 0)).sum())
    assert 0 < (gain > 0).sum() < tries
    ours = build_attack(f"simba[queries={queries},basis=pixel,low=1,step=0.004]").perturb(
        victim, image, Modality.VISIBLE, context
    )
    assert np.abs(theirs - ours.numpy()).max() < 1e-6
