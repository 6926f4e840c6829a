"""What weights files say of themselves: it fits what they hold, or one line names the file."""

from __future__ import annotations

import io
import json
import pickle
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_hostile_checkpoints import where
from test_hostile_shapes import PLENTY

from vbench.attacks.perturbation import Perturbation
from vbench.core.errors import BadInput
from vbench.records.files import KeptEmbeddings, KeptImages
from vbench.victims.checkpoint import read_checkpoint, read_metadata
from vbench.victims.load import load_victim

TENSOR = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


def tensors(header, length=None, data=b"\0" * 16):
    """A .safetensors file with this header, as text, bytes or JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def own(**metadata):
    """A file that says of itself that it is of vbench."""
    return tensors({"__metadata__": {"vbench": json.dumps({"victim": "agw", **metadata})}, "a": TENSOR})


def options(**given):
    return own(options={"num_classes": 8, **given})


HEADERS = {
    "length of 2^63": tensors({}, 2**63),
    "length of 100 MB": tensors({}, 99_000_000),
    "overlap": tensors({"a": TENSOR, "b": TENSOR}),
    "backwards": tensors({"a": {**TENSOR, "data_offsets": [16, 0]}}),
    "beyond": tensors({"a": {**TENSOR, "shape": [25 * 10**10], "data_offsets": [0, 10**12]}}),
    "gap": tensors({"a": {**TENSOR, "data_offsets": [8, 24]}}, data=b"\0" * 24),
    "rest": tensors({"a": TENSOR}, data=b"\0" * 99),
    "short": tensors({"a": TENSOR}, data=b"\0" * 15),
    "shape of 2^80": tensors({"a": {**TENSOR, "shape": [2**40, 2**40]}}),
    "negative": tensors({"a": {**TENSOR, "shape": [-4]}}),
    "type": tensors({"a": {**TENSOR, "dtype": "F31"}}),
    "utf": tensors(b'{"\xff": 1}'),
    "text": tensors(b"hello"),
    "list": tensors([]),
    "deep": tensors(b"[" * 100_000),
    "pickle": tensors(pickle.dumps(1)),
    "metadata is a number": tensors({"__metadata__": {"vbench": 1}, "a": TENSOR}),
    "metadata is cut": tensors({"__metadata__": {"vbench": "{"}, "a": TENSOR}),
    "metadata is a list": tensors({"__metadata__": {"vbench": "[]"}, "a": TENSOR}),
    "metadata is deep": tensors({"__metadata__": {"vbench": "[" * 100_000}, "a": TENSOR}),
    "metadata is long": tensors({"__metadata__": {"vbench": "1" * 9999}, "a": TENSOR}),
}
OWN = {
    "no options": own(),
    "options a word": own(options="abc"),
    "options a list": own(options=[1]),
    "options null": own(options=None),
    "victim a list": own(victim=["agw"]),
    "victim null": own(victim=None),
    "victim sequence": own(victim="\x1b[2J" * 999),
    "classes a word": options(num_classes="x"),
    "classes negative": options(num_classes=-1),
    "classes 10^12": options(num_classes=10**12),
    "classes truth": options(num_classes=1.5),
    "width nan": options(width=float("nan")),
    "width 10^9": options(width=1e9),
    "width 100": options(width=100.0),
    "width a path": options(width="../x"),
    "width below zero": options(width=-1),
    "blocks": options(blocks=[10**9] * 4),
    "blocks of words": options(blocks="abcd"),
    "one block": options(blocks=[1]),
    "size": options(input_size=["a", "b"]),
    "embedding": options(embedding=7),
    "other option": options(__class__=1),
}


@pytest.mark.parametrize("name", [*HEADERS, *OWN])
def test_a_header_that_lies_is_one_line(refused, quick, tmp_path, name):
    path = tmp_path / "w.safetensors"
    path.write_bytes({**HEADERS, **OWN}[name])
    run = ["run", "--victim", "agw", *where(quick), "--runs", tmp_path / "runs", "--attack", "noise"]
    line = refused(*run, "--weights", path, "--quiet", "--ignore-gates")
    assert str(path) in line and len(line) < 900
    if name in HEADERS:
        for read in (read_checkpoint, read_metadata, Perturbation.load):
            if not (read is Perturbation.load and "metadata" in name):
                with pytest.raises(BadInput, match=r"w\.safetensors"):
                    read(path)


@pytest.mark.parametrize("victim", ["agw", "caj", "ddag", "mmn", "deen", "mpanet", "pmt"])
def test_tensors_of_the_right_names_and_odd_shapes_are_one_line(tmp_path, victim):
    from vbench.victims.registry import victims

    layout = victims.load(victim).released
    names = [*layout.marks, layout.released_name(layout.classifier), "wpa.gate", "attention_0.W"]
    for shape in ((), (0,), (10**9, 0)):
        path = tmp_path / "w.pth"
        torch.save({name: torch.zeros(shape) for name in names}, path)
        with pytest.raises(BadInput, match=r"w\.pth") as caught:
            load_victim(victim, path, device="cpu")
        assert "\n" not in str(caught.value)


def mutated(draw, content):
    """A few bytes replaced, put in or taken out; or cut."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        # Where lengths, names and offsets stand; the numbers behind them may be anything.
        at = draw(st.integers(0, min(len(content), 1200) - 1))
        piece = draw(st.binary(max_size=4))
        content[at : at + draw(st.integers(0, 4))] = piece
    return bytes(content[: draw(st.integers(1, len(content)))] if draw(st.booleans()) else content)


