"""Numbers that are not finite and memory that is short: the run fails by name, and the sweep goes on."""

from __future__ import annotations

import json

import pytest
import torch
from faults.conftest import facts, run_arguments, train_arguments
from sweep_world import build_world, forked_workers  # noqa: F401

from vbench.victims.checkpoint import read_checkpoint, write_checkpoint
from vbench.victims.registry import victims

_ATTACK = """\
import torch
from vbench.attacks.noise import Noise

class {name}(Noise):
    name, summary = "{lower}", "returns what is no image"

    def craft(self, victim, images, modality, context):
        return images + float("{value}")
"""


def damaged_weights(good, path, value: float):
    """Weights of the same victim, some of which are not numbers."""
    found = read_checkpoint(good)
    state = {name: tensor.clone() for name, tensor in found.state.items()}
    first = next(name for name in state if name.endswith("conv1.weight") or "conv" in name)
    state[first].view(-1)[0] = value
    write_checkpoint(path, state, found.metadata)
    return path


def attack_file(folder, value: str):
    path = folder / f"{value}.py"
    name = value.capitalize()
    path.write_text(_ATTACK.format(name=f"Odd{name}", lower=f"odd_{value}", value=value))
    return f"{path}:Odd{name}"


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("who", ["attack", "victim"])
def test_a_value_that_is_not_finite_fails_its_run_by_name(quick, vbench, tmp_path, who, value):
    runs = tmp_path / "runs"
    given = run_arguments(quick, runs, "--attack", "noise")
    if who == "attack":
        given += ["--attack", attack_file(tmp_path, value)]
        expected = f"'odd_{value}' yields non-finite"
    else:
        place = given.index("--weights") + 1
        given[place] = str(damaged_weights(given[place], tmp_path / "odd.safetensors", float(value)))
        expected = "odd.safetensors: its tensor "
    (line,) = vbench(*given, expect=1 if who == "attack" else 2).stderr.strip().splitlines()
    assert expected in line and "finite" in line
    assert len(facts(runs)) == (1 if who == "attack" else 0), "what was finished before is kept"


@pytest.mark.usefixtures("forked_workers")
def test_a_sweep_goes_on_past_victims_and_attacks_that_fail(vbench, tmp_path):
    world = build_world(tmp_path)
    damaged_weights(tmp_path / "agw.safetensors", tmp_path / "nan.safetensors", float("nan"))
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "agw.safetensors").read_bytes()[:-99])
    suite = tmp_path / "suite.yaml"
    names = ["nan", "cut", "agw"]
    chosen = [{"name": "agw", "weights": f"{name}.safetensors"} for name in names]
    suite.write_text(
        f"victims: {json.dumps(chosen)}\ndatasets: {{name: sysu, root: data}}\nignore_gates: true\n"
        "attacks: ['./odd.py:Bad', noise]\nresources: {jobs: 1, retries: 0}\n"
    )
    assert world.folder == tmp_path
    done = vbench("sweep", suite, "--allow-code", "--runs", tmp_path / "runs", expect=1)
    said = " ".join(done.stdout.split())
    assert "6 runs: 1 done (1 of them now), 5 failed" in said
    for reason in ("numbers that are not finite", "damaged or incomplete", "'bad' yields non-finite"):
        assert reason in said
    assert [one["label"] for one in facts(tmp_path / "runs").values()] == ["noise"]


def test_training_without_memory_is_one_line(people, vbench, tmp_path, monkeypatch):
    def crowded(victim, batch):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(victims.load("agw"), "training_losses", crowded)
    out = tmp_path / "agw.safetensors"
    done = vbench(*train_arguments(people, out, epochs=1), expect=1)
    (line,) = done.stderr.strip().splitlines()
    assert "training agw: out of memory with a batch of" in line and "smaller --size" in line
    assert not list(tmp_path.glob("agw*"))
