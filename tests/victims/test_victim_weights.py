"""Weights files: released and own ones load exactly, everything else is refused in one line."""

from __future__ import annotations

import json
import pickle
import re

import numpy as np
import pytest
import torch
from released_agw import released_layout, save_released
from victim_checks import check_refused, misfits

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.victims.agw import AGW
from vbench.victims.checkpoint import read_checkpoint, read_metadata, sha256_of, write_checkpoint
from vbench.victims.load import build_victim, load_victim, resolve_device

TINY = {"width": 0.0625, "blocks": (1, 1, 1, 1), "small_stem": True, "input_size": (32, 16)}


@pytest.fixture(scope="module")
def small_released():
    return released_layout(6, width=4, blocks=(1, 1, 1, 1))


SMALL = {"width": 0.0625, "blocks": (1, 1, 1, 1), "input_size": (32, 16), "device": "cpu"}


def test_full_released_layout_loads_unchanged(tmp_path):
    state = released_layout(395)
    assert len(state) == 1025
    counted = ("running_mean", "running_var", "num_batches_tracked")
    assert sum(t.numel() for n, t in state.items() if not n.endswith(counted)) == 71_365_839
    victim = build_victim(AGW, save_released(tmp_path / "sysu_agw_best.t", state), device="cpu")
    own = victim.state_dict()
    assert victim.num_classes == 395
    assert victim.embedding_dim == 2048
    pairs = {
        "trunk.visible_stem.conv1.weight": "visible_module.visible.conv1.weight",
        "trunk.infrared_stem.bn1.running_var": "thermal_module.thermal.bn1.running_var",
        "trunk.layer3.5.conv2.weight": "base_resnet.base.layer3.5.conv2.weight",
        "trunk.layer4.0.downsample.1.bias": "base_resnet.base.layer4.0.downsample.1.bias",
        "non_local.layer2.1.g.weight": "NL_2.1.g.0.weight",
        "non_local.layer3.2.project.bias": "NL_3.2.W.0.bias",
        "non_local.layer3.0.norm.running_mean": "NL_3.0.W.1.running_mean",
        "non_local.layer3.1.phi.weight": "NL_3.1.phi.weight",
        "neck.bias": "bottleneck.bias",
        "classifier.weight": "classifier.weight",
    }
    for ours, theirs in pairs.items():
        assert torch.equal(own[ours], state[theirs]), ours
    assert victim.weights_metadata["epoch"] == 7
    assert victim.weights_metadata["cmc"] == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_dead_trunks_do_not_matter_and_live_ones_do(small_released, tmp_path):
    images = torch.rand(2, 3, 32, 16, generator=torch.Generator().manual_seed(0))

    def embed(state):
        return build_victim(AGW, save_released(tmp_path / "x.t", state), **SMALL)(
            images, Modality.VISIBLE
        ).embedding

    reference = embed(small_released)
    dead = re.compile(
        r"(visible_module\.visible|thermal_module\.thermal)\.layer|base_resnet\.base\.(conv1|bn1)"
    )
    changed = {n: t * 0 + 9 if dead.match(n) else t for n, t in small_released.items()}
    assert torch.equal(embed(changed), reference)
    assert torch.equal(embed({n: t for n, t in small_released.items() if not dead.match(n)}), reference)
    name = "base_resnet.base.layer2.0.conv1.weight"
    assert not torch.equal(embed({**small_released, name: small_released[name] + 0.1}), reference)


def test_data_parallel_prefix_is_dropped(small_released, tmp_path):
    prefixed = {f"module.{name}": tensor for name, tensor in small_released.items()}
    plain = build_victim(AGW, save_released(tmp_path / "a.t", small_released), **SMALL)
    wrapped = build_victim(AGW, save_released(tmp_path / "b.t", prefixed), **SMALL)
    assert sha256_of(plain.state_dict()) == sha256_of(wrapped.state_dict())


@misfits(
    (lambda s: s.pop("classifier.weight"), "no identity classifier"),
    missing=["base_resnet.base.layer1.0.conv1.weight", "NL_3.0.W.1.bias"],
    unexpected=["part.gate", "visible_module.visible.layer1.9.conv1.weight"],
    misshaped=["bottleneck.weight"],
)
def test_state_that_does_not_fit_is_refused_by_name(small_released, tmp_path, change, message):
    check_refused(AGW, small_released, change, message, tmp_path / "agw.t", **SMALL)


def test_number_of_classes_must_agree_with_the_file(small_released, tmp_path):
    path = save_released(tmp_path / "agw.t", small_released)
    assert build_victim(AGW, path, num_classes=6, **SMALL).num_classes == 6
    with pytest.raises(BadInput, match="knows 6 identities, not 5"):
        build_victim(AGW, path, num_classes=5, **SMALL)


