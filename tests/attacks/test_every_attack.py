"""What must hold for every attack there is: a new attack is tested by being registered."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from tiny import SIZE, TinyVictim, make_context, make_training
from torch import nn

from vbench.attacks import Battery
from vbench.attacks.build import build_attack
from vbench.attacks.registry import attacks
from vbench.core.errors import BadInput, VbenchError
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality

#: Attacks whose default allowance takes seconds even here.
SHORT = {"square": "square[queries=40]", "simba": "simba[queries=40]"}
#: A battery crafts nothing itself: the runner runs its members, which are here, and test_battery the rest.
ALONE = [name for name in attacks.names() if not issubclass(attacks.load(name), Battery)]
PER_IMAGE = [SHORT.get(name, name) for name in ALONE if not attacks.load(name).universal]
UNIVERSAL = [
    "uap[evaluations=240,batch=12]",
    "uap[loss=list,evaluations=240,batch=12]",
    "uap[loss=cross_entropy,evaluations=240,batch=12]",
    "cmps[evaluations=240,batch=6]",
    "muap[evaluations=240,batch=12]",
    "mis_ranking[evaluations=240,batch=12,width=4,blocks=1]",
    "fsam_uap[evaluations=720,batch=12,hinge=soft,stages=all]",
    "fsam_uap[evaluations=720,batch=12,hinge=soft,stages=all,level=feature,modules=joint]",
]
UNIVERSAL += [
    f"{name}[evaluations=240]"
    for name in ALONE
    if attacks.load(name).universal and not any(spec.startswith(f"{name}[") for spec in UNIVERSAL)
]
THREAT = ThreatModel("8/255")


def adversarial(spec, victim, images, modality=Modality.INFRARED, first=0, threat=THREAT):
    attack = build_attack(spec)
    if attack.universal:
        generator = torch.Generator().manual_seed(5)
        learnt = attack.fit(victim, make_training(victim), threat, generator, quiet=True)
        return learnt.apply(images)
    context = context_for(attack, victim, images, modality, threat, first)
    return attack.perturb(victim, images, modality, context)


def context_for(attack, victim, images, modality, threat=THREAT, first=0):
    """What a run would let this attack know."""
    training = make_training(victim) if "training" in attack.knowledge else None
    return make_context(victim, images, modality, threat, first, training)


def snapshot(victim):
    return {
        "state": copy.deepcopy(victim.state_dict()),
        "modes": [module.training for module in victim.modules()],
        "grads": [parameter.requires_grad for parameter in victim.parameters()],
        "gradients": [parameter.grad is None for parameter in victim.parameters()],
    }


def assert_same(before, victim):
    after = snapshot(victim)
    assert all(torch.equal(before["state"][name], after["state"][name]) for name in before["state"])
    assert {name: before[name] for name in before if name != "state"} == {
        name: after[name] for name in after if name != "state"
    }


@pytest.mark.parametrize("spec", [*PER_IMAGE, *UNIVERSAL])
def test_budget_holds_on_the_8_bit_grid(spec, victim, images):
    shown = THREAT.enforce(images, adversarial(spec, victim, images))
    THREAT.check(images, shown)
    levels = shown * 255
    assert torch.allclose(levels, levels.round(), atol=1e-6)
    moved = (levels.round() - (images * 255).round()).abs()
    assert 0 < moved.max() <= 8
    assert shown.min() >= 0 and shown.max() <= 1


@pytest.mark.parametrize("spec", [*PER_IMAGE, *UNIVERSAL])
def test_victim_and_input_are_left_as_found(spec, victim, images):
    victim.train()
    victim.norm.eval()
    victim.body.weight.requires_grad_(False)
    before, given = snapshot(victim), images.clone()
    attack = build_attack(spec)
    if attack.universal:
        view = make_training(copy.deepcopy(victim))
        attack.fit(victim, view, THREAT, torch.Generator().manual_seed(0), quiet=True)
    else:
        context = context_for(attack, copy.deepcopy(victim).eval(), images, Modality.VISIBLE)
        attack.perturb(victim, images, Modality.VISIBLE, context)
    assert_same(before, victim)
    assert torch.equal(images, given)


class Exploding(TinyVictim):
    """Raises after some forward passes, in the middle of an attack."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def forward(self, images, modality, edits=None):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("out of memory")
        return super().forward(images, modality, edits)


