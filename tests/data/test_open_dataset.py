"""The one door: names, folders, the synthetic mark, no torch."""

from __future__ import annotations

import subprocess
import sys

import fabricate
import pytest

from vbench.core.errors import BadInput
from vbench.data import open_dataset


def test_an_unknown_layout_gets_the_nearest_name(tmp_path):
    with pytest.raises(BadInput, match="did you mean 'sysu'"):
        open_dataset("syus", tmp_path)


@pytest.mark.parametrize(("layout", "hint"), [("sysu", "cam1"), ("regdb", "idx/"), ("llcm", "test_nir")])
def test_a_missing_root_says_what_was_expected(tmp_path, layout, hint):
    with pytest.raises(BadInput, match=hint):
        open_dataset(layout, tmp_path / "nowhere")
    fabricate.write(tmp_path / "file", "x")
    with pytest.raises(BadInput, match="is not a folder"):
        open_dataset(layout, tmp_path / "file")


def test_a_protocol_of_another_layout_is_refused(tmp_path):
    with pytest.raises(BadInput, match="belongs to 'llcm', not to 'sysu'"):
        open_dataset("sysu", tmp_path, "llcm/ir2vis/seed10")


@pytest.mark.parametrize("layout", ["sysu", "regdb", "llcm"])
def test_default_protocol_and_synthetic_mark(tmp_path, layout):
    root = getattr(fabricate, layout)(tmp_path)
    assert open_dataset(layout, root).synthetic is False
    fabricate.write(root / "vbench-synthetic.json", "{}")
    dataset = open_dataset(layout, str(root))
    assert dataset.synthetic is True
    assert dataset.name == layout
    assert dataset.protocol.startswith(f"{layout}/")


def test_data_does_not_import_torch():
    modules = "vbench.data, vbench.data.images, vbench.data.verify, vbench.cli.show"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