class Evil:
    """Unpickling this would create a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_code_in_a_file_is_refused_and_not_run(small_released, tmp_path):
    marker = tmp_path / "ran"
    path = save_released(tmp_path / "evil.t", small_released, extra=Evil(marker))
    with pytest.raises(BadInput, match=r"evil\.t: refused") as caught:
        build_victim(AGW, path, **SMALL)
    assert "\n" not in str(caught.value)
    bare = tmp_path / "bare.pkl"
    bare.write_bytes(pickle.dumps({"net": Evil(marker)}))
    with pytest.raises(BadInput):
        read_checkpoint(bare)
    assert not marker.exists()


def test_numpy_values_of_either_numpy_generation_are_accepted(small_released, tmp_path):
    path = save_released(tmp_path / "new.t", small_released, mINP=np.float32(0.25), ids=np.arange(3))
    metadata = read_checkpoint(path).metadata
    assert metadata["mINP"] == 0.25
    assert metadata["ids"] == [0, 1, 2]
    here = np.lib.NumpyVersion(np.__version__) >= "2.0.0"
    mine, other = (b"numpy._core", b"numpy.core") if here else (b"numpy.core", b"numpy._core")
    foreign = tmp_path / "other.t"
    torch.save(
        {"net": {"a": torch.ones(1)}, "mAP": np.float64(0.5)}, foreign, _use_new_zipfile_serialization=False
    )
    content = foreign.read_bytes()
    assert mine + b".multiarray" in content
    foreign.write_bytes(content.replace(mine + b".multiarray", other + b".multiarray"))
    assert read_checkpoint(foreign).metadata["mAP"] == 0.5


def test_numpy_object_arrays_are_refused(tmp_path):
    torch.save({"net": {"a": torch.ones(1)}, "x": np.array([{}], dtype=object)}, tmp_path / "o.t")
    with pytest.raises(BadInput):
        read_checkpoint(tmp_path / "o.t")


@pytest.mark.parametrize("name", ["w.t", "w.pth", "w.safetensors"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n <!DOCTYPE html><html>", "web page"),
        (b"<HTML>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"PK\x03\x04 cut", "damaged or incomplete"),
    ],
)
def test_files_that_are_not_weights_are_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadInput, match=message) as caught:
        read_checkpoint(path)
    assert name in str(caught.value)


def test_truncated_files_are_refused(small_released, tmp_path):
    whole = save_released(tmp_path / "whole.t", small_released)
    write_checkpoint(tmp_path / "whole.safetensors", small_released, {})
    for path in (whole, tmp_path / "whole.safetensors"):
        cut = path.with_stem("cut")
        cut.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(BadInput, match="damaged or incomplete"):
            read_checkpoint(cut)


@pytest.mark.parametrize(
    "content", [torch.ones(3), {"a": 1, "b": [2]}, {"x": {"w": torch.ones(1)}, "y": {"w": torch.ones(1)}}]
)
def test_files_without_one_state_dict_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(BadInput, match="dict"):
        read_checkpoint(tmp_path / "w.pth")


def test_missing_file_and_foreign_content_are_refused(tmp_path):
    with pytest.raises(BadInput, match="no such weights file"):
        read_checkpoint(tmp_path / "none.t")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BadInput, match="not a weights file"):
        read_checkpoint(tmp_path / "notes.txt")


def own_file(tmp_path, agw, **metadata):
    path = tmp_path / "own.safetensors"
    write_checkpoint(path, agw.state_dict(), {"victim": "agw", "options": agw.describe(), **metadata})
    return path


def test_own_file_rebuilds_the_same_victim(tmp_path):
    victim = AGW(num_classes=4, **TINY, generator=torch.Generator().manual_seed(5)).eval()
    path = own_file(tmp_path, victim, split="sysu", note="ä")
    again = load_victim("agw", path, device="cpu")
    assert again.describe() == victim.describe()
    assert sha256_of(again.state_dict()) == sha256_of(victim.state_dict())
    assert again.weights_metadata["split"] == "sysu"
    assert not again.training
    assert read_metadata(path) == json.loads(path.with_suffix(".json").read_text())
    assert build_victim(AGW, path, device="cpu", embedding="pooled").embedding == "pooled"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["own.json", "own.safetensors"]


def test_own_file_of_another_victim_or_option_is_refused(tmp_path):
    victim = AGW(num_classes=4, **TINY)
    path = own_file(tmp_path, victim, victim="ddag")
    with pytest.raises(BadInput, match="weights of victim 'ddag', not of 'agw'"):
        build_victim(AGW, path, device="cpu")
    path = own_file(tmp_path, victim, options={"widht": 1})
    with pytest.raises(BadInput, match="did you mean 'width'"):
        build_victim(AGW, path, device="cpu")


def test_own_weights_are_only_written_as_safetensors(tmp_path):
    with pytest.raises(BadInput, match="safetensors"):
        write_checkpoint(tmp_path / "w.pt", {}, {})


def test_unknown_option_and_victim_name_the_nearest():
    with pytest.raises(BadInput, match="did you mean 'embedding'"):
        build_victim(AGW, embeding="neck")
    with pytest.raises(BadInput, match="did you mean 'agw'"):
        load_victim("awg")


def test_unavailable_device_is_refused():
    with pytest.raises(BadInput, match="device 'cuda:97'"):
        resolve_device("cuda:97")
    with pytest.raises(BadInput, match="device 'gpu'"):
        resolve_device("gpu")
    with pytest.raises(BadInput, match="device 'mps': rankings need float64"):
        resolve_device("mps")


def test_hash_depends_on_names_values_and_types_alone():
    state = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(())}
    reordered = {"b": torch.ones(()), "a": torch.arange(6.0).view(3, 2).T.contiguous().T.reshape(2, 3)}
    assert sha256_of(state) == sha256_of({"b": state["b"], "a": state["a"].clone()})
    assert sha256_of(state) == sha256_of(reordered)
    for other in (
        {**state, "b": torch.zeros(())},
        {"a": state["a"], "c": state["b"]},
        {**state, "a": state["a"].T},
    ):
        assert sha256_of(other) != sha256_of(state)
    assert sha256_of({**state, "a": state["a"].double()}) != sha256_of(state)
