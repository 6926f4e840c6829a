"""Every attack of torchattacks and ART: which work on a victim, which are refused, and why."""

from __future__ import annotations

import multiprocessing
import random
import sys

import numpy as np
import pytest
import torch
import torchattacks
from tiny import TinyVictim, make_context
from torch import nn

from vbench.attacks import from_art, from_torchattacks
from vbench.attacks.build import build_attack, label
from vbench.attacks.classification import Classifier
from vbench.attacks.registry import attacks
from vbench.core.errors import BadInput
from vbench.core.isolation import seed_all
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality

V = Modality.VISIBLE
THREATS = {"linf": ThreatModel("32/255"), "l2": ThreatModel("3", norm="l2")}

# name -> norms ("-square": only for square images; "!": slow, tried on one image), or words of the refusal.
# In parentheses: settings that make the attack quick here.
TORCHATTACKS = {
    "VANILA": "changes nothing",
    "GN": "no budget",
    "FGSM": "linf",
    "BIM": "linf",
    "RFGSM": "linf",
    "PGD": "linf",
    "EOTPGD": "linf",
    "FFGSM": "linf",
    "TPGD": "linf",
    "MIFGSM": "linf",
    "UPGD": "linf",
    "APGD": "linf l2",
    "APGDT": "linf l2",
    "DIFGSM": "linf-square",
    "TIFGSM": "linf-square",
    "Jitter": "linf",
    "NIFGSM": "linf",
    "PGDRS": "linf",
    "SINIFGSM": "linf",
    "VMIFGSM": "linf (steps=3)",
    "VNIFGSM": "linf (steps=3)",
    "SPSA": "linf (nb_sample=8,max_batch_size=8)",
    "JSMA": "few pixels",
    "EADL1": "L1",
    "EADEN": "l2 (binary_search_steps=2,max_iterations=30,initial_const=10)",
    "PIFGSM": "linf",
    "PIFGSMPP": "linf",
    "CW": "l2 (lr=0.1)",
    "PGDL2": "l2",
    "DeepFool": "l2",
    "PGDRSL2": "l2",
    "SparseFool": "few pixels",
    "OnePixel": "few pixels",
    "Pixle": "few pixels",
    "FAB": "linf l2",
    "AutoAttack": "linf l2-square",
    "Square": "linf l2 (n_queries=60,p_init=0.3)",
    "MultiAttack": "takes attacks",
    "LGV": "training data",
}
ART = {
    "AdversarialPatch": "patch",
    "AdversarialPatchNumpy": "patch",
    "AdversarialPatchPyTorch": "patch",
    "AdversarialPatchTensorFlowV2": "patch",
    "AdversarialTexturePyTorch": "video",
    "AutoAttack": "linf! l2-square!",
    "AutoConjugateGradient": "linf l2 (nb_random_init=1,max_iter=10)",
    "AutoProjectedGradientDescent": "linf l2 (nb_random_init=1,max_iter=10)",
    "BasicIterativeMethod": "linf (max_iter=10)",
    "BoundaryAttack": "l2 (max_iter=10)",
    "CarliniL0Method": "few pixels",
    "CarliniL2Method": "l2 (binary_search_steps=1,initial_const=10)",
    "CarliniLInfMethod": "linf (initial_const=1,const_factor=20,learning_rate=0.1)",
    "CarliniWagnerASR": "speech",
    "CompositeAdversarialAttackPyTorch": "colour, light or geometry",
    "DPatch": "object detectors",
    "DecisionTreeAttack": "tables",
    "DeepFool": "l2 (max_iter=10)",
    "ElasticNet": "l2 (max_iter=10,binary_search_steps=2,initial_const=10)",
    "FastGradientMethod": "linf l2",
    "FeatureAdversariesNumpy": "guide image",
    "FeatureAdversariesPyTorch": "guide image",
    "FeatureAdversariesTensorFlowV2": "another framework",
    "FrameSaliencyAttack": "video",
    "GRAPHITEBlackbox": "patch",
    "GRAPHITEWhiteboxPyTorch": "patch",
    "GeoDA": "square images and a NumPy below 2",
    "HighConfidenceLowUncertainty": "tables",
    "HopSkipJump": "linf l2 (max_iter=2,max_eval=50,init_eval=5)",
    "ImperceptibleASR": "speech",
    "ImperceptibleASRPyTorch": "speech",
    "LaserAttack": "colour, light or geometry",
    "LowProFool": "tables",
    "MalwareGDTensorFlow": "malware",
    "MomentumIterativeMethod": "linf l2 (max_iter=10)",
    "NewtonFool": "l2 (max_iter=10)",
    "OverTheAirFlickeringPyTorch": "video",
    "OverloadPyTorch": "object detectors",
    "PixelAttack": "few pixels",
    "ProjectedGradientDescent": "linf l2 (max_iter=10)",
    "ProjectedGradientDescentNumpy": "linf l2 (max_iter=10)",
    "ProjectedGradientDescentPyTorch": "linf l2 (max_iter=10)",
    "ProjectedGradientDescentTensorFlowV2": "another framework",
    "RescalingAutoConjugateGradient": "linf l2 (nb_random_init=1,max_iter=10)",
    "RobustDPatch": "object detectors",
    "SNAL": "object detectors",
    "SaliencyMapMethod": "few pixels",
    "ShadowAttack": "colour, light or geometry",
    "SignOPTAttack": "l2 (max_iter=1,query_limit=100,num_trial=3,k=3)",
    "SimBA": "l2 (max_iter=20)",
    "SpatialTransformation": "colour, light or geometry",
    "SquareAttack": "linf l2-square (max_iter=20)",
    "TargetedUniversalPerturbation": "training data",
    "ThresholdAttack": "package cma",
    "UniversalPerturbation": "training data",
    "VirtualAdversarialMethod": "l2! (max_iter=1)",
    "Wasserstein": "Wasserstein",
    "ZooAttack": "l2! (use_resize=false,use_importance=false,initial_const=100,learning_rate=1,max_iter=5)",
}
LISTS = {"torchattacks": (TORCHATTACKS, from_torchattacks), "art": (ART, from_art)}


