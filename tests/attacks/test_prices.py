"""What the listing says an attack knows and costs is what the runner's meter counts."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from tiny import make_context, make_training

from vbench.attacks.base import Battery, PerImageAttack
from vbench.attacks.build import build_attack
from vbench.attacks.registry import PRICES, attacks
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.run.craft import Meter
from vbench.run.session import announcement

BATTERIES = [name for name in attacks.names() if issubclass(attacks.load(name), Battery)]
PER_IMAGE = [name for name in attacks.names() if issubclass(attacks.load(name), PerImageAttack)]
UNIVERSAL = [name for name in attacks.names() if attacks.load(name).universal]
#: Allowances that are a setting: scaled down here, their default held to the listing.
QUERIES = 30
SMALL = {
    "fsam_uap": "hinge=soft,stages=all,starts=1",
    "mis_ranking": "width=4,blocks=1",
}


@pytest.mark.parametrize("name", attacks.names())
def test_every_attack_says_what_it_knows(name):
    attack = attacks.load(name)()
    needs = attack.needs.union(*(member.needs for member in getattr(attack, "attacks", tuple)()))
    sight = "white box" if "gradients" in needs else "black box" if needs else "nothing"
    assert PRICES[name].knowledge == ", ".join([sight, *sorted(attack.knowledge)])
    assert PRICES[name].fit == attack.universal


@pytest.mark.parametrize("name", PER_IMAGE)
def test_an_image_costs_what_the_listing_says(name, victim, images):
    price, spec = PRICES[name], name
    if hasattr(attacks.load(name), "queries") and price.queries >= 100:
        assert build_attack(name).queries == price.queries
        spec, price = f"{name}[queries={QUERIES}]", type(price)(price.knowledge, queries=QUERIES)
    attack = build_attack(spec)
    training = make_training(victim) if "training" in attack.knowledge else None
    context = make_context(victim, images, Modality.VISIBLE, training=training)
    with Meter(victim) as meter:
        attack.perturb(victim, images, Modality.VISIBLE, context)
    assert meter.evaluations == price.gradients * len(images)
    assert meter.forwards == price.queries * len(images)


@pytest.mark.parametrize("name", BATTERIES)
def test_a_battery_costs_what_its_members_do(name):
    settings = [(member.universal, member.settings()) for member in attacks.load(name)().attacks()]
    price = PRICES[name]
    assert price.gradients == sum(given.get("steps", 0) for fits, given in settings if not fits)
    assert price.fits == sum(given["evaluations"] for fits, given in settings if fits)
    assert price.queries == sum(given.get("queries", 0) for _, given in settings)


@pytest.mark.parametrize("name", UNIVERSAL)
def test_a_fit_costs_the_evaluations_it_is_given(name, victim):
    assert build_attack(name).evaluations == PRICES[name].gradients
    batch = 6 if name == "cmps" else 12
    settings = [f"evaluations=480,batch={batch}", *filter(None, [SMALL.get(name)])]
    attack = build_attack(f"{name}[{','.join(settings)}]")
    training = make_training(victim)
    with Meter(victim) as meter:
        attack.fit(victim, training, ThreatModel("8/255"), torch.Generator().manual_seed(0), quiet=True)
    assert 0 < meter.evaluations <= 480
    if name == "deepfool_uap":
        # It may end early, when enough images are fooled, and asks for decisions.
        return
    assert meter.evaluations == 480
    assert meter.forwards <= len(training[Modality.VISIBLE].labels)


def test_the_listing_shows_knowledge_and_cost_without_torch():
    code = "import sys; from vbench.cli import app; app(['list', 'attacks'], standalone_mode=False)"
    code += "; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("False")
    lines = out.splitlines()
    assert "knowledge" in lines[1] and "default cost" in lines[1]
    row = next(line for line in lines if line.startswith("square "))
    assert "black box" in row and "1000 queries an" in row
    row = next(line for line in lines if line.startswith("uap "))
    assert "white box," in row and "12800 gradients" in row
    assert PRICES["fgsm"].cost == "1 gradient an image"
    assert PRICES["pgd"].cost == "30 gradients an image"
    assert PRICES["noise"].cost == "nothing an image"


def test_only_long_attacks_are_announced_with_what_they_ask():
    found = announcement(build_attack("square"), 1920, "agw")
    assert found == (
        "square takes 1000 queries an image: 1,920,000 passes through agw for 1,920 images; "
        "square[queries=100] is quicker and weaker"
    )
    assert "200 queries an image" in announcement(build_attack("simba[queries=200]"), 10, "agw")
    for spec in ("pgd", "lta", "uap", "noise", "square[queries=50]"):
        assert announcement(build_attack(spec), 1920, "agw") is None