def good():
    torch_zip, torch_legacy = io.BytesIO(), io.BytesIO()
    state = {"net": {"a.weight": torch.ones(2, 3), "b": torch.zeros(4)}, "epoch": 7, "mAP": np.float64(0.5)}
    torch.save(state, torch_zip)
    torch.save(state, torch_legacy, _use_new_zipfile_serialization=False)
    learnt = tensors(
        {
            "__metadata__": {"format": "vbench-perturbation/1", "provenance": "{}", "fit_log": "{}"},
            "delta": {"dtype": "F32", "shape": [3, 1, 1], "data_offsets": [0, 12]},
        },
        data=b"\0" * 12,
    )
    kept = tensors(
        {"__metadata__": {"vbench": json.dumps({"format": "vbench-kept-images/1"})}, "query.clean": TENSOR}
    )
    return {
        "w.safetensors": options(width=0.25),
        "w.pth": torch_zip.getvalue(),
        "w.t": torch_legacy.getvalue(),
        "learnt.safetensors": learnt,
        "kept.safetensors": kept,
    }


READERS = {
    "w.safetensors": (read_checkpoint, read_metadata, lambda path: load_victim("agw", path, device="cpu")),
    "w.pth": (read_checkpoint,),
    "w.t": (read_checkpoint,),
    "learnt.safetensors": (Perturbation.load,),
    "kept.safetensors": (KeptImages.read, KeptEmbeddings.read),
}
GOOD = good()


@settings(PLENTY, max_examples=200)
@given(data=st.data())
def test_any_change_of_a_file_is_read_or_refused(tmp_path_factory, data):
    name = data.draw(st.sampled_from(list(GOOD)))
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(mutated(data.draw, GOOD[name]))
    for read in READERS[name]:
        try:
            read(path)
        except BadInput as refused:
            assert str(path) in str(refused)


_OPTIONS = ("num_classes", "width", "blocks", "block", "input_size", "embedding", "flip")
_FACTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


@settings(PLENTY, max_examples=100)
@given(
    st.dictionaries(
        st.sampled_from(["num_classes", "width", "blocks", "block", "input_size", "embedding", "flip"]),
        _FACTS,
    )
    | _FACTS
)
def test_whatever_a_file_says_of_itself_is_built_or_refused(tmp_path_factory, said):
    path = tmp_path_factory.getbasetemp() / "said.safetensors"
    path.write_bytes(own(options=said))
    with pytest.raises(BadInput, match=r"said\.safetensors"):
        load_victim("agw", path, device="cpu")
