"""Examples of the README and the guides work as they are printed."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from tiny import make_context

from vbench.attacks.build import build_attack, presets
from vbench.attacks.distances import squared_distance
from vbench.attacks.registry import attacks
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.victims.base import default_options

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_example_attack_runs_from_its_file(tmp_path, victim, images):
    (code,) = re.findall(r"```python\n(# mine\.py\n.*?)```", README, re.DOTALL)
    (tmp_path / "mine.py").write_text(code)
    attack = build_attack(f"{tmp_path / 'mine.py'}:Mine[steps=8]")
    context = make_context(victim, images, Modality.INFRARED)
    shown = ThreatModel("8/255").enforce(images, attack.perturb(victim, images, Modality.INFRARED, context))
    with torch.no_grad():
        moved = squared_distance(victim(shown, Modality.INFRARED).embedding, context.clean, "cosine")
    assert moved.mean() > 0.001


def test_the_page_of_attacks_has_a_row_for_each():
    text = (ROOT / "docs" / "attacks.md").read_text()
    rows = "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("|"))
    assert [name for name in attacks.names() if f"`{name}`" not in rows] == []


def test_the_page_of_attacks_says_which_presets_there_are():
    text = (ROOT / "docs" / "attacks.md").read_text()
    others = text.split("| its presets |")[1].split("\n\n")[0].splitlines()[2:]
    told = {name: {"paper", "best", "v1"} for name in attacks.names()}
    for line in others:
        names, named = (set(re.findall(r"`(\w+)`", cell)) for cell in line.split("|")[1:3])
        told |= dict.fromkeys(names, named)
    assert told == {name: set(presets(attacks.load(name))) for name in attacks.names()}


def test_the_guide_names_settings_that_exist():
    from vbench.victims.registry import victims

    rows = re.findall(r"^\| `(\w+)` \| `(\w+)`", (ROOT / "docs" / "victims.md").read_text(), re.MULTILINE)
    named = dict(rows)
    assert set(named) == set(victims.names())
    for name, setting in named.items():
        assert default_options(victims.load(name))["embedding"] == setting
