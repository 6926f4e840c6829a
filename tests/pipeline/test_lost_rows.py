"""A command whose attacks or victims misbehave: other rows are printed and stored, and it exits with 1."""

from __future__ import annotations

import re

import pytest
from tiny import SIZE, TinyVictim

from vbench.records.store import RunStore

PLUGINS = """
import torch
from dataclasses import dataclass
from tiny import TinyVictim
from vbench.attacks import PerImageAttack

class Weighted(TinyVictim):
    name = "weighted"

    def __init__(self, seed: int = 0, num_classes: int = 6):
        super().__init__(seed)

class Raising(Weighted):
    name = "raising"

    def forward(self, images, modality, edits=None):
        raise RuntimeError("not today")
"""
ATTACK = """
@dataclass(frozen=True)
class {}(PerImageAttack):
    name = summary = "{}"

    def craft(self, victim, images, modality, context):
        {}
        return images
"""
CRAFTS = {
    "Raises": "raise KeyError('key')",
    "Exits": "raise SystemExit(0)",
    "Threads": "torch.set_num_threads(torch.get_num_threads() + 1)",
}


@pytest.fixture
def command(vbench, tmp_path):
    """``vbench run`` on drawn people with attacks and victims of a file."""
    from vbench.data.synthetic import write_dataset
    from vbench.victims.checkpoint import write_checkpoint

    file = tmp_path / "mine.py"
    attacks = (ATTACK.format(name, name.lower(), craft) for name, craft in CRAFTS.items())
    file.write_text(PLUGINS + "".join(attacks))
    root = write_dataset("sysu", tmp_path / "data", ids=6, seed=3, size=SIZE, test_ids=4, quiet=True)
    weights = tmp_path / "tiny.safetensors"
    write_checkpoint(weights, TinyVictim().state_dict(), {})
    given = ["--dataset", "sysu", "--root", root, "--weights", weights, "--ignore-gates"]
    given += ["--runs", tmp_path / "runs"]

    def call(attacks, victims=("Weighted",), expect=0, **more):
        named = [part for one in victims for part in ("--victim", f"{file}:{one}")]
        texts = [one if ":" not in one else f"{file}{one}" for one in attacks]
        named += [part for one in texts for part in ("--attack", one)]
        return vbench("run", *named, *given, "--quiet", *more.get("options", ()), expect=expect)

    return call


@pytest.mark.parametrize("style", ["plain", "csv"])
def test_the_command_finishes_the_others_and_exits_with_1(command, tmp_path, style):
    attacks = ["noise", ":Raises", ":Exits", ":Threads", "metric_fgsm"]
    done = command(attacks, expect=1, options=("--format", style))
    stored = {record.label for record in RunStore(tmp_path / "runs").read_all().records}
    assert stored == {"noise", "metric_fgsm"}
    assert "metric_fgsm" in done.stdout
    for name, said in (("raises", "KeyError: 'key'"), ("exits", "SystemExit: 0")):
        line = rf"weighted, {name}, seed 0: attack '{name}': .*mine\.py, line \d+: {said}"
        assert re.search(line, done.stderr) and bool(re.search(line, done.stdout)) == (style == "plain")
    assert "attack 'threads' changed torch's number of threads" in done.stderr
    assert len(done.stderr.splitlines()) == 3


def test_the_command_with_one_lost_row_is_one_line(command):
    done = command([":Raises"], expect=1)
    assert re.match(r"vbench: attack 'raises': .*mine\.py, line \d+: KeyError: 'key'", done.stderr)
    assert len(done.stderr.splitlines()) == 1


def test_the_command_goes_on_with_the_next_victim(command):
    done = command(["noise"], ("Raising", "Weighted"), expect=1)
    assert re.search(r"victim 'raising': .*mine\.py, line \d+: RuntimeError: not today", done.stderr)
    assert "weighted" in done.stdout


def test_bad_input_before_the_work_stops_everything(command, tmp_path):
    done = command([":Raises", "noise[kind=none]"], expect=2)
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "runs").exists()
