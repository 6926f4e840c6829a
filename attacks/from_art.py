"""``art:NAME``: the L_inf and L2 evasion attacks of ART on a victim's identity classifier."""

from __future__ import annotations

import inspect
import io
from contextlib import redirect_stderr
from typing import ClassVar

import art.attacks.evasion as evasion
import numpy as np
import torch
from art.attacks import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from vbench.attacks.classification import Classifier
from vbench.attacks.libraries import LibraryAttack, Rule, adapt, known
from vbench.core.errors import BadInput
from vbench.core.settings import constructor
from vbench.core.threat import ThreatModel

_L2 = ("l2",)
_BOTH = ("linf", "l2")
_L0 = "it changes few pixels by any amount (L0); the threat models are linf and l2"
_PATCH = "it draws a patch of any contrast; the threat models are linf and l2"
_SOUND = "it attacks speech recognition"
_DETECTOR = "it attacks object detectors"
_VIDEO = "it attacks video"
_OTHER = "it is for another framework than PyTorch"
_SEMANTIC = "it changes colour, light or geometry without a bound on the pixels"
_DATA = "it learns one perturbation from training data; use the attack 'uap'"
_GUIDE = "it needs a guide image for every image; use the attack 'metric_ifgsm'"
_TABLE = "it attacks tables, trees or Gaussian processes, not images"

_STEPS = Rule(_BOTH, whole={"num_random_init": 0, "random_eps": False})

RULES: dict[str, Rule | str] = {
    "AdversarialPatch": _PATCH,
    "AdversarialPatchNumpy": _PATCH,
    "AdversarialPatchPyTorch": _PATCH,
    "AdversarialPatchTensorFlowV2": _PATCH,
    "AdversarialTexturePyTorch": _VIDEO,
    "AutoAttack": Rule(_BOTH, square=("l2",), package="multiprocess"),
    "AutoConjugateGradient": Rule(_BOTH),
    "AutoProjectedGradientDescent": Rule(_BOTH),
    "BasicIterativeMethod": Rule(whole={}),
    "BoundaryAttack": Rule(_L2, gradients=False),
    "CarliniL0Method": _L0,
    "CarliniL2Method": Rule(_L2),
    "CarliniLInfMethod": Rule(),
    "CarliniWagnerASR": _SOUND,
    "CompositeAdversarialAttackPyTorch": _SEMANTIC,
    "DPatch": _DETECTOR,
    "DecisionTreeAttack": _TABLE,
    "DeepFool": Rule(_L2),
    "ElasticNet": Rule(_L2),
    "FastGradientMethod": Rule(_BOTH, whole={"num_random_init": 0}),
    "FeatureAdversariesNumpy": _GUIDE,
    "FeatureAdversariesPyTorch": _GUIDE,
    "FeatureAdversariesTensorFlowV2": _OTHER,
    "FrameSaliencyAttack": _VIDEO,
    "GRAPHITEBlackbox": _PATCH,
    "GRAPHITEWhiteboxPyTorch": _PATCH,
    "GeoDA": "it supposes square images and a NumPy below 2",
    "HighConfidenceLowUncertainty": _TABLE,
    "HopSkipJump": Rule(_BOTH, gradients=False),
    "ImperceptibleASR": _SOUND,
    "ImperceptibleASRPyTorch": _SOUND,
    "LaserAttack": _SEMANTIC,
    "LowProFool": _TABLE,
    "MalwareGDTensorFlow": "it attacks malware detectors",
    "MomentumIterativeMethod": Rule(_BOTH, whole={}),
    "NewtonFool": Rule(_L2),
    "OverTheAirFlickeringPyTorch": _VIDEO,
    "OverloadPyTorch": _DETECTOR,
    "PixelAttack": _L0,
    "ProjectedGradientDescent": _STEPS,
    "ProjectedGradientDescentNumpy": _STEPS,
    "ProjectedGradientDescentPyTorch": _STEPS,
    "ProjectedGradientDescentTensorFlowV2": _OTHER,
    "RescalingAutoConjugateGradient": Rule(_BOTH),
    "RobustDPatch": _DETECTOR,
    "SNAL": _DETECTOR,
    "SaliencyMapMethod": _L0,
    "ShadowAttack": _SEMANTIC,
    "SignOPTAttack": Rule(_L2, gradients=False),
    "SimBA": Rule(_L2, gradients=False, defaults={"attack": "px"}),
    "SpatialTransformation": _SEMANTIC,
    "SquareAttack": Rule(_BOTH, gradients=False, square=("l2",), defaults={"p_init": 0.05}),
    "TargetedUniversalPerturbation": _DATA,
    "ThresholdAttack": "it evolves every pixel at once with the package cma; use the attack 'square'",
    "UniversalPerturbation": _DATA,
    "VirtualAdversarialMethod": Rule(_L2),
    "Wasserstein": "its budget is a Wasserstein distance; the threat models are linf and l2",
    "ZooAttack": Rule(_L2, gradients=False),
}

_MODEL = frozenset({"classifier", "estimator", "estimator_orig"})
_OBJECTS = frozenset({"attacks", "adv_criterion", "loss", "mask"})
_RUN = frozenset(
    {"norm", "targeted", "batch_size", "parallel_pool_size", "summary_writer", "verbose", "eval_perform"}
)
_FIXED = _MODEL | _OBJECTS | _RUN

#: Attacks that read the model's output as probabilities.
_PROBABILITIES = ("SimBA", "VirtualAdversarialMethod")


def offered() -> dict[str, type]:
    """Every evasion attack of the installed ART by name."""
    found = {name: value for name, value in vars(evasion).items() if inspect.isclass(value)}
    return {name: value for name, value in found.items() if issubclass(value, EvasionAttack)}


class ArtAttack(LibraryAttack):
    """One evasion attack of ART on the predicted training identity, in float32."""

    version: ClassVar[int] = 1
    library: ClassVar[str] = "adversarial-robustness-toolbox"

    def run(
        self, classifier: Classifier, images: Tensor, labels: Tensor, threat: ThreatModel, seed: int
    ) -> Tensor:
        if images.device.type not in ("cpu", "cuda"):
            raise BadInput(f"attack '{self.name}' runs on cpu and cuda, not on {images.device.type}")
        model: nn.Module = classifier
        if self.engine.__name__ in _PROBABILITIES:
            model = nn.Sequential(classifier, nn.Softmax(1)).eval()
        classes = classifier.victim.num_classes
        estimator = PyTorchClassifier(
            model,
            nn.CrossEntropyLoss(),
            tuple(images.shape[1:]),
            classes,
            clip_values=(0.0, 1.0),
            device_type="gpu" if images.is_cuda else "cpu",
        )
        settled = {
            "norm": np.inf if threat.norm == "linf" else 2,
            "targeted": False,
            "batch_size": len(images),
            "verbose": False,
        }
        taken = inspect.signature(constructor(self.engine)).parameters
        given = self.arguments(threat) | {name: value for name, value in settled.items() if name in taken}
        pixels = images.cpu().numpy().copy()
        wanted = np.eye(classes, dtype=np.float32)[labels.cpu().numpy()]
        # Attacks inside attacks show progress bars that no setting turns off.
        with redirect_stderr(io.StringIO()):
            return torch.from_numpy(np.asarray(self.engine(estimator, **given).generate(pixels, wanted)))


def attack(name: str) -> type[LibraryAttack]:
    """The class behind ``art:name``; :class:`vbench.core.errors.BadInput` when it cannot apply."""
    engine = known("art", name, RULES, offered())
    return adapt(ArtAttack, "art", name, engine, RULES, _FIXED)
