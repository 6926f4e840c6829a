"""Weights files as they are found: each is loaded bit for bit, or refused for the reason that is true."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from own_victim import Mine
from released_agw import released_layout
from safetensors.torch import save as to_safetensors
from torch import nn

from vbench.core.errors import BadInput
from vbench.victims.agw import AGW
from vbench.victims.checkpoint import read_checkpoint, sha256_of
from vbench.victims.from_file import models_of
from vbench.victims.load import build_victim, convert_checkpoint

SMALL = {"width": 0.0625, "blocks": (1, 1, 1, 1), "input_size": (32, 16)}
PREFIXES = [
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "backbone.",
    "module.module.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "module.model.",
    "model.module.net.",
    "_fsdp_wrapped_module._checkpoint_wrapped_module.",
    "a.b.c.",
]


@pytest.fixture(scope="module")
def state():
    return Mine(num_classes=10).state_dict()


@pytest.fixture(scope="module")
def released():
    return released_layout(6, width=4, blocks=(1, 1, 1, 1))


@pytest.fixture
def load(tmp_path):
    """Save a content, or write its bytes, and load the file."""

    def call(content, cls=Mine, name="w.pth", entry="", **options):
        path = tmp_path / name
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        return build_victim(cls, f"{path}{entry}", device="cpu", **options)

    return call


@pytest.fixture
def refused(load):
    """The one line by which a file is refused."""

    def call(content, *more, **options):
        with pytest.raises(BadInput) as caught:
            load(content, *more, **options)
        text = str(caught.value)
        assert text.isprintable() and len(text) < 1500 and options.get("name", "w.pth") in text
        return text

    return call


def same(victim, state):
    found = victim.state_dict()
    assert sha256_of(found) == sha256_of({name: state[name] for name in found})


def prefixed(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_all_names_is_dropped(load, state, released, prefix):
    same(load(prefixed(prefix, state)), state)
    plain = load({"net": released}, AGW, **SMALL).state_dict()
    same(load({"net": prefixed(prefix, released)}, AGW, **SMALL), plain)
    same(load({"net": prefixed(prefix, plain)}, AGW, **SMALL), plain)


def test_wrappers_of_a_part_are_dropped(load, state):
    for wrapper in ("module", "_orig_mod"):
        inside = {name.replace("blocks.", f"blocks.{wrapper}."): tensor for name, tensor in state.items()}
        same(load(inside), state)
    some = {(f"module.{name}" if "early" in name else name): tensor for name, tensor in state.items()}
    same(load(some), state)


def test_wrappers_in_the_victim_do_not_matter(load, state):
    class Wrapped(Mine):
        def __init__(self, *, num_classes: int = 395) -> None:
            super().__init__(num_classes=num_classes)
            self.blocks["late"] = nn.ModuleDict({"module": self.blocks["late"]})

        def forward(self, images, modality, edits=None):
            raise NotImplementedError

    wrapped = load(state, Wrapped).state_dict()
    assert torch.equal(wrapped["blocks.late.module.weight"], state["blocks.late.weight"])
    same(load(wrapped), state)


class Inside(Mine):
    """The same network in an attribute."""

    def __init__(self, *, num_classes: int = 395) -> None:
        super().__init__(num_classes=num_classes)
        self.net = nn.ModuleDict({"blocks": self.blocks, "head": self.head})
        del self.blocks, self.head


def test_a_file_of_the_network_inside_a_victim_fits_it(load, state, refused):
    for prefix in ("", "model.", "module.net."):
        same(load(prefixed(prefix, state), Inside), prefixed("net.", state))
    missing = dict(list(state.items())[1:])
    assert "missing" in refused(missing, Inside)


def test_one_layer_is_not_taken_for_another(refused):
    class One(Mine):
        def __init__(self) -> None:
            super().__init__()
            self.num_classes = 0
            del self.blocks, self.head
            self.project = nn.Linear(2, 2)

    text = refused({"classify.weight": torch.ones(2, 2), "classify.bias": torch.ones(2)}, One)
    assert "missing (2): project.weight" in text and "unexpected (2): classify" in text


def test_what_does_not_belong_to_the_model_is_left_out_with_a_note(load, state, capsys):
    content = {"state_dict": {**prefixed("model.", state), "criterion.centers": torch.ones(3)}, "epoch": 4}
    victim = load(content)
    same(victim, state)
    (note,) = victim.weights_metadata["notes"]
    assert "criterion.centers" in note and "'model." in note
    assert note in capsys.readouterr().err.replace("\n", "")
    assert victim.weights_metadata["epoch"] == 4


def test_two_parts_that_fit_are_never_chosen_between(load, state, refused):
    other = {name: tensor + 1 for name, tensor in state.items()}
    both = {**prefixed("teacher.", state), **prefixed("student.", other)}
    text = refused(both)
    assert "'teacher', 'student'" in text and "w.pth::teacher" in text
    same(load(both, entry="::teacher"), state)
    same(load(both, entry="::student"), other)


def test_missing_tensors_under_a_prefix_are_named(state, refused):
    text = refused({name: t for name, t in prefixed("model.", state).items() if name != "model.head.bias"})
    assert "missing (1): head.bias" in text and "unexpected" not in text


def test_counters_of_batches_may_be_missing_or_too_many(load, state, released):
    without = {name: tensor for name, tensor in state.items() if "num_batches" not in name}
    assert len(without) < len(state)
    same(load(without), {**state, "blocks.early.1.num_batches_tracked": torch.tensor(0)})
    same(load({**state, "head.num_batches_tracked": torch.tensor(3)}), state)
    old = {name: tensor for name, tensor in released.items() if "num_batches" not in name}
    found, wanted = load(old, AGW, **SMALL).state_dict(), load(released, AGW, **SMALL).state_dict()
    kept = [name for name in wanted if "num_batches" not in name]
    assert all(torch.equal(found[name], wanted[name]) for name in kept) and len(kept) > 50


@pytest.mark.parametrize(
    ("usual", "other"),
    [("model", "model_ema"), ("state_dict", "ema"), ("net", "criterion"), ("model_state_dict", "teacher")],
)
def test_of_two_state_dicts_the_usual_one_is_taken_and_named(load, state, capsys, usual, other):
    averaged = {name: tensor + 1 for name, tensor in state.items()}
    optimiser = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    content = {other: averaged, usual: state, "optimizer": optimiser}
    victim = load(content)
    same(victim, state)
    (note,) = victim.weights_metadata["notes"]
    assert f"'{usual}' was taken" in note and f"'{other}'" in note
    assert victim.weights_metadata["entry"] == usual
    assert "w.pth: it holds 2" in capsys.readouterr().err.replace("\n", "")
    chosen = load(content, entry=f"::{other}")
    same(chosen, averaged)
    assert chosen.weights_metadata["entry"] == other and "notes" not in chosen.weights_metadata


def test_an_optimiser_is_no_second_state_dict(load, state):
    optimiser = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    victim = load({"weights_of_it": state, "optimizer": optimiser, "epoch": 3})
    same(victim, state)
    assert "notes" not in victim.weights_metadata and victim.weights_metadata["epoch"] == 3


@pytest.mark.parametrize("names", [("teacher", "student"), ("model", "net"), ("a", "b", "c")])
def test_where_nothing_tells_one_must_be_chosen(load, state, refused, names):
    contents = {name: {k: t + at for k, t in state.items()} for at, name in enumerate(names)}
    text = refused(contents)
    assert all(f"'{name}'" in text for name in names) and f"w.pth::{names[0]}'" in text
    for at, name in enumerate(names):
        same(load(contents, entry=f"::{name}"), {k: t + at for k, t in state.items()})
    assert f"did you mean '{names[-1]}'" in refused(contents, entry=f"::{names[-1]}x") or len(names[-1]) == 1


def test_a_state_dict_may_lie_deeper(load, state, refused):
    victim = load({"checkpoint": {"model": state, "step": 2}, "date": "today"})
    same(victim, state)
    assert victim.weights_metadata == {"date": "today", "entry": "checkpoint.model"}
    same(load({"a": {"b": {"c": state}}}), state)
    assert "no state dict" in refused({"a": {"b": {"c": {"d": state}}}})
    two = {"run": {"model": state}, "ema": {"model": {k: t + 1 for k, t in state.items()}}}
    assert "'run.model', 'ema.model'" in refused(two)
    same(load(two, entry="::run.model"), state)


def test_tensors_among_other_entries_are_the_state(load, state):
    victim = load({**state, "epoch": 3, "best": 0.25, "head._extra_state": {"scale": torch.ones(1)}})
    same(victim, state)
    assert victim.weights_metadata["epoch"] == 3


def test_an_own_state_saved_plainly_loads_into_its_victim(load, refused):
    victim = AGW(num_classes=5, **SMALL, generator=torch.Generator().manual_seed(3))
    for content in (victim.state_dict(), {"model": victim.state_dict(), "epoch": 1}):
        again = load(content, AGW, **SMALL)
        same(again, victim.state_dict())
        assert again.num_classes == 5
    text = refused(victim.state_dict(), AGW)
    assert "wrong shape" in text and "does not tell options such as width" in text


def test_a_whole_model_is_refused_with_what_to_do(refused):
    for victim in (Mine(num_classes=10), nn.Linear(2, 2)):
        text = refused(victim)
        assert "torch.save(model.state_dict()" in text and type(victim).__name__ in text
        assert "nothing of it was run" in text


@pytest.mark.parametrize("name", ["w.pth", "w.t", "w.bin", "w.ckpt", "w", "w.safetensors", "w.tar"])
def test_the_bytes_of_a_file_tell_what_it_is_and_not_its_name(load, state, name):
    zipped, legacy = io.BytesIO(), io.BytesIO()
    torch.save(state, zipped)
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    copies = {key: tensor.clone() for key, tensor in state.items()}
    for content in (zipped.getvalue(), legacy.getvalue(), to_safetensors(copies)):
        same(load(content, name=name), state)


def test_numpy_arrays_are_taken_as_tensors(load, state):
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    same(load(arrays), state)
    same(load({"model": arrays, "epoch": 1}), state)
    same(load({**arrays, "head.bias": state["head.bias"]}), state)
    swapped = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in arrays.items()}
    same(load(swapped), state)
    strided = {**arrays, "head.weight": np.asfortranarray(arrays["head.weight"])}
    same(load(strided), state)
    results = {"weights": state, "results": {"cmc": np.ones(3)}}
    victim = load(results)
    same(victim, state)
    assert "notes" not in victim.weights_metadata


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_are_converted(load, state, dtype):
    stored = {name: t.to(dtype) if t.is_floating_point() else t for name, t in state.items()}
    victim = load(stored)
    same(victim, {name: t.to(state[name].dtype) for name, t in stored.items()})
    assert next(victim.parameters()).dtype == torch.float32


def test_parameters_and_counters_of_another_type_are_taken(load, state):
    parameters = {n: nn.Parameter(t, requires_grad=t.is_floating_point()) for n, t in state.items()}
    same(load(parameters), state)
    counter = "blocks.early.1.num_batches_tracked"
    same(load({**state, counter: torch.tensor(7.0)}), {**state, counter: torch.tensor(7)})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (torch.ones(10, 8, dtype=torch.complex64), "complex"),
        (torch.ones(10, 8, dtype=torch.int8), "torch.int8.*quantised"),
        (np.ones((10, 8), np.int64), "torch.int64.*quantised"),
        (torch.full((10, 8), float("nan")), "not finite"),
        (torch.full((10, 8), float("inf")), "not finite"),
        (torch.full((10, 8), 1e300, dtype=torch.float64), "not finite in torch.float32"),
        (torch.ones(10, 8).to_sparse(), "sparse.*to_dense"),
        (torch.quantize_per_tensor(torch.ones(10, 8), 0.1, 0, torch.qint8), "quantised.*dequantize"),
        (torch.ones(10, 8, device="meta"), "no values.*meta"),
        (torch.ones(1, 1).expand(10, 8), None),
    ],
    ids=["complex", "int8", "int64", "nan", "inf", "large", "sparse", "quantised", "meta", "one"],
)
def test_a_tensor_that_cannot_be_taken_is_named(load, state, refused, value, reason):
    content = {**state, "head.weight": value}
    if reason is None:
        # What torch.save stores of a tensor that repeats a number is one number.
        assert "does not hold what its shape says" in refused(content)
        return
    text = refused(content)
    assert "'head.weight'" in text and re.search(reason, text)


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.array([None]), "Object"),
        (np.ones(10, [("a", "f4")]), "Void"),
        (np.array(["a"] * 10), "Str"),
        (np.ones(10, np.longdouble), "LongDouble"),
    ],
    ids=["object", "structured", "text", "longdouble"],
)
def test_arrays_of_no_numbers_are_named(state, refused, array, kind):
    assert f"numpy array of type {kind}" in refused({**state, "head.bias": array})


def test_an_infinite_mask_of_the_victim_is_none_of_its_weights(load):
    class Masked(Mine):
        def __init__(self, *, num_classes: int = 395) -> None:
            super().__init__(num_classes=num_classes)
            self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))

    state = Masked(num_classes=10).state_dict()
    same(load(state, Masked), state)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([torch.ones(1)], "holds a list"),
        (torch.ones(3), "holds a Tensor"),
        (None, "holds a NoneType"),
        ({0: torch.ones(1), 1: torch.ones(2)}, r"names of its tensors are no text \(0, 1\)"),
        ({b"a": torch.ones(1)}, r"no text \(b'a'\)"),
        ({}, "no state dict"),
        ({"net": {}, "epoch": 3}, "no state dict among its entries: net, epoch"),
    ],
    ids=range(7),
)
def test_contents_without_a_state_dict_are_named(refused, content, reason):
    text = refused(content)
    assert re.search(reason, text)


def _zip(names, how=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        for name in names:
            archive.writestr(name, "x" * 100)
    return file.getvalue()


def _numpy(save, *arrays, **named):
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def _tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    return file.getvalue()


def _script():
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), file)
    return file.getvalue()


FOREIGN = {
    "npz": (lambda: _numpy(np.savez, a=np.ones(2)), r"numpy arrays \(\.npz\)"),
    "npz compressed": (lambda: _numpy(np.savez_compressed, a=np.ones(99)), r"numpy arrays \(\.npz\)"),
    "npy": (lambda: _numpy(np.save, np.ones(2)), r"\.npy"),
    "zip": (lambda: _zip(["m/model.pth", "m/a.txt"], zipfile.ZIP_DEFLATED), "zip archive.*model.pth.*unpack"),
    "empty zip": (lambda: _zip([]), "zip archive.*unpack"),
    "keras": (lambda: _zip(["config.json", "model.weights.h5"]), "Keras"),
    "pt2": (lambda: _zip(["m/archive_format", "m/models/model.json"]), r"torch\.export"),
    "old pt2": (lambda: _zip(["serialized_exported_program.json", "version"]), r"torch\.export"),
    "script": (_script, r"TorchScript.*torch\.jit\.load"),
    "pickle": (lambda: pickle.dumps({"a": np.ones(2)}), "Python pickle"),
    "old pickle": (lambda: pickle.dumps({"a": 1}, 0), "Python pickle"),
    "gzip": (lambda: gzip.compress(b"abc" * 99), "gzip.*unpack"),
    "tar": (_tar, "tar archive.*unpack"),
    "hdf5": (lambda: b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "HDF5"),
    "onnx": (lambda: b"\x08\x07\x12\x07pytorch\x1a\x052.0.0" + b"\0" * 99, "ONNX"),
    "tflite": (lambda: b"\x1c\0\0\0TFL3" + b"\0" * 99, "TensorFlow Lite"),
    "index": (lambda: json.dumps({"metadata": {}, "weight_map": {"a": "b"}}).encode(), "several files"),
    "text": (lambda: b"hello", "not a weights file"),
    "protocol 4": (lambda: _protocol_4(), "protocol"),
}


def _protocol_4():
    file = io.BytesIO()
    torch.save({"a": torch.ones(1)}, file, pickle_protocol=4)
    return file.getvalue()


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("name", ["w.pth", "w.npz"])
def test_foreign_files_are_named_as_what_they_are(tmp_path, kind, name):
    make, reason = FOREIGN[kind]
    (tmp_path / name).write_bytes(make())
    with pytest.raises(BadInput, match=reason) as caught:
        read_checkpoint(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value) and "damaged" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (None, "a folder"),
        ("model_best.pth", "name the weights file in it.*model_best.pth"),
        ("data.pkl", "torch.save writes, unpacked"),
        ("saved_model.pb", "TensorFlow"),
        (".metadata", "distributed"),
    ],
)
def test_a_folder_is_named_as_what_it_is(tmp_path, file, reason):
    folder = tmp_path / "model"
    folder.mkdir()
    if file:
        (folder / file).write_bytes(b"x")
    with pytest.raises(BadInput, match=reason):
        read_checkpoint(folder)


def test_files_of_tensorflow_are_told_by_their_names(tmp_path):
    for name in ("m.data-00000-of-00001", "m.ckpt.index", "frozen.pb"):
        (tmp_path / name).write_bytes(b"\x0a\x01\x02")
        with pytest.raises(BadInput, match="TensorFlow"):
            read_checkpoint(tmp_path / name)


def test_another_model_is_recognised_under_any_prefix(released):
    for prefix in ("", "module.", "model.net."):
        assert any("agw" in one for one in models_of(prefixed(prefix, released)))


def test_a_chosen_entry_is_converted_with_the_files_own_hash(tmp_path, released):
    path, out = tmp_path / "both.t", tmp_path / "out.safetensors"
    other = {name: tensor + 1 for name, tensor in released.items()}
    torch.save({"net": other, "ema": released}, path)
    options = {**SMALL, "blocks": [1, 1, 1, 1]}
    found = convert_checkpoint(tmp_path / "both.t::ema", "agw", out, options=options)
    torch.save({"net": released}, tmp_path / "one.t")
    wanted = convert_checkpoint(tmp_path / "one.t", "agw", tmp_path / "o.safetensors", options=options)
    assert found["sha256"] == wanted["sha256"] and found["released"]["beside"]["entry"] == "ema"


def test_a_file_whose_name_has_colons_is_the_file(tmp_path, state):
    path = tmp_path / "a::b.pth"
    torch.save(state, path)
    assert read_checkpoint(path).state.keys() == state.keys()
