"""LLCM: both directions against the released script's own steps."""

from __future__ import annotations

import shutil

import fabricate
import literal_protocols as literal
import pytest

from vbench.core.errors import BadInput
from vbench.data import open_dataset

IDS = "idx/test_id.txt"
FOLDERS = {
    "vis": [f"test_vis/cam{cam}" for cam in range(1, 10)],
    "nir": [f"test_nir/cam{cam}" for cam in (1, 2, 4, 5, 6, 7, 8, 9)],
}


@pytest.fixture
def root(tmp_path):
    return fabricate.llcm(tmp_path)


@pytest.mark.parametrize(
    ("direction", "query", "gallery"), [("ir2vis", "nir", "vis"), ("vis2ir", "vis", "nir")]
)
def test_both_directions_are_the_script(root, direction, query, gallery):
    dataset = open_dataset("llcm", root, f"llcm/{direction}/seed10")
    assert [s.path for s in dataset.query] == literal.query_paths(root, IDS, FOLDERS[query])
    assert len(dataset.trials) == 10
    for number, trial in enumerate(dataset.trials):
        chosen = [dataset.gallery[index].path for index in trial.gallery]
        assert chosen == literal.gallery_paths(root, IDS, FOLDERS[gallery], number)
    assert len({sample.path for sample in dataset.gallery}) == len(dataset.gallery)
    for sample in (*dataset.query, *dataset.gallery):
        _, cam, pid, _ = sample.path.split("/")
        assert (f"cam{sample.cam}", f"{sample.pid:04d}") == (cam, pid)
    assert (dataset.metric, dataset.split) == ("llcm", "llcm")


def test_the_infrared_camera_that_does_not_exist_is_not_read(root):
    dataset = open_dataset("llcm", root)
    assert (root / "test_nir/cam3/0002/extra.jpg").exists()
    assert 3 not in {sample.cam for sample in dataset.query}


def test_training_labels_are_the_lists(root):
    dataset = open_dataset("llcm", root)
    for samples, word in ((dataset.train_visible, "vis"), (dataset.train_infrared, "nir")):
        lines = (root / f"idx/train_{word}.txt").read_text().splitlines()
        assert [f"{s.path} {dataset.train_labels[s.pid]}" for s in samples] == lines
    assert not set(dataset.train_labels) & {sample.pid for sample in (*dataset.query, *dataset.gallery)}


def test_a_test_image_in_training_is_refused(root):
    leaked = open_dataset("llcm", root).gallery[0].path
    path = root / "idx/train_vis.txt"
    path.write_text(path.read_text() + f"\n{leaked} 2\n")
    with pytest.raises(BadInput, match=rf"train_vis\.txt, line 7: {leaked} is a test image"):
        open_dataset("llcm", root)


def test_an_empty_side_is_refused(root):
    shutil.rmtree(root / "test_nir")
    with pytest.raises(BadInput, match=r"no query image.*test_nir/"):
        open_dataset("llcm", root, "llcm/ir2vis/seed10")
    with pytest.raises(BadInput, match=r"no gallery image.*test_nir/"):
        open_dataset("llcm", root, "llcm/vis2ir/seed10")
