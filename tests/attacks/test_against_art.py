"""The shared step loop against the Adversarial Robustness Toolbox on the same loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier
from tiny import CLASSES, SIZE
from torch.nn.functional import cross_entropy

from vbench.attacks.classification import Classifier
from vbench.attacks.steps import ascend
from vbench.threat import ThreatModel
from vbench.types import Modality

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