@pytest.mark.parametrize("spec", [name for name in [*PER_IMAGE, *UNIVERSAL] if name != "noise"])
def test_victim_is_left_as_found_when_the_attack_fails(spec, images):
    fine = TinyVictim().double().eval()
    victim = Exploding(after=0).double()
    victim.train()
    before = snapshot(victim)
    attack = build_attack(spec)
    with pytest.raises(RuntimeError, match="out of memory"):
        if attack.universal:
            attack.fit(victim, make_training(fine), THREAT, torch.Generator().manual_seed(0), quiet=True)
        else:
            context = context_for(attack, fine, images, Modality.VISIBLE)
            attack.perturb(victim, images, Modality.VISIBLE, context)
    assert_same(before, victim)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"victim": "agw"}, "the victim must be a Victim object, as vbench.load_victim"),
        ({"victim": nn.Identity()}, "not a Identity"),
        (
            {"images": torch.zeros(2, 3, *SIZE)},
            "is torch.float64 on cpu; use images.to('cpu', torch.float64)",
        ),
        ({"labels": torch.tensor([0])}, "one class for each image"),
        (
            {"labels": torch.tensor([0.0, 1.0])},
            "labels must be classes of tiny, of dtype torch.int64, below 6",
        ),
        ({"labels": torch.tensor([0, -1])}, "below 6"),
        ({"labels": torch.tensor([0, 6])}, "below 6"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_in_one_line(victim, images, change, said):
    given = {"victim": victim, "images": images[:2], "modality": "visible", **change}
    with pytest.raises(BadInput) as refused:
        build_attack("pgd[steps=1]")(**given)
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", PER_IMAGE)
def test_result_does_not_depend_on_the_batch_size(name, victim, images):
    whole = THREAT.enforce(images, adversarial(name, victim, images))
    single = [
        THREAT.enforce(images[i : i + 1], adversarial(name, victim, images[i : i + 1], first=i))
        for i in range(len(images))
    ]
    assert torch.equal(whole, torch.cat(single))


@pytest.mark.parametrize("spec", [*PER_IMAGE, *UNIVERSAL])
def test_same_seed_same_bits(spec, victim, images):
    state = torch.random.get_rng_state()
    first = adversarial(spec, victim, images)
    torch.rand(7)
    assert torch.equal(first, adversarial(spec, victim, images))
    torch.random.set_rng_state(state)


@pytest.mark.parametrize("spec", [*PER_IMAGE, *UNIVERSAL])
def test_global_random_state_is_untouched(spec, victim, images):
    state = torch.random.get_rng_state()
    adversarial(spec, victim, images)
    assert torch.equal(state, torch.random.get_rng_state())


def test_members_of_batteries_are_tested_here():
    batteries = [attacks.load(name)() for name in attacks.names() if name not in ALONE]
    assert batteries
    members = {member.name for battery in batteries for member in battery.attacks()}
    assert members <= {spec.partition("[")[0] for spec in [*PER_IMAGE, *UNIVERSAL]}


@pytest.mark.parametrize("name", attacks.names())
def test_catalogue_agrees_with_the_class(name):
    cls, entry = attacks.load(name), attacks.entry(name)
    assert cls.name == name
    assert entry.summary == cls.summary
    assert entry.paper == cls.paper
    kind = "battery" if issubclass(cls, Battery) else "universal" if cls.universal else "per-image"
    assert entry.traits == kind
    assert cls() == cls(**cls().settings())


class NotANumber(TinyVictim):
    """Embeds to NaN."""

    def forward(self, images, modality, edits=None):
        output = super().forward(images, modality, edits)
        output.embedding = output.embedding * torch.nan
        return output


def test_a_gradient_that_is_not_finite_is_refused_by_name(images):
    context = make_context(TinyVictim().double().eval(), images, Modality.VISIBLE)
    with pytest.raises(VbenchError, match="not finite"):
        build_attack("odfa").perturb(NotANumber().double(), images, Modality.VISIBLE, context)


class Silent(TinyVictim):
    """Declares a classifier, and gives no logits."""

    def forward(self, images, modality, edits=None):
        output = super().forward(images, modality, edits)
        return dataclasses.replace(output, logits=None)


@pytest.mark.parametrize(
    "spec", ["pgd", UNIVERSAL[2], *(spec for spec in UNIVERSAL if spec.startswith("fsam_uap"))]
)
def test_a_classifier_without_logits_is_told(spec, images):
    attack, training = build_attack(spec), make_training(TinyVictim())
    with pytest.raises(VbenchError, match="declares an identity classifier and gives no logits"):
        if attack.universal:
            attack.fit(Silent(), training, THREAT, torch.Generator().manual_seed(5), quiet=True)
        else:
            context = make_context(TinyVictim().double(), images, Modality.VISIBLE)
            attack.perturb(Silent().double(), images, Modality.VISIBLE, context)
