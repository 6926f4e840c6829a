"""Rows of one command are what they are alone, in any order, whatever the other attacks do."""

from __future__ import annotations

import random
from functools import partial

import misbehaving
import pytest
import torch
from tiny import TinyVictim

from vbench.attacks import Battery
from vbench.attacks.build import build_attack
from vbench.attacks.registry import attacks
from vbench.core.isolation import random_state, seed_all
from vbench.core.threat import ThreatModel
from vbench.run.craft import craft_side

#: Settings that take no time; the others are quick as they are.
SHORT = {
    "square": "square[queries=4]",
    "simba": "simba[queries=4]",
    "uap": "uap[evaluations=48,batch=12]",
    "cmps": "cmps[evaluations=48,batch=6]",
    "muap": "muap[evaluations=48,batch=12]",
    "mis_ranking": "mis_ranking[evaluations=48,batch=12,width=4,blocks=1]",
    "fsam_uap": "fsam_uap[evaluations=360,batch=12,hinge=soft,module_steps=2,stages=stem,level=feature]",
}
GOOD = [
    build_attack(SHORT.get(name, name))
    for name in attacks.names()
    if not issubclass(attacks.load(name), Battery)
]


@pytest.fixture(scope="module")
def alone(fresh, row):
    """Each good row on a victim of its own."""
    return {attack.name: row(fresh(), attack) for attack in (*GOOD, *misbehaving.CHANCE)}


def test_every_built_in_attack_has_a_row(alone):
    assert len(alone) == len(GOOD) + len(misbehaving.CHANCE)
    assert [found for found in alone.values() if isinstance(found, str)] == []


@pytest.mark.parametrize("order", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_good_rows_are_the_same_among_bad_ones(fresh, row, alone, order):
    good = [*GOOD, *misbehaving.CHANCE]
    bad = [*misbehaving.HARMLESS, *misbehaving.harmful(), *misbehaving.failing()]
    mixed = [*good, *bad]
    random.Random(order).shuffle(mixed)
    bench, learnt = fresh(), {}
    misbehaving.REACHED[:] = [bench.victim]
    seed_all(order)
    found = {attack.name: row(bench, attack, learnt=learnt) for attack in mixed}
    for attack in good:
        assert found[attack.name] == alone[attack.name], attack.name
    for attack in misbehaving.HARMLESS:
        assert not isinstance(found[attack.name], str), found[attack.name]
    for name in (*misbehaving.HARMFUL, *misbehaving.FAILING):
        assert isinstance(found[name], str) and f"'{name}'" in found[name] and "\n" not in found[name]


@pytest.mark.parametrize("attack", misbehaving.HARMLESS[:3], ids=lambda attack: attack.name)
def test_a_row_of_an_attack_that_works_in_place_is_that_of_one_that_does_not(fresh, row, attack):
    honest = {"images": lambda images: images * 0, "data": lambda images: torch.ones_like(images)}
    change = honest.get(attack.name, lambda images: images)
    other = misbehaving.per_image(attack.name, lambda victim, images, *_: change(images), attack.knowledge)
    assert row(fresh(), attack) == row(fresh(), other)


def test_an_attack_that_spoils_its_victim_shows_what_it_shows_to_the_one_that_was_opened(fresh, row):
    nothing = misbehaving.per_image("weights", lambda victim, images, *_: images)
    found, expected = row(fresh(), misbehaving.HARMLESS[3]), row(fresh(), nothing)
    assert found == expected and found[0]["adversarial"] == found[0]["clean"]


@pytest.mark.parametrize("attack", misbehaving.CHANCE, ids=lambda attack: attack.name)
def test_chance_is_the_seeds(fresh, row, attack, monkeypatch):
    benches = [fresh() for _ in range(4)]
    first = row(benches[0], attack)
    seed_all(99)
    before = random_state()
    assert row(benches[1], attack) == first != row(benches[2], attack, seed=1)
    assert random_state() == before
    monkeypatch.setattr("vbench.run.execute.craft_side", partial(craft_side, batch=5))
    assert row(benches[3], attack)[0]["size"] == pytest.approx(first[0]["size"], rel=1e-12)


@pytest.mark.parametrize("name", misbehaving.HARMFUL)
def test_what_was_changed_is_named_and_put_back(fresh, row, name):
    change, named = misbehaving.HARMFUL[name]
    bench = fresh()
    misbehaving.REACHED[:] = [bench.victim]
    forward, state = TinyVictim.forward, {k: v.clone() for k, v in bench.victim.state_dict().items()}
    said = row(bench, misbehaving.per_image(name, misbehaving._after(change)))
    assert f"attack '{name}' changed" in said and named in said
    assert torch.get_default_dtype() is torch.float32 and torch.empty(0).device.type == "cpu"
    assert TinyVictim.forward is forward and not torch.is_autocast_enabled("cpu")
    assert not nn_hooks() and torch.get_float32_matmul_precision() == "highest"
    assert not bench.victim.training and not bench.victim._forward_hooks
    assert "similarity" not in vars(bench.victim) and bench.victim.body.weight.requires_grad
    assert all(torch.equal(state[key], value) for key, value in bench.victim.state_dict().items())


def nn_hooks():
    return torch.nn.modules.module._global_forward_hooks


def test_what_an_attack_learns_while_it_tampers_is_used_by_nobody(fresh, row):
    def learn(victim, *_):
        torch.set_default_dtype(torch.float64)
        return misbehaving.flat(victim)

    bench, learnt, attack = fresh(), {}, misbehaving.universal("greedy", learn)
    for side in ("query", "gallery"):
        assert "default dtype" in row(bench, attack, ThreatModel("8/255", side=side), learnt=learnt)
    assert not learnt


def test_an_attack_keeps_nothing_of_its_own_between_runs(fresh, row):
    def craft(victim, images, modality, context):
        seen.append(len(images))
        return images

    class Counting(type(misbehaving.per_image("counting", craft))):
        calls = 0

        def craft(self, victim, images, modality, context):
            object.__setattr__(self, "calls", self.calls + 1)
            seen.append(self.calls)
            return images

    seen, attack = [], Counting()
    for seed in (0, 1):
        row(fresh(), attack, seed=seed)
    assert seen[0] == 1 and seen == seen[: len(seen) // 2] * 2 and "calls" not in vars(attack)
