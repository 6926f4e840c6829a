"""What attacks claim to cost is what the victim was asked for, and nothing is asked twice."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny import make_context, make_training

from vbench.attacks.build import build_attack
from vbench.attacks.fsam_uap.modules import FeatureModules
from vbench.attacks.steps import all_finite
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.run.craft import Meter
from vbench.victims.agw import AGW
from vbench.victims.base import frozen

THREAT = ThreatModel("8/255")
STEPS = {
    "fgsm": 1,
    "pgd": 30,
    "mifgsm": 30,
    "metric_fgsm": 1,
    "metric_ifgsm": 30,
    "metric_mifgsm": 30,
    "sma": 30,
    "fna": 30,
    "odfa": 30,
    "torchattacks:PGD[random_start=false]": 10,
}


@pytest.mark.parametrize(("spec", "steps"), STEPS.items())
def test_a_step_is_one_pass_and_there_are_no_others(spec, steps, victim, images):
    attack = build_attack(spec)
    training = make_training(victim) if "training" in attack.knowledge else None
    context = make_context(victim, images, Modality.INFRARED, THREAT, training=training)
    with torch.no_grad():
        predictions = victim(images, Modality.INFRARED).logits.argmax(1)
    told = dataclasses.replace(context, predictions=predictions)
    with Meter(victim) as meter:
        known = attack.perturb(victim, images, Modality.INFRARED, told)
    assert (meter.evaluations, meter.forwards) == (steps * len(images), 0)
    assert torch.equal(known, attack.perturb(victim, images, Modality.INFRARED, context))


@pytest.mark.parametrize(
    "spec", ["uap", "uap[loss=list]", "cmps", "muap", "fsam_uap[stages=stem,fsam=false,sfm=false]"]
)
def test_a_universal_fit_spends_its_budget_exactly(spec, victim):
    name, _, rest = spec.partition("[")
    attack = build_attack(
        f"{name}[evaluations=240,batch=6,{rest}" if rest else f"{name}[evaluations=240,batch=6]"
    )
    with Meter(victim) as meter:
        attack.fit(victim, make_training(victim), THREAT, torch.Generator().manual_seed(0), quiet=True)
    assert meter.evaluations == 240


def small_agw(forks):
    options = {**AGW.THIN, "width": 0.125, "input_size": (32, 16)}
    victim = AGW(num_classes=6, generator=torch.Generator().manual_seed(3), **options).double().eval()
    victim.forks = forks
    return victim


def training_of(victim, tiny_training):
    """The tiny training images at the victim's size, with its embeddings."""
    views = {}
    for modality in Modality:
        view = tiny_training[modality]
        stored = view.images.repeat_interleave(2, 2).repeat_interleave(2, 3)
        with torch.no_grad():
            output = victim(stored.double() / 255, modality)
        views[modality] = dataclasses.replace(
            view, images=stored, embeddings=output.embedding, predictions=output.logits.argmax(1)
        )
    return dataclasses.replace(tiny_training, views=views)


@pytest.mark.parametrize("extra", ["", "fsam=false", "space=features", "modules=joint"])
def test_one_stem_for_both_paths_learns_what_two_passes_learn(extra, training):
    spec = (
        f"fsam_uap[evaluations=160,batch=8,anchors=adversarial,module_steps=2,stages=all,hinge=soft,{extra}]"
    )
    learnt, costs, calls = [], [], []
    for forks in (True, False):
        victim, seen = small_agw(forks), []
        victim.trunk.layer1[0].register_forward_hook(lambda *_, seen=seen: seen.append(1))
        view = training_of(victim, training)
        with Meter(victim) as meter:
            found = build_attack(spec).fit(victim, view, THREAT, torch.Generator().manual_seed(0), quiet=True)
        learnt.append(found.delta), costs.append(meter.evaluations), calls.append(len(seen))
    assert torch.allclose(*learnt, atol=1e-9)
    assert costs[0] == costs[1] <= 160
    assert calls[0] < calls[1]


def test_forked_modules_share_the_first_frequency_attention():
    generator = torch.Generator().manual_seed(0)
    channels = {"stem": 4, "layer1": 4}
    modules = FeatureModules(channels, channels, channels, "cbam_spatial", 0.8, generator).double()
    victim_map = torch.randn(2, 4, 6, 4, generator=generator, dtype=torch.float64)
    seen = Modality.VISIBLE
    forked, alone = modules.forked_edits(seen, "x1"), modules.edits(seen, "x1")
    both = modules.edits(seen)
    found = forked["layer1"](forked["stem"](victim_map)).chunk(2)
    assert torch.allclose(found[0], alone["layer1"](alone["stem"](victim_map)))
    assert torch.allclose(found[1], both["layer1"](both["stem"](victim_map)))


def test_an_interrupted_block_counts_for_nothing(victim, images):
    meter = Meter(victim)
    with meter, frozen(victim):
        victim(images, Modality.VISIBLE)
    before = meter.evaluations, meter.forwards
    with pytest.raises(ValueError, match="stop"), meter:
        victim(images, Modality.VISIBLE)
        raise ValueError("stop")
    assert (meter.evaluations, meter.forwards) == before == (len(images), 0)
    assert meter.peak_memory > 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_value_is_seen(bad):
    values = torch.zeros(5)
    assert all_finite(values, torch.tensor(1.0))
    assert not all_finite(torch.tensor(bad), values)
    values[3] = bad
    assert not all_finite(values)
    assert not all_finite(torch.tensor([float("inf"), -float("inf")]))
