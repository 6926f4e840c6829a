"""``vbench data``: exit codes and what is printed."""

from __future__ import annotations

import fabricate
import pytest
from typer.testing import CliRunner

from vbench.cli.show import data_app as app
from vbench.core.errors import BadInput
from vbench.core.settings import parse_size
from vbench.data import all_protocols, open_dataset


def call(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.mark.parametrize("layout", ["sysu", "regdb", "llcm"])
def test_synth_then_verify_then_open(tmp_path, layout):
    out = tmp_path / "out"
    written = call(
        "synth",
        "--layout",
        layout,
        "--out",
        out,
        "--ids",
        3,
        "--seed",
        4,
        "--size",
        "24x12",
        "--test-ids",
        2,
        "--quiet",
    )
    assert written.exit_code == 0, written.output
    checked = call("verify", layout, "--root", out, "--quiet")
    assert checked.exit_code == 0, checked.output
    assert "no problem found" in checked.output
    assert "synthetic" in checked.output
    for protocol in all_protocols(layout):
        dataset = open_dataset(layout, out, protocol)
        assert dataset.synthetic
        assert len(dataset.train_labels) == 3
        assert len({sample.pid for sample in dataset.query}) == 2


def test_verify_exits_with_one_and_names_the_file(tmp_path):
    root = fabricate.sysu(tmp_path)
    fabricate.write(root / "vbench-synthetic.json", "{}")
    fabricate.write(root / "cam1/0006/0001.jpg", b"")
    result = call("verify", "sysu", "--root", root, "--quiet")
    assert result.exit_code == 1
    assert "PROBLEM: cam1/0006/0001.jpg: empty file" in result.output


def test_bad_input_leaves_as_one_error_for_the_command_line_to_print(tmp_path):
    assert isinstance(call("verify", "sysuu", "--root", tmp_path).exception, BadInput)
    assert isinstance(call("verify", "sysu", "--root", tmp_path / "no").exception, BadInput)
    bad_size = call("synth", "--layout", "sysu", "--out", tmp_path / "o", "--ids", 3, "--size", "64")
    assert isinstance(bad_size.exception, BadInput)
    assert not (tmp_path / "o").exists()


def test_protocols_lists_every_id_with_its_mark():
    lines = call("protocols").output.splitlines()
    assert [line.split()[0] for line in lines] == all_protocols()
    assert "sysu/all/single/ir2vis/seed10 *" in lines
    assert "sysu/all/single/vis2ir/seed10 !" in lines
    assert len(call("protocols", "llcm").output.splitlines()) == 2


@pytest.mark.parametrize("text", ["64x32", " 64X32 "])
def test_size_is_height_by_width(text):
    assert parse_size(text) == (64, 32)


@pytest.mark.parametrize("text", ["64", "64x", "x32", "0x32", "64x0", "-1x4", "64x32x3", "axb", ""])
def test_other_sizes_are_refused(text):
    with pytest.raises(BadInput, match="HEIGHTxWIDTH"):
        parse_size(text)
