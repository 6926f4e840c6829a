"""A released file loads into its own model; in any other it is refused, and the message says whose it is."""

from __future__ import annotations

import re

import pytest
import torch

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.victims.from_file import models_of
from vbench.victims.load import load_victim
from vbench.victims.registry import VICTIMS, victims

CLASSES = 7
#: Models whose networks, and so whose files, are the same.
SAME = {"agw": {"agw", "caj"}, "caj": {"agw", "caj"}}
RELEASED = [name for name in VICTIMS if victims.load(name).released is not None]


def thin(name):
    cls = victims.load(name)
    return cls(num_classes=CLASSES, **{**cls.THIN, "input_size": (64, 32)}).eval()


@pytest.fixture(scope="module", params=RELEASED)
def released(request, tmp_path_factory):
    """A thin victim, and its tensors under the names its authors use."""
    victim = thin(request.param)
    layout = type(victim).released
    state = {layout.released_name(own): tensor for own, tensor in victim.state_dict().items()}
    path = tmp_path_factory.mktemp("released") / f"{request.param}.t"
    torch.save({"net": state, "epoch": 3}, path)
    return victim, path


def shape(name):
    return {**victims.load(name).THIN, "input_size": (64, 32)}


def test_every_model_but_those_of_papers_without_code_has_a_layout():
    assert set(VICTIMS) - set(RELEASED) <= {"mrcn"}


def test_it_loads_into_its_own_model(released):
    victim, path = released
    loaded = load_victim(victim.name, path, device="cpu", **shape(victim.name))
    images = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    for modality in Modality:
        with torch.no_grad():
            assert torch.equal(loaded(images, modality).embedding, victim(images, modality).embedding)
    assert loaded.num_classes == CLASSES


@pytest.mark.parametrize("other", list(VICTIMS))
def test_it_is_refused_by_every_other_model_by_name(released, other):
    victim, path = released
    if other in SAME.get(victim.name, {victim.name}):
        return
    with pytest.raises(BadInput) as caught:
        load_victim(other, path, device="cpu", **shape(other))
    text = str(caught.value)
    assert f" {victim.name.upper()} checkpoint (victim {victim.name})" in text
    assert "this looks like a" in text and f"not like a checkpoint of {other}" in text
    assert "\n" not in text and str(path) in text


def test_a_lost_an_added_and_a_bent_tensor_are_named(released, tmp_path):
    victim, path = released
    state = torch.load(path, weights_only=True)["net"]
    marks = type(victim).released.marks
    floats = [n for n, t in state.items() if n not in marks and t.ndim > 1 and "classifier" not in n]
    name = sorted(floats)[len(floats) // 2]
    bent = {**state, name: state[name].unsqueeze(-1)}
    without = {n: t for n, t in state.items() if n != name}
    added = {**state, "brand.new.weight": torch.ones(2)}
    for change, kind, named in (
        (without, "missing", name),
        (added, "unexpected", "brand.new.weight"),
        (bent, "wrong shape", name),
    ):
        file = tmp_path / f"{kind}.t"
        torch.save({"net": change, "epoch": 3}, file)
        with pytest.raises(BadInput, match=rf"{kind} \(1\): {re.escape(named)}"):
            load_victim(victim.name, file, device="cpu", **shape(victim.name))


def test_nothing_is_recognised_in_a_foreign_file():
    assert models_of({"weight": torch.zeros(1), "layer.bias": torch.zeros(2)}) == []
