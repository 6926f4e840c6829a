"""Small weights files that ask for much: each is read or refused at once, whatever it asks for."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_hostile_shapes import PLENTY

from vbench.core.errors import BadInput
from vbench.victims.checkpoint import read_checkpoint, read_metadata
from vbench.victims.formats import check_pickle

STATE = {"a": torch.ones(2)}


def shared(make, levels=12, width=10):
    """Values that each hold the one before ten times: 10^12 in all, in a few hundred bytes."""
    value = make([0] * width)
    for _ in range(levels):
        value = make([value] * width)
    return value


def archive(pickled):
    """A file as torch.save writes it, with a pickle of one's own."""
    file = io.BytesIO()
    torch.save(STATE, file)
    out = io.BytesIO()
    with zipfile.ZipFile(file) as made, zipfile.ZipFile(out, "w") as changed:
        for member in made.infolist():
            content = made.read(member)
            changed.writestr(member.filename, pickled if member.filename.endswith("data.pkl") else content)
    return out.getvalue()


def named(name):
    """A dict {name: 0} whose name shares tuples, which torch.save itself could not hash."""
    steps = b"\x80\x02}K\x00" + b"".join(
        b"q%c(%st" % (level, b"".join([b"h%c" % level] * 10)) for level in range(12)
    )
    return steps + name


BEYOND = {
    "bytearray": b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
    "array": b"\x80\x02cnumpy\nndarray\n\x8a\x05\x00\x00\x00\x00\x10\x85\x85R.",
    "tensor": b"\x80\x02ctorch\nFloatTensor\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
    "storage": b"\x80\x02ctorch.storage\nUntypedStorage\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
    "by a detour": b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(cbuiltins\nbytearray\nNK\x05\x85}tR.",
    "array by a detour": b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(cnumpy\nndarray\nNK\x05\x85}tR.",
    "codec": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x08\x00\x00\x00punycode\x86R.",
    "new object": b"\x80\x02ctorch\nFloatTensor\nK\x05\x85\x81.",
    "names": named(b"K\x00s."),
    "names in a set": named(b"\x85cbuiltins\nset\nh\x0b]h\x0ba\x85R."),
    "too few": b"\x80\x02\x86.",
    "no mark": b"\x80\x02t.",
    "no memo": b"\x80\x02h\x07.",
    "cut": b"\x80\x02}X\xff\xff\x00\x00a",
}


