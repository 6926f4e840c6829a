"""``vbench train`` from a folder of pictures to a weights file that loads."""

from __future__ import annotations

import json

import pytest
import torch
import torchvision
import typer
from typer.testing import CliRunner

from vbench.cli.run import train
from vbench.core.errors import BadInput
from vbench.data.synthetic import write_dataset
from vbench.victims.agw import AGW
from vbench.victims.load import load_victim
from vbench.victims.pretrained import start_from_imagenet


@pytest.fixture(scope="module")
def sysu(tmp_path_factory):
    return write_dataset(
        "sysu", tmp_path_factory.mktemp("data") / "sysu", 20, 0, (32, 16), test_ids=2, quiet=True
    )


def invoke(*arguments):
    app = typer.Typer()
    app.command()(train)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_command_trains_and_writes_what_it_says(sysu, tmp_path):
    out = tmp_path / "agw.safetensors"
    options = ("--dataset", "sysu", "--root", sysu, "--size", "32x16", "--epochs", 1, "--validation", 0.1)
    result = invoke(*options, "--out", out, "--device", "cpu", "--quiet", "--seed", 4)
    assert result.exit_code == 0, result.output
    assert str(out) in result.output
    metadata = json.loads(out.with_suffix(".json").read_text())
    assert metadata["synthetic"] is True
    assert metadata["seed"] == 4
    assert metadata["validation"]["identities"] == len(metadata["held_out_pids"]) == 2
    assert f"mAP {metadata['validation']['mAP']:.1f} %" in result.output
    victim = load_victim("agw", out, device="cpu")
    assert victim.num_classes == 20
    assert victim.input_size == (32, 16)
    assert victim.width == AGW.THIN["width"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--out", "weights.pt"), "safetensors"),
        (("--victim", "agv"), "did you mean 'agw'"),
        (("--size", "32"), "HEIGHTxWIDTH"),
        (("--device", "tpu9"), "device 'tpu9'"),
        (("--protocol", "sysu/al/single/ir2vis/seed10"), "protocol"),
        (("--pretrained", "nowhere.pth"), "no such weights file"),
        (("--validation", "1.5"), "validation share"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(sysu, tmp_path, change, message):
    options = {"--dataset": "sysu", "--root": sysu, "--out": tmp_path / "w.safetensors", "--device": "cpu"}
    options[change[0]] = change[1]
    result = invoke(*(part for pair in options.items() for part in pair), "--quiet", "--epochs", 1)
    assert isinstance(result.exception, BadInput)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not list(tmp_path.glob("w.*"))


def imagenet_file(path, **extra):
    state = torchvision.models.resnet50(weights=None).state_dict()
    torch.save({**state, **extra}, path)
    return state, path


def test_imagenet_weights_fill_both_stems_and_the_trunk_and_nothing_else(tmp_path):
    state, path = imagenet_file(tmp_path / "resnet50.pth")
    agw = AGW(num_classes=3)
    others = {n: t.clone() for n, t in agw.state_dict().items() if not n.startswith("trunk.")}
    start_from_imagenet(agw, path)
    trunk = agw.trunk.state_dict()
    for stem in ("visible_stem", "infrared_stem"):
        assert torch.equal(trunk[f"{stem}.conv1.weight"], state["conv1.weight"])
    for name in ("layer1.0.downsample.0.weight", "layer4.2.bn3.running_var"):
        assert torch.equal(trunk[name], state[name])
    assert all(torch.equal(tensor, agw.state_dict()[name]) for name, tensor in others.items())


def test_imagenet_weights_that_do_not_fit_are_refused(tmp_path):
    _, path = imagenet_file(tmp_path / "more.pth", **{"layer5.weight": torch.ones(1)})
    with pytest.raises(BadInput, match=r"unexpected \(1\): layer5.weight"):
        start_from_imagenet(AGW(num_classes=3), path)
    _, path = imagenet_file(tmp_path / "resnet50.pth")
    with pytest.raises(BadInput, match=r"missing|wrong shape"):
        start_from_imagenet(AGW(num_classes=3, **AGW.THIN), path)


def test_imagenet_weights_are_fetched_only_when_allowed(tmp_path, monkeypatch):
    state, _ = imagenet_file(tmp_path / "resnet50.pth")
    asked = []

    def fetch(url, **options):
        asked.append((url, options))
        return state

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    agw = AGW(num_classes=3)
    with pytest.raises(BadInput, match=r"resnet50 would have to be downloaded .* add --download"):
        start_from_imagenet(agw)
    assert not asked
    start_from_imagenet(agw, download=True)
    assert torch.equal(agw.trunk.layer2[0].conv1.weight, state["layer2.0.conv1.weight"])
    ((url, options),) = asked
    assert "resnet50" in url and options["check_hash"] is True


def test_bfloat16_training_stays_near_float32_and_is_recorded(sysu, tmp_path):
    found = {}
    for precision in ("float32", "bfloat16"):
        out = tmp_path / f"{precision}.safetensors"
        options = ("--dataset", "sysu", "--root", sysu, "--size", "32x16", "--epochs", 2, "--device", "cpu")
        result = invoke(*options, "--precision", precision, "--out", out, "--quiet")
        assert result.exit_code == 0, result.exception
        rows = out.with_suffix(".csv").read_text().splitlines()
        found[precision] = [float(value) for value in rows[-1].split(",")[2:]]
        assert json.loads(out.with_suffix(".json").read_text())["precision"] == f"torch.{precision}"
    assert found["bfloat16"] != found["float32"]
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.1)


def test_unknown_precision_names_the_known_ones(sysu, tmp_path):
    result = invoke(
        "--dataset", "sysu", "--root", sysu, "--out", tmp_path / "w.safetensors", "--precision", "half"
    )
    assert "unknown precision 'half'" in str(result.exception)
