"""A victim from outside, the way its author uses vbench: installed or as a file, trained, run, tabulated."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[1] / "plugins" / "plain_resnet"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The sample distribution, installed into a folder of its own."""
    folder, source = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("source")
    for file in PLUGIN.iterdir():
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    from vbench.data.synthetic import write_dataset

    folder = tmp_path_factory.mktemp("data") / "sysu"
    return write_dataset("sysu", folder, ids=12, seed=0, size=(32, 16), test_ids=6, quiet=True)


@pytest.fixture
def vbench(forked):
    """Call the command line in a process that finds modules in a folder; returns what it printed."""

    def call(*arguments, path=PLUGIN, expect=0):
        done = forked(*arguments, path=[str(path)])
        assert done.code == expect, done.printed
        return done.printed

    return call


@pytest.mark.slow
def test_installed_victim_is_listed_described_trained_and_run(installed, data, vbench, tmp_path):
    assert "vbench-plain-resnet" in vbench("list", "victims", path=installed)
    assert "one ResNet-18" in vbench("describe", "victim", "plain_resnet", path=installed)
    where = ("--dataset", "sysu", "--root", data, "--quiet", "--device", "cpu")
    weights = tmp_path / "plain.safetensors"
    train = ("train", "--victim", "plain_resnet", *where, "--epochs", 1, "--size", "32x16")
    assert str(weights) in vbench(*train, "--out", weights, path=installed)
    run = ("run", "--victim", "plain_resnet", "--weights", weights, *where, "--ignore-gates")
    runs = tmp_path / "runs"
    attacks = ("--attack", "metric_fgsm", "--attack", "fgsm")
    attacks += ("--attack", "fsam_uap[evaluations=64,batch=8,module_steps=2]")
    table = vbench(*run, *attacks, "--runs", runs, "--format", "csv", path=installed)
    assert table.count("plain_resnet") >= 3
    records = [json.loads(file.read_text()) for file in runs.glob("*.json")]
    assert len(records) == 3
    assert all(round(record["size"]["linf_levels"]) <= 8 for record in records)
    assert any(record["size"]["linf_levels"] > 0 for record in records)


def test_victim_in_a_file_needs_no_installation(data, vbench, tmp_path):
    spec = f"{PLUGIN / 'plain_resnet.py'}:PlainResNet"
    assert "one ResNet-18" in vbench("describe", "victim", spec, path=tmp_path)
    run = ("run", "--victim", spec, "--attack", "noise", "--dataset", "sysu", "--root", data)
    assert "has no thin variant" in vbench(*run, "--runs", tmp_path / "runs", path=tmp_path, expect=2)


def test_victim_that_cannot_be_trained_says_so(data, vbench, tmp_path):
    spec = f"{PLUGIN / 'plain_resnet.py'}:PlainResNet[input_size=64x32]"
    out = tmp_path / "w.safetensors"
    train = ("train", "--victim", spec, "--dataset", "sysu", "--root", data, "--out", out)
    assert "declares no training recipe" in vbench(*train, path=tmp_path, expect=2)


def test_the_sample_is_as_short_as_promised():
    lines = (PLUGIN / "plain_resnet.py").read_text().split("class PlainResNet")[1].splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 20
