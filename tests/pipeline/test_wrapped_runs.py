"""Runs of wrapped modules and of model files: tables, identity, what is refused before any work."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from own_victim import SIZE, Net
from torch.export import Dim, export, save

from vbench import BadInput, evaluate, load_victim, open_dataset, wrap
from vbench.records.command import command
from vbench.run.bench import Bench
from vbench.victims.base import Victim

SMALL = ["noise", "metric_ifgsm[steps=2]", "fsam_uap[level=feature,evaluations=32,batch=8,module_steps=1]"]


def wrapped(net: Net | None = None) -> Victim:
    return wrap((net or Net()).eval(), input_size=SIZE)


def test_a_wrapped_victim_is_attacked_as_the_victim_itself(quick, quick_cache):
    agw = load_victim("agw", quick.weights(), device="cpu")
    dataset, more = open_dataset("sysu", quick.root), {"ignore_gates": True}
    twin = wrap(
        agw,
        input_size=SIZE,
        mean=0,
        std=1,
        resize_filter=agw.resize_filter,
        call=lambda net, images, modality: net(images, modality).embedding,
    )
    for own, other in zip(*(evaluate(one, SMALL[:2], dataset, **more) for one in (agw, twin)), strict=True):
        assert own.adversarial == other.adversarial and own.id != other.id


def test_from_a_module_to_a_table_of_three_attacks(quick, quick_cache, tmp_path):
    dataset, victim = open_dataset("sysu", quick.root), wrapped()
    found = evaluate(victim, SMALL, dataset, ignore_gates=True, runs=tmp_path)
    assert [record.label.partition("[")[0] for record in found] == ["noise", "metric_ifgsm", "fsam_uap"]
    assert not found.failures and "Net" in str(found)
    fitted = found.records[2]
    assert fitted.level == "feature" and "no identity classifier" in " ".join(fitted.warnings)
    # The same module made again is the same victim; other weights are another.
    again = evaluate(wrapped(), SMALL, dataset, ignore_gates=True, runs=tmp_path)
    assert [one.created for one in again] == [one.created for one in found]
    other = Net()
    with torch.no_grad():
        other.blocks[0].weight.mul_(1.1)
    assert evaluate(wrapped(other), "noise", dataset, ignore_gates=True).record.id != found.records[0].id
    with pytest.raises(BadInput, match="level=model trains an identity classifier; Net has none"):
        evaluate(victim, "fsam_uap[preset=paper,level=model]", dataset, ignore_gates=True)


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """The network as a program of torch.export, for any number of images."""
    file = tmp_path_factory.mktemp("program") / "net.pt2"
    save(export(Net().eval(), (torch.rand(2, 3, *SIZE),), dynamic_shapes=({0: Dim("n")},)), file)
    return file


@pytest.fixture
def onnx(tmp_path) -> Path:
    """One convolution, averaged over cells (made with the package onnx)."""
    pytest.importorskip("onnxruntime")
    return Path(shutil.copy(Path(__file__).with_name("tiny.onnx"), tmp_path))


def test_a_program_is_the_module_that_it_was_exported_from(program, quick, quick_cache):
    victim, own = load_victim(str(program), allow_code=True, device="cpu"), wrapped()
    images = torch.rand((3, 3, *SIZE), requires_grad=True)
    outputs = [one(images, "infrared") for one in (victim, own)]
    found, expected = (torch.autograd.grad(one.embedding.square().sum(), images) for one in outputs)
    torch.testing.assert_close(outputs[0].embedding, outputs[1].embedding)
    torch.testing.assert_close(found, expected)
    assert (victim.name, victim.stages, victim.input_size) == ("net.pt2", own.stages, SIZE)
    dataset, more = open_dataset("sysu", quick.root), {"ignore_gates": True, "device": "cpu"}
    records = evaluate(str(program), SMALL, dataset, allow_code=True, **more).records
    for mine, other in zip(records, evaluate(own, SMALL, dataset, **more), strict=True):
        assert mine.mean("adversarial", "map") == pytest.approx(other.mean("adversarial", "map"), abs=1e-3)
    assert "net.pt2 (SHA-256 " in records[0].warnings[-1]
    words = command(records[:1])
    assert "--victim 'net.pt2[" in words.text and words.text.endswith("--allow-code")
    assert any("net.pt2: the model file whose SHA-256" in note for note in words.notes)


def test_a_program_runs_only_where_it_is_allowed(program, quick, monkeypatch):
    monkeypatch.setattr(torch.export, "load", None)  # would fail if it were called
    told = "is a program; running it runs its code. If it is yours, give --allow-code"
    for doing in (
        lambda: load_victim(str(program)),
        lambda: evaluate(str(program), "noise", open_dataset("sysu", quick.root)),
        lambda: evaluate("agw", "noise", open_dataset("sysu", quick.root), surrogate=str(program)),
    ):
        with pytest.raises(BadInput, match=told):
            doing()


def test_the_command_runs_a_program_with_allow_code_alone(program, quick, vbench, tmp_path):
    given = ["--dataset", "sysu", "--root", quick.root, "--attack", "noise", "--ignore-gates", "--quiet"]
    given += ["--victim", f"{program}[mean=0.5,std=0.5]"]
    assert "If it is yours, give --allow-code" in vbench("run", *given, expect=2).stderr
    said = vbench("run", *given, "--allow-code", "--runs", tmp_path / "runs", "--format", "csv").stdout
    assert "net.pt2" in said
    out = tmp_path / "baseline.json"
    vbench("baseline", *given, "--seeds", "2", "--allow-code", "--out", out, expect=1)
    assert "names code by path" in vbench("check", out, "--quiet", expect=2).stderr
    assert "noise" in vbench("check", out, "--quiet", "--allow-code", "--all").stdout


def test_what_a_file_says_of_itself_is_read(program, tmp_path):
    with pytest.raises(BadInput, match=r"no such file: none\.pt2"):
        load_victim("none.pt2", allow_code=True)
    with pytest.raises(BadInput, match="has its weights in its file"):
        load_victim(str(program), "w.safetensors", allow_code=True)
    broken = tmp_path / "broken.pt2"
    broken.write_bytes(b"no program")
    with pytest.raises(BadInput, match=r"not a program of torch\.export"):
        load_victim(str(broken), allow_code=True)
    save(export(Net().eval(), (torch.rand(1, 3, *SIZE),)), broken)
    with pytest.raises(BadInput, match="takes 1 images at a time; export it with a batch of any size"):
        load_victim(str(broken), allow_code=True)


def test_an_onnx_network_meets_black_box_attacks_alone(onnx, quick, quick_cache, forbid):
    dataset, more = open_dataset("sysu", quick.root), {"ignore_gates": True}
    victim = load_victim(f"{onnx}", mean=0.0, std=1.0)
    images = torch.rand((3, 3, *SIZE))
    assert victim(images, "visible").embedding.shape == (3, 32)
    found = evaluate(f"{onnx}[mean=0.4,std=0.2]", ["noise", "square[queries=5]"], dataset, **more)
    assert found.records[0].victim_label.endswith("tiny.onnx (no gradients)")
    assert found.records[0].config["victim"]["options"]["mean"] == [0.4, 0.4, 0.4]
    assert "gives no gradients: black-box attacks only" in found.records[0].warnings[-1]
    # Crafted on a surrogate, every attack meets it.
    transferred = evaluate(
        str(onnx), "metric_fgsm", dataset, surrogate="agw", surrogate_weights=quick.weights(), **more
    )
    assert transferred.record.surrogate == "agw"
    forbid((Bench, "__init__"))
    for attack in ("metric_fgsm", "uap", "fsam_uap"):
        with pytest.raises(BadInput, match=f"'{attack}' needs gradients and tiny.onnx gives none"):
            evaluate(str(onnx), ["noise", attack], dataset, **more)
    onnx.write_bytes(onnx.read_bytes()[:300])
    with pytest.raises(BadInput, match="not a network that onnxruntime can run"):
        load_victim(str(onnx))
