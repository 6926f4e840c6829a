"""What attacks and victims return is checked at the door, in one line that names them."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import misbehaving
import numpy as np
import pytest
import torch
from misbehaving import flat, per_image, universal
from tiny import TinyVictim, make_training
from torch import nn

from vbench.attacks import Perturbation
from vbench.attacks.build import build_attack
from vbench.attacks.returned import own_images, plain
from vbench.core.errors import VbenchError
from vbench.core.isolation import twin
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality

NESTED = {}
for _ in range(300):
    NESTED = {"a": NESTED}


@pytest.mark.parametrize("name", misbehaving.FAILING)
def test_what_craft_returns(fresh, row, name):
    craft, said = misbehaving.FAILING[name]
    with pytest.raises(VbenchError, match=f"attack '{name}'.*{said}"):
        raise VbenchError(row(fresh(), per_image(name, craft)))


@pytest.mark.parametrize("name", misbehaving.VICTIMS)
def test_what_forward_returns(fresh, row, name):
    forward, said = misbehaving.VICTIMS[name]
    line = row(fresh(misbehaving.victim(forward)), build_attack("noise"))
    assert isinstance(line, str) and "\n" not in line
    with pytest.raises(VbenchError, match=f"made.*{said}"):
        raise VbenchError(line)


@pytest.mark.parametrize(
    ("learn", "said"),
    [
        (lambda victim, *_: None, "learnt a NoneType, not a Perturbation"),
        (lambda victim, *_: flat(victim).delta, "learnt a Tensor, not a Perturbation"),
        (lambda victim, *_: Perturbation(torch.zeros(3, 4, 4)), r"the delta has shape \(3, 4, 4\)"),
        (lambda victim, *_: Perturbation(torch.zeros(3, 16, 8, dtype=torch.int64)), "floating-point"),
        (lambda victim, *_: flat(victim, float("nan")), "learnt a non-finite perturbation"),
        (
            lambda victim, *_: Perturbation(flat(victim).delta, {"a": None}),
            "module 'a' must be a torch.Tensor",
        ),
        (lambda victim, *_: Perturbation(flat(victim).delta, fit_log=[1]), "fit_log .* is no table"),
        (lambda victim, *_: Perturbation(flat(victim).delta, fit_log=NESTED), "more than 50 levels deep"),
        (lambda victim, *_: Perturbation(flat(victim).delta, fit_log={"a": {1j}}), "holds a set"),
        (
            lambda victim, *_: Perturbation(flat(victim).delta, provenance={"a": object()}),
            "provenance .* a object",
        ),
    ],
)
def test_what_learn_returns(fresh, row, learn, said):
    with pytest.raises(VbenchError, match=f"attack 'learns'.*{said}"):
        raise VbenchError(row(fresh(), universal("learns", learn)))


def test_a_log_is_made_plain():
    log = {
        "surrogate": "\ud800",
        "numbers": (np.float32(0.5), np.int64(3), torch.tensor(2.0), np.bool_(True), Fraction(1, 4)),
        "array": np.arange(3),
        7: float("nan"),
        "modality": Modality.VISIBLE,
        "inf": float("inf"),
    }
    found = plain(log)
    assert found == {
        "surrogate": "\\ud800",
        "numbers": [0.5, 3, 2.0, True, 0.25],
        "array": [0, 1, 2],
        "7": "nan",
        "modality": "visible",
        "inf": "inf",
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    json.dumps(found, ensure_ascii=False).encode()


def test_a_log_of_anything_is_stored(fresh, tmp_path):
    from vbench.records.store import RunStore
    from vbench.run.execute import Run
    from vbench.run.session import Recorder

    log = {"a": "\udcff", "b": np.float64("nan"), "c": torch.arange(2)}
    attack = universal("logs", lambda victim, *_: Perturbation(flat(victim).delta, fit_log=log))
    store = RunStore(tmp_path)
    run = Run(fresh(), attack, ThreatModel("8/255"), ignore_gates=True)
    record = Recorder(store, quiet=True).record(run)
    (read,) = store.read_all().records
    assert read.fit_log == record.fit_log and read.fit_log["b"] == "nan" and read.fit_log["c"] == [0, 1]
    (path,) = (tmp_path / "perturbations").iterdir()
    assert Perturbation.load(path).fit_log == record.fit_log


def test_what_is_returned_is_nobody_elses():
    images = torch.rand(2, 3, 4, 4)
    given = images + 0.1
    found = own_images("attack 'a'", given, images)
    given.zero_()
    assert torch.equal(found, images + 0.1)


def test_callers_keep_their_images(victim, images):
    attack = per_image("images", lambda victim, images, *_: images.zero_())
    from tiny import make_context

    before = images.clone()
    found = attack.perturb(victim, images, Modality.VISIBLE, make_context(victim, images, Modality.VISIBLE))
    assert torch.equal(images, before) and not found.any()


def test_a_learnt_perturbation_is_nobody_elses(victim):
    delta = torch.zeros(3, 16, 8)
    attack = universal("learns", lambda victim, *_: Perturbation(delta))
    training, threat = make_training(victim), ThreatModel("8/255")
    found = attack.fit(victim, training, threat, torch.Generator(), quiet=True)
    delta.fill_(9)
    assert not found.delta.any()


class Weighted(TinyVictim):
    """Keeps the result of a computation as an attribute, as weight_norm does."""

    name = "weighted"

    def __init__(self):
        super().__init__()
        self.body = nn.utils.weight_norm(self.body)
        self.shared = {"classifier": self.classifier}


def test_a_twin_is_independent_and_computes_the_same(images):
    victim = Weighted().double().eval()
    victim(images, Modality.VISIBLE).embedding.sum().backward()
    copied = twin(victim)
    expected = victim(images, Modality.VISIBLE).embedding
    assert torch.equal(copied(images, Modality.VISIBLE).embedding, expected)
    assert copied.shared["classifier"] is copied.classifier is not victim.classifier
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert torch.equal(victim(images, Modality.VISIBLE).embedding, expected)


def test_a_victim_that_cannot_be_copied_says_so(fresh, row):
    victim = TinyVictim()
    victim.source = (one for one in ())
    said = row(fresh(victim), build_attack("noise"))
    assert "victim 'tiny' is run on copies and cannot be copied: TypeError" in said


class Plain(TinyVictim):
    """Has no parameters, and saves something beside tensors."""

    name = "plain"

    def __init__(self):
        super().__init__()
        for name in ("stems", "norm", "dropout", "body", "classifier"):
            delattr(self, name)
        self.num_classes, self.stages = 0, ()

    def forward(self, images, modality, edits=None):
        from vbench.victims.base import VictimOutput

        grey = nn.functional.avg_pool2d(images.mean(1, keepdim=True), 4).flatten(1)
        return VictimOutput(grey - grey.mean(1, keepdim=True))

    def get_extra_state(self):
        return {"a": [1, 2]}

    def set_extra_state(self, state):
        pass


def test_a_victim_without_weights_is_attacked(fresh, row):
    for spec in ("noise", "metric_ifgsm[steps=2]"):
        assert not isinstance(row(fresh(Plain()), build_attack(spec)), str)


def test_extra_state_is_part_of_the_weights(fresh):
    class Other(Plain):
        def get_extra_state(self):
            return {"a": [1, 3]}

    assert fresh(Plain()).weights_hash == fresh(Plain()).weights_hash != fresh(Other()).weights_hash


def test_a_victim_that_draws_does_so_from_each_images_seed(fresh, row):
    def forward(self, images, output):
        return replace(output, embedding=output.embedding + 0.1 * torch.rand_like(output.embedding))

    bench = fresh(misbehaving.victim(forward))
    first = row(bench, build_attack("noise"))
    torch.manual_seed(5)
    assert row(bench, build_attack("metric_fgsm")) and row(bench, build_attack("noise")) == first


def test_a_victim_that_counts_its_calls_has_the_rows_it_has_alone(fresh, row):
    def forward(self, images, output):
        self.calls = getattr(self, "calls", 0) + 1
        return replace(output, embedding=output.embedding.roll(self.calls, 1) * self.calls)

    bench = fresh(misbehaving.victim(forward))
    row(bench, build_attack("metric_ifgsm"))
    row(bench, build_attack("uap[evaluations=48,batch=12]"))
    alone = row(fresh(misbehaving.victim(forward)), build_attack("pgd[steps=2]"))
    assert not isinstance(alone, str), alone
    assert row(bench, build_attack("pgd[steps=2]")) == alone


def test_a_victim_that_uses_its_output_again_keeps_no_embedding(fresh):
    def forward(self, images, output):
        if getattr(self, "room", None) is None or len(self.room) != len(images):
            self.room = torch.empty_like(output.embedding)
        return replace(output, embedding=self.room.copy_(output.embedding))

    from vbench.victims.embed import embed

    bench, plain_bench = fresh(misbehaving.victim(forward)), fresh()
    for side, pixels in bench.pixels.items():
        found = embed(bench.victim, pixels, bench.modality(side), batch=8, quiet=True).embeddings
        expected = embed(plain_bench.victim, pixels, bench.modality(side), batch=8, quiet=True).embeddings
        assert torch.equal(found, expected)