def rows(library):
    """(spec, norm, square, images) of every attack of the table that works."""
    for name, says in LISTS[library][0].items():
        norms, _, settings = says.partition(" (")
        for norm in norms.split() if says.startswith("l") else ():
            spec = f"{library}:{name}[{settings.rstrip(')')}]" if settings else f"{library}:{name}"
            count = 1 if norm.endswith("!") else 2
            yield pytest.param(
                spec, norm.rstrip("!").split("-")[0], "-square" in norm, count, id=f"{spec} {norm}"
            )


def varied(count, size):
    """Images of one colour each and little noise, so that predictions differ; some are easily changed."""
    generator = torch.Generator().manual_seed(1)
    base = torch.randint(0, 256, (count, 3, 1, 1), generator=generator)
    noise = torch.randint(-25, 26, (count, 3, *size), generator=generator)
    return (base + noise).clamp(0, 255).double() / 255


def setting(square, count=2):
    victim = TinyVictim(4).double().eval()
    if square:
        victim.input_size = (16, 16)
    return victim, varied(count, victim.input_size)


def craft(spec, norm, victim, images, first=0):
    context = make_context(victim, images, V, THREATS[norm], first)
    return build_attack(spec).perturb(victim, images, V, context)


def states():
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return [torch.random.get_rng_state().tolist(), kind, keys.tolist(), rest, random.getstate()]


@pytest.mark.parametrize("library", LISTS)
def test_the_table_is_the_librarys_whole_list(library):
    table, module = LISTS[library]
    assert set(table) == set(module.offered()) == set(module.RULES)


@pytest.mark.parametrize("library", LISTS)
def test_refusals_say_why_before_any_work(library):
    for name, says in LISTS[library][0].items():
        if not says.startswith("l"):
            with pytest.raises(BadInput, match=says):
                attacks.load(f"{library}:{name}")


@pytest.mark.parametrize(("spec", "norm", "square", "count"), [*rows("torchattacks"), *rows("art")])
def test_an_attack_works_alone_as_in_a_batch(spec, norm, square, count, monkeypatch):
    monkeypatch.setitem(sys.modules, "multiprocess", multiprocessing)
    victim, images = setting(square, count)
    threat, before, given = THREATS[norm], states(), images.clone()
    shown = threat.enforce(images, craft(spec, norm, victim, images))
    assert states() == before
    assert torch.equal(images, given)
    threat.check(images, shown)
    assert shown.dtype == images.dtype
    if count > 1:
        last = threat.enforce(images[1:], craft(spec, norm, victim, images[1:], first=1))
        assert torch.equal(shown[1:], last)
    assert (shown != images).any()
    if square and "square" not in spec:
        with pytest.raises(BadInput, match="supposes square images"):
            craft(spec, norm, *setting(False))


