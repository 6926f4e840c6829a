"""A budget of gradient evaluations that pays for no update: what was given, and what is needed."""

from __future__ import annotations

import re

import pytest
import torch

from vbench.attacks.build import build_attack
from vbench.attacks.updates import updates_for
from vbench.core.errors import BadInput
from vbench.core.threat import ThreatModel


@pytest.mark.parametrize(
    "spec",
    [
        "uap[evaluations={}]",
        "muap[evaluations={}]",
        "mis_ranking[evaluations={}]",
        "cmps[evaluations={}]",
        "fsam_uap[evaluations={}]",
    ],
)
@pytest.mark.parametrize("given", [1, 5])
def test_what_is_asked_for_is_enough(victim, training, spec, given):
    def learn(evaluations):
        attack = build_attack(spec.format(evaluations))
        return attack.learn(victim, training, ThreatModel("8/255"), torch.Generator(), True)

    with pytest.raises(BadInput) as caught:
        learn(given)
    line = str(caught.value)
    assert f"evaluations={given} " in line and not re.search(r"-\d", line)
    needed = int(re.findall(r"\d+", line)[-1])
    with pytest.raises(BadInput):
        learn(needed - 1)
    learn(needed)


@pytest.mark.parametrize(("given", "per_update", "before"), [(5, 64, 0), (640, 64, 640), (640, 64, 1280)])
def test_the_message_has_no_negative_number(given, per_update, before):
    with pytest.raises(BadInput) as caught:
        updates_for(given, per_update, "fsam_uap", before)
    line = str(caught.value)
    assert f"evaluations={given} " in line and str(before + per_update) in line
    assert not re.search(r"-\d", line)
    assert updates_for(before + per_update, per_update, "fsam_uap", before) == 1
