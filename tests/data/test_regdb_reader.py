"""RegDB: both directions of every split against the lists themselves."""

from __future__ import annotations

import fabricate
import pytest

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.data import open_dataset


@pytest.fixture
def root(tmp_path):
    return fabricate.regdb(tmp_path, trials=3)


def listed(root, name):
    pairs = [line.split(" ") for line in (root / "idx" / name).read_text().splitlines()]
    return [(path, int(label)) for path, label in pairs]


@pytest.mark.parametrize("trial", [1, 3])
@pytest.mark.parametrize(
    ("direction", "query", "gallery"), [("vis2ir", "visible", "thermal"), ("ir2vis", "thermal", "visible")]
)
def test_query_and_gallery_are_the_test_lists(root, trial, direction, query, gallery):
    dataset = open_dataset("regdb", root, f"regdb/{direction}/trial-{trial}")
    assert [(s.path, s.pid) for s in dataset.query] == listed(root, f"test_{query}_{trial}.txt")
    assert [(s.path, s.pid) for s in dataset.gallery] == listed(root, f"test_{gallery}_{trial}.txt")
    (only,) = dataset.trials
    assert only.query.tolist() == list(range(len(dataset.query)))
    assert only.gallery.tolist() == list(range(len(dataset.gallery)))
    assert (dataset.metric, dataset.split) == ("regdb", f"regdb/trial-{trial}")
    assert (dataset.query_modality is Modality.VISIBLE) == (direction == "vis2ir")


def test_training_keeps_the_lists_labels_without_sharing_pids(root):
    dataset = open_dataset("regdb", root)
    for samples, name in (
        (dataset.train_visible, "train_visible_1.txt"),
        (dataset.train_infrared, "train_thermal_1.txt"),
    ):
        assert [(s.path, dataset.train_labels[s.pid]) for s in samples] == listed(root, name)
    assert not set(dataset.train_labels) & {sample.pid for sample in (*dataset.query, *dataset.gallery)}


def test_splits_train_on_different_people(root):
    first, second = (open_dataset("regdb", root, f"regdb/vis2ir/trial-{trial}") for trial in (1, 2))
    assert first.train_visible != second.train_visible
    assert first.split != second.split


@pytest.mark.parametrize(
    ("name", "extra", "message"),
    [
        (
            "test_visible_1.txt",
            "Visible/1/a.bmp",
            r"test_visible_1\.txt, line 13: expected 'relative/path label'",
        ),
        ("test_visible_1.txt", "Visible/1/a.bmp one", "line 13: expected"),
        ("test_visible_1.txt", "Visible/1/a.bmp -1", "line 13: expected"),
        ("train_thermal_1.txt", "../secret.bmp 0", "line 13: '../secret.bmp' must be a path inside"),
        ("train_thermal_1.txt", "Thermal/../../secret.bmp 0", "must be a path inside"),
        ("train_thermal_1.txt", "/etc/secret.bmp 0", "must be a path inside"),
        ("train_thermal_1.txt", "..\\secret.bmp 0", "must be a path inside"),
    ],
)
def test_broken_lines_are_refused(root, name, extra, message):
    path = root / "idx" / name
    path.write_text(path.read_text() + extra + "\n")
    with pytest.raises(BadInput, match=message) as refusal:
        open_dataset("regdb", root)
    assert len(str(refusal.value).splitlines()) == 1


def test_an_image_twice_in_a_list_is_refused(root):
    path = root / "idx/test_visible_1.txt"
    path.write_text(path.read_text() + path.read_text().splitlines()[2] + "\n")
    with pytest.raises(BadInput, match=r"line 13: .* is listed already in line 3"):
        open_dataset("regdb", root)


def test_an_image_in_training_and_test_is_refused(root):
    stolen = listed(root, "train_visible_1.txt")[5][0]
    path = root / "idx/test_visible_1.txt"
    path.write_text(path.read_text() + f"{stolen} 0\n")
    with pytest.raises(
        BadInput, match=rf"test_visible_1\.txt, line 13: {stolen} is also in idx/train_visible_1\.txt"
    ):
        open_dataset("regdb", root)


def test_a_missing_split_and_an_empty_list_are_refused(root):
    with pytest.raises(BadInput, match=r"train_visible_9\.txt is missing"):
        open_dataset("regdb", root, "regdb/vis2ir/trial-9")
    (root / "idx/test_thermal_1.txt").write_text("\n")
    with pytest.raises(BadInput, match=r"test_thermal_1\.txt: no image listed"):
        open_dataset("regdb", root)


def test_paths_with_spaces_and_windows_line_ends_are_read(root):
    fabricate.write(root / "idx/test_visible_1.txt", "Visible/a b/c d.bmp 0\r\nVisible/e.bmp 1\r\n")
    dataset = open_dataset("regdb", root)
    assert [(s.path, s.pid) for s in dataset.query] == [("Visible/a b/c d.bmp", 0), ("Visible/e.bmp", 1)]
    assert any("2 test identities have images in one modality only" in note for note in dataset.notes)


def test_nothing_to_rank_is_refused(root):
    fabricate.write(root / "idx/test_visible_1.txt", "Visible/x.bmp 77\n")
    with pytest.raises(BadInput, match="nothing to rank"):
        open_dataset("regdb", root)