WHOLE = [
    f"{library}:{name}[{','.join(f'{key}={value}' for key, value in rule.whole.items())}]"
    for library, (_, module) in LISTS.items()
    for name, rule in module.RULES.items()
    if getattr(rule, "whole", None) is not None
]


@pytest.mark.parametrize("spec", WHOLE)
def test_batches_stay_whole_where_chance_has_no_say(spec, monkeypatch):
    attack = build_attack(spec)
    norm = "linf" if "linf" in attack.norms else "l2"
    sizes, run = [], type(attack).run

    def watched(self, classifier, images, *rest):
        sizes.append(len(images))
        return run(self, classifier, images, *rest)

    monkeypatch.setattr(type(attack), "run", watched)
    here = craft(spec, norm, *setting(False, count=5))
    monkeypatch.setattr("vbench.attacks.libraries.seed_all", lambda seed: seed_all(seed + 7))
    assert torch.equal(here, craft(spec, norm, *setting(False, count=5)))
    assert sizes == [5, 5]


def test_a_random_start_is_each_images_own():
    victim, images = setting(False, count=4)
    twins = images[:1].expand(4, -1, -1, -1).clone()
    shown = craft("torchattacks:PGD", "linf", victim, twins)
    assert len({tuple(image.flatten().tolist()) for image in shown}) == 4
    assert torch.equal(shown, craft("torchattacks:PGD", "linf", victim, twins))


def test_settings_reach_the_library():
    victim, images = setting(False, count=4)
    victim = victim.float()
    classifier = Classifier(victim, V).eval()
    with torch.no_grad():
        labels = classifier(images.float()).argmax(1)
    theirs = torchattacks.PGD(classifier, eps=32 / 255, alpha=3 / 255, steps=7, random_start=False)
    ours = craft("torchattacks:PGD[alpha=3/255,steps=7,random_start=false]", "linf", victim, images.float())
    assert torch.equal(ours, theirs(images.float(), labels))


def test_steps_follow_eps_and_labels_read_back():
    attack = build_attack("torchattacks:PGD[steps=20]")
    assert label(attack) == "torchattacks:PGD[steps=20]"
    assert build_attack(label(attack)) == attack
    assert attack.arguments(ThreatModel("16/255"))["alpha"] == pytest.approx(4 / 255)
    assert build_attack("art:ProjectedGradientDescent").arguments(ThreatModel("9/255"))[
        "eps_step"
    ] == pytest.approx(3 / 255)


def test_misfits_are_one_line_before_or_at_the_work():
    victim, images = setting(False)
    with pytest.raises(BadInput, match="works in linf, not in l2"):
        craft("torchattacks:PGD", "l2", victim, images)
    with pytest.raises(BadInput, match="cannot work with these settings") as error:
        craft("art:ProjectedGradientDescent[max_iter=-1]", "linf", victim, images)
    assert "\n" not in str(error.value)
    victim.num_classes = 0
    with pytest.raises(BadInput, match="needs an identity classifier"):
        craft("art:FastGradientMethod", "linf", victim, images)


def test_a_package_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr("vbench.attacks.libraries.find_spec", lambda name: None)
    with pytest.raises(BadInput, match="needs the package 'multiprocess'"):
        craft("art:AutoAttack", "linf", *setting(False))


class Failing(nn.Module):
    """A classifier that draws and then fails once it is attacked."""

    def __init__(self, *_):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        if not torch.is_grad_enabled():
            return torch.zeros(len(images), 6)
        torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
        raise RuntimeError("out of memory")


def test_random_states_are_put_back_after_a_failure(monkeypatch):
    monkeypatch.setattr("vbench.attacks.libraries.SingleClassifier", Failing)
    victim, images = setting(False)
    before, reborn = states(), np.random.RandomState
    with pytest.raises(RuntimeError, match="out of memory"):
        craft("torchattacks:FGSM", "linf", victim, images)
    assert states() == before
    assert np.random.RandomState is reborn
