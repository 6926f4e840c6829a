"""Thin victims are trained on the CPU in float32, whatever they will be used on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import quick as quickly
import torch
from opening import opener

from vbench.data import open_dataset
from vbench.victims.training import trainer


class Enough(Exception):
    """Training was asked for; nothing is trained."""


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0"])
@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
def test_device_and_precision_of_use_are_not_those_of_training(tmp_path, monkeypatch, device, precision):
    seen = {}

    def trained(victim, dataset, images, **how):
        seen.update(how, threads=torch.get_num_threads(), of={p.device.type for p in victim.parameters()})
        raise Enough

    monkeypatch.setattr(trainer, "train_victim", trained)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(major=9))
    made = quickly.make(tmp_path)
    thin = opener(size=quickly.SIZE, device=device, precision=precision)
    with pytest.raises(Enough):
        thin.bench(open_dataset("sysu", made.root), made.cache, quiet=True)
    assert (seen["device"], seen["precision"], seen["threads"]) == ("cpu", "float32", 2)
    assert seen["of"] == {"cpu"}
