"""Two modules that compute different things are two victims, however alike they look."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vbench import build_attack, wrap
from vbench.core.errors import BadInput
from vbench.victims.build import _structure
from vbench.victims.load import load_victim


class Net(nn.Module):
    def __init__(self, function, table):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3, padding=1)
        self.function, self.table = function, table
        nn.init.constant_(self.body.weight, 0.01)
        nn.init.zeros_(self.body.bias)

    def forward(self, images):
        return self.function(self.body(images)).mean((2, 3)) * self.table[0]


def structure(module):
    return _structure(wrap(module, input_size=(16, 8), name="mine"))


def test_traced_modules_differ_by_their_code():
    traced = [torch.fx.symbolic_trace(Net(one, [1.0]).eval()) for one in (torch.tanh, torch.tanh, torch.sin)]
    first, same, other = map(structure, traced)
    assert first == same != other


@pytest.mark.parametrize(("one", "other"), [([1.0], [2.0]), (torch.ones(1), torch.ones(1) * 2)])
def test_modules_differ_by_what_their_attributes_hold(one, other):
    made = [structure(Net(torch.tanh, table).eval()) for table in (one, one, other)]
    assert made[0] == made[1] != made[2]


def test_a_scripted_module_and_stages_that_are_no_names_are_refused():
    net = Net(torch.tanh, [1.0]).eval()
    with pytest.raises(BadInput, match="call="):
        wrap(torch.jit.trace(net, torch.rand(2, 3, 16, 8)), input_size=(16, 8))
    with pytest.raises(BadInput, match="names of submodules"):
        wrap(net, input_size=(16, 8), stages=5)


def test_settings_in_brackets_are_not_dropped():
    with pytest.raises(BadInput, match="not in brackets"):
        load_victim("deen[embedding=weighted]", num_classes=5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"modality": "rgb"}, "a modality is 'visible' or 'infrared'"),
        ({"images": torch.rand(0, 3, 16, 8)}, "at least one"),
        ({"images": "image.png"}, "must be a tensor"),
        ({"seed": 1.5}, "seed"),
        ({"labels": torch.zeros(3, dtype=torch.long)}, "one class for each image"),
    ],
)
def test_a_call_of_an_attack_refuses_what_it_cannot_use(change, said):
    victim = wrap(Net(torch.tanh, [1.0]).eval(), input_size=(16, 8))
    given = {"images": torch.rand(2, 3, 16, 8), "modality": "visible", **change}
    with pytest.raises(BadInput, match=said):
        build_attack("metric_ifgsm[steps=2]")(victim, **given)