@pytest.mark.parametrize("kind", BEYOND)
def test_a_pickle_that_asks_for_more_than_it_holds_is_refused(tmp_path, kind):
    path = tmp_path / "w.pth"
    path.write_bytes(archive(BEYOND[kind]))
    with pytest.raises(BadInput, match=r"w\.pth: (refused|damaged)") as caught:
        read_checkpoint(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


def test_a_legacy_file_is_looked_at_too(tmp_path):
    file = io.BytesIO()
    torch.save(STATE, file, _use_new_zipfile_serialization=False)
    start = file.getvalue().index(b"}q\x00(X") - 2
    path = tmp_path / "w.t"
    path.write_bytes(file.getvalue()[:start] + BEYOND["names"])
    with pytest.raises(BadInput, match=r"w\.t: refused, its values contain each other"):
        read_checkpoint(path)


@pytest.mark.parametrize("make", [list, tuple], ids=["lists", "tuples"])
def test_values_that_share_values_are_not_written_out(tmp_path, make):
    path = tmp_path / "w.t"
    torch.save({"net": STATE, "x": shared(make), "epoch": 3}, path)
    try:
        found = read_checkpoint(path)
    except BadInput as refused:
        assert make is tuple and "share" in str(refused)
        return
    assert found.metadata["epoch"] == 3 and torch.equal(found.state["a"], STATE["a"])
    assert len(json.dumps(found.metadata)) < 300_000


def test_what_lies_beside_is_kept_as_far_as_one_could_want(tmp_path):
    path = tmp_path / "w.t"
    wanted = {
        "cmc": np.linspace(0, 1, 50, dtype=np.float32),
        "losses": [[1, 2.5, None], ("a", True)],
        "best": np.float64(0.5),
        "epoch": 7,
    }
    long = {
        "history": list(range(10**5)),
        "curve": np.zeros(10**5),
        "text": "x" * 10**6,
        "integer": 10**400,
        "surrogate": "\ud800",
        "complex": np.complex128(1j),
    }
    torch.save({"net": STATE, **wanted, **long}, path)
    found = read_checkpoint(path).metadata
    assert found["cmc"] == wanted["cmc"].tolist()
    assert found["losses"] == [[1, 2.5, None], ["a", True]]
    assert (found["best"], found["epoch"]) == (0.5, 7)
    assert found["history"] == "<list>" and found["curve"] == "<ndarray>"
    assert len(found["text"]) == 1000 and found["integer"] == "<integer of 1329 bits>"
    assert json.loads(json.dumps(found)) == found
    json.dumps(found, ensure_ascii=False).encode()


def test_many_entries_beside_are_cut(tmp_path):
    path = tmp_path / "w.t"
    torch.save({"net": STATE, **{f"x{at}": "y" * 999 for at in range(11_000)}}, path)
    assert len(json.dumps(read_checkpoint(path).metadata)) < 3_000_000


def test_nesting_without_end_is_refused(tmp_path):
    value = []
    for _ in range(200):
        value = [value]
    torch.save({"net": STATE, "x": value}, tmp_path / "w.t")
    with pytest.raises(BadInput, match="nested too deeply"):
        read_checkpoint(tmp_path / "w.t")


def test_dicts_that_share_dicts_are_looked_into_once(tmp_path):
    value = {"w": torch.ones(1)}
    for _ in range(3):
        value = {f"k{at}": value for at in range(300)}
    torch.save(value, tmp_path / "w.t")
    with pytest.raises(BadInput, match=r"w\.t: "):
        read_checkpoint(tmp_path / "w.t")


def test_two_members_of_one_name_are_refused(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(STATE, path)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as made:
        made.writestr("w/data.pkl", b"\x80\x02}.")
    with pytest.raises(BadInput, match=r"w\.pth: refused, it has two members of one name"):
        read_checkpoint(path)


def test_a_long_header_is_not_read(tmp_path):
    path = tmp_path / "w.safetensors"
    text = json.dumps({"__metadata__": {"x": "y" * 20_000_000}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    for read in (read_checkpoint, read_metadata):
        with pytest.raises(BadInput, match=r"header of 20,\d{3},\d{3} bytes"):
            read(path)


def test_long_metadata_is_not_read(tmp_path):
    path = tmp_path / "w.safetensors"
    text = json.dumps({"__metadata__": {"vbench": "[" + "[]," * 2_000_000 + "[]]"}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    for read in (read_checkpoint, read_metadata):
        with pytest.raises(BadInput, match="too long"):
            read(path)


_FACTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.tuples(st.integers()), inner, max_size=2)
    ),
    max_leaves=8,
)


@settings(PLENTY, max_examples=40)
@given(_FACTS, st.booleans())
def test_every_plain_file_is_read(tmp_path_factory, said, legacy):
    path = tmp_path_factory.getbasetemp() / "plain.t"
    content = OrderedDict(net=OrderedDict(STATE), said=said, epoch=1)
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    found = read_checkpoint(path)
    assert torch.equal(found.state["a"], STATE["a"]) and found.metadata["epoch"] == 1


@PLENTY
@given(st.binary(max_size=60))
def test_any_bytes_are_looked_at_or_refused(content):
    try:
        check_pickle(io.BytesIO(b"\x80\x02" + content), "w.pth")
    except BadInput as refused:
        assert str(refused).startswith("w.pth: ")
