"""Released files become safe ones that know their split; another split or another model is refused."""

from __future__ import annotations

import hashlib

import pytest
import torch
from opening import opener
from released_agw import released_layout, save_released
from typer.testing import CliRunner

from vbench.cli import app
from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.data.synthetic import write_dataset
from vbench.victims.checkpoint import read_checkpoint, read_metadata, sha256_of
from vbench.victims.load import load_victim

SHAPE = "width=0.0625,blocks=1,1,1,1,input_size=32x16"
OPTIONS = {"width": 0.0625, "blocks": (1, 1, 1, 1), "input_size": (32, 16), "device": "cpu"}


def convert(*arguments):
    return CliRunner().invoke(app, ["victims", "convert", *map(str, arguments)])


def released(path, classes):
    return save_released(path, released_layout(classes, width=4, blocks=(1, 1, 1, 1)))


@pytest.fixture(scope="module")
def regdb_file(tmp_path_factory):
    return released(tmp_path_factory.mktemp("released") / "regdb_agw_seed_0_trial_3_best.t", 206)


def test_converted_file_embeds_alike_and_says_where_it_comes_from(regdb_file, tmp_path):
    out = tmp_path / "safe.safetensors"
    result = convert(regdb_file, "--victim", f"agw[{SHAPE}]", "--out", out)
    assert result.exit_code == 0, result.exception
    before, after = load_victim("agw", regdb_file, **OPTIONS), load_victim("agw", out, device="cpu")
    images = torch.rand(2, 3, 32, 16, generator=torch.Generator().manual_seed(0))
    for modality in Modality:
        assert torch.equal(before(images, modality).embedding, after(images, modality).embedding)
    metadata = read_metadata(out)
    assert metadata["split"] == "regdb/trial-3"
    assert metadata["released"]["sha256"] == hashlib.sha256(regdb_file.read_bytes()).hexdigest()
    assert metadata["released"]["beside"]["epoch"] == 7
    assert metadata["sha256"] == sha256_of(read_checkpoint(out).state)
    assert metadata["sha256"] in result.output and metadata["released"]["sha256"] in result.output


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("regdb_agw_trial_3.t", ("--split", "regdb/trial-4"), "says regdb/trial-3"),
        ("regdb_agw_best.t", (), "give --split regdb/trial-N"),
        ("regdb_agw_best.t", ("--split", "regdb/trial-12"), "unknown split"),
        ("regdb_agw_best.t", ("--split", "regdb/trial-2", "--out", "w.pth"), "name the file so"),
    ],
)
def test_what_cannot_be_converted_is_refused_in_one_line(regdb_file, tmp_path, name, arguments, message):
    file = tmp_path / name
    file.write_bytes(regdb_file.read_bytes())
    out = () if "--out" in arguments else ("--out", tmp_path / "w.safetensors")
    result = convert(file, "--victim", f"agw[{SHAPE}]", *out, *arguments)
    assert isinstance(result.exception, BadInput)
    assert message in str(result.exception) and "\n" not in str(result.exception)
    assert not list(tmp_path.glob("w.*"))


def test_a_file_of_ours_and_an_existing_out_are_left_alone(regdb_file, tmp_path):
    out = tmp_path / "safe.safetensors"
    assert convert(regdb_file, "--victim", f"agw[{SHAPE}]", "--out", out).exit_code == 0
    written = out.read_bytes()
    again = convert(regdb_file, "--victim", f"agw[{SHAPE}]", "--out", out)
    assert "--force" in str(again.exception) and out.read_bytes() == written
    own = convert(out, "--victim", "agw", "--out", tmp_path / "b.safetensors")
    assert "nothing to convert" in str(own.exception)


def test_weights_run_on_their_own_regdb_split_alone(regdb_file, tmp_path):
    root = write_dataset("regdb", tmp_path / "regdb", ids=206, seed=0, size=(32, 16), test_ids=4, quiet=True)
    converted, unnamed = tmp_path / "safe.safetensors", tmp_path / "regdb.t"
    unnamed.write_bytes(regdb_file.read_bytes())
    assert convert(regdb_file, "--victim", f"agw[{SHAPE}]", "--out", converted).exit_code == 0

    def open_with(weights, trial, victim=f"agw[{SHAPE}]"):
        made = opener("regdb", root, victim, weights, f"regdb/vis2ir/trial-{trial}")
        return made.bench(made.open(tmp_path, quiet=True), tmp_path, quiet=True)

    for weights, victim in ((regdb_file, f"agw[{SHAPE}]"), (converted, "agw")):
        assert open_with(weights, 3, victim).victim.num_classes == 206
        with pytest.raises(BadInput, match="was trained on split regdb/trial-3"):
            open_with(weights, 4, victim)
    with pytest.raises(BadInput, match="does not say on which of RegDB's ten splits"):
        open_with(unnamed, 3)


def test_weights_of_another_data_set_are_refused(tmp_path):
    root = write_dataset("sysu", tmp_path / "sysu", ids=5, seed=0, size=(32, 16), test_ids=2, quiet=True)
    made = opener("sysu", root, f"agw[{SHAPE}]", released(tmp_path / "odd.t", 7))
    dataset = made.open(tmp_path, quiet=True)
    with pytest.raises(BadInput, match="knows 7 identities, the training set of sysu has 5"):
        made.bench(dataset, tmp_path, quiet=True)


def test_a_file_of_another_model_is_recognised(tmp_path):
    layout = released_layout(6, width=4, blocks=(1, 1, 1, 1))
    plain = {name.removeprefix("base_resnet.base."): t for name, t in layout.items() if "base_" in name}
    file = save_released(tmp_path / "resnet.t", {**plain, "fc.weight": torch.zeros(3, 4)})
    with pytest.raises(BadInput, match="looks like a plain ImageNet ResNet, not like a checkpoint of agw"):
        load_victim("agw", file, **OPTIONS)
