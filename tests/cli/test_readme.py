"""The README's own example works as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from tiny import make_context

from vbench.attack_spec import build_attack
from vbench.attacks.distances import squared_distance
from vbench.threat import ThreatModel
from vbench.types import Modality

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_example_attack_runs_from_its_file(tmp_path, victim, images):
    (code,) = re.findall(r"```python\n(# mine\.py\n.*?)```", README, re.DOTALL)
    (tmp_path / "mine.py").write_text(code)
    attack = build_attack(f"{tmp_path / 'mine.py'}:Mine[steps=8]")
    context = make_context(victim, images, Modality.INFRARED)
    shown = ThreatModel("8/255").enforce(images, attack.perturb(victim, images, Modality.INFRARED, context))
    with torch.no_grad():
        moved = squared_distance(victim(shown, Modality.INFRARED).embedding, context.clean, "cosine")
    assert moved.mean() > 0.001


def test_every_command_of_the_readme_exists():
    from typer.main import get_command

    from vbench.cli import app

    known = get_command(app).commands
    named = set(re.findall(r"^(?:\s*)vbench (\w+)", README, re.MULTILINE))
    assert named and named <= set(known)
    commands = [*(known[name] for name in named), *known["data"].commands.values()]
    parameters = [parameter for command in commands for parameter in command.params]
    options = {option for one in parameters for option in (*one.opts, *one.secondary_opts)}
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
    assert set(re.findall(r"(?<=\s)--[a-z][a-z-]*", blocks)) <= options
