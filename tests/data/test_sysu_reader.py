"""SYSU-MM01: every protocol against the released script's own steps."""

from __future__ import annotations

import shutil

import fabricate
import literal_protocols as literal
import numpy as np
import pytest
from scipy.io import savemat

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.data import open_dataset

IDS = "exp/test_id.txt"
TEST_IDS = [6, 12, 33, 41, 110, 300]
CAMS = {"all": [1, 2, 4, 5], "indoor": [1, 2]}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return fabricate.sysu(tmp_path_factory.mktemp("sysu"))


@pytest.fixture
def copy(root, tmp_path):
    return shutil.copytree(root, tmp_path / "copy")


def folders(cams):
    return [f"cam{cam}" for cam in cams]


def paths(samples):
    return [sample.path for sample in samples]


def trial_paths(dataset, trial):
    return [dataset.gallery[index].path for index in dataset.trials[trial].gallery]


@pytest.mark.parametrize("mode", ["all", "indoor"])
def test_single_shot_is_the_script(root, mode):
    dataset = open_dataset("sysu", root, f"sysu/{mode}/single/ir2vis/seed10")
    assert paths(dataset.query) == literal.query_paths(root, IDS, folders([3, 6]))
    assert len(dataset.trials) == 10
    for trial in range(10):
        assert trial_paths(dataset, trial) == literal.gallery_paths(root, IDS, folders(CAMS[mode]), trial)
        assert dataset.trials[trial].query.tolist() == list(range(len(dataset.query)))
    assert len({tuple(trial_paths(dataset, trial)) for trial in range(10)}) > 1


def test_gallery_is_the_union_of_the_trials_each_image_once(root):
    dataset = open_dataset("sysu", root)
    union = paths(dataset.gallery)
    assert len(union) == len(set(union))
    assert set(union) == {path for trial in range(10) for path in trial_paths(dataset, trial)}


@pytest.mark.parametrize("mode", ["all", "indoor"])
def test_multi_shot_takes_ten_or_all_that_a_camera_has(root, mode):
    dataset = open_dataset("sysu", root, f"sysu/{mode}/multi/ir2vis/seed10")
    for trial in range(10):
        chosen = trial_paths(dataset, trial)
        assert chosen == literal.multi_shot_paths(root, IDS, folders(CAMS[mode]), trial, 10)
        per_folder = {path.rsplit("/", 1)[0]: 0 for path in chosen}
        for path in chosen:
            per_folder[path.rsplit("/", 1)[0]] += 1
        for folder, number in per_folder.items():
            assert number == min(10, len(list((root / folder).iterdir())))
    assert any(len(list((root / f"cam{cam}").glob("*/0011.jpg"))) for cam in CAMS[mode])


@pytest.mark.parametrize("mode", ["all", "indoor"])
def test_the_mirrored_direction_swaps_the_roles(root, mode):
    dataset = open_dataset("sysu", root, f"sysu/{mode}/single/vis2ir/seed10")
    assert paths(dataset.query) == literal.query_paths(root, IDS, folders(CAMS[mode]))
    for trial in range(10):
        assert trial_paths(dataset, trial) == literal.gallery_paths(root, IDS, folders([3, 6]), trial)
    assert dataset.query_modality is Modality.VISIBLE
    assert dataset.gallery_modality is Modality.INFRARED
    assert "not a standard protocol" in dataset.notes[0]
    assert not any("standard" in note for note in open_dataset("sysu", root).notes)


def test_identity_and_camera_come_from_the_folders(root):
    dataset = open_dataset("sysu", root)
    for sample in (*dataset.train_visible, *dataset.train_infrared, *dataset.query, *dataset.gallery):
        cam, pid, _ = sample.path.split("/")
        assert (f"cam{sample.cam}", f"{sample.pid:04d}") == (cam, pid)
        assert (sample.modality is Modality.INFRARED) == (sample.cam in (3, 6))


def test_training_is_train_and_val_ids(root):
    dataset = open_dataset("sysu", root)
    assert dataset.train_labels == {1: 0, 2: 1, 5: 2, 7: 3}
    assert {sample.pid for sample in dataset.query} == {6, 12, 33, 110}
    expected = {str(p.relative_to(root)) for pid in (1, 2, 5, 7) for p in root.glob(f"cam?/{pid:04d}/*")}
    assert set(paths(dataset.train_visible)) | set(paths(dataset.train_infrared)) == expected
    assert (dataset.metric, dataset.split, dataset.synthetic) == ("sysu", "sysu", False)


def test_gaps_are_noted(root):
    notes = "\n".join(open_dataset("sysu", root).notes)
    assert "2 test identities without infrared images: 41, 300" in notes
    assert "1 test identities without visible images: 41" in notes


def permutations(root, start=1):
    generator = np.random.default_rng(3)
    table = np.empty((6, 1), dtype=object)
    for cam in range(1, 7):
        cells = np.empty((300, 1), dtype=object)
        for pid in range(1, 301):
            count = len(list(root.glob(f"cam{cam}/{pid:04d}/*.jpg")))
            rows = [generator.permutation(count) + start for _ in range(10)]
            cells[pid - 1, 0] = np.array(rows, dtype=np.uint16) if count else np.zeros((0, 0))
        table[cam - 1, 0] = cells
    savemat(root / "exp/rand_perm_cam.mat", {"rand_perm_cam": table})
    return [[cell[0] for cell in camera[0]] for camera in table]


@pytest.mark.parametrize("mode", ["all", "indoor"])
@pytest.mark.parametrize(("word", "shots"), [("single", 1), ("multi", 10)])
def test_published_permutations_are_followed(copy, mode, word, shots):
    table = permutations(copy)
    dataset = open_dataset("sysu", copy, f"sysu/{mode}/{word}/ir2vis/randperm10")
    for trial in range(10):
        expected = literal.permuted_paths(table, TEST_IDS, CAMS[mode], trial, shots)
        assert trial_paths(dataset, trial) == expected
    assert not any("rand_perm_cam" in note for note in dataset.notes)


def test_permutation_numbers_without_an_image_are_left_out_and_noted(copy):
    table = permutations(copy)
    number = table[0][5][4][0]
    (copy / f"cam1/0006/{number:04d}.jpg").unlink()
    dataset = open_dataset("sysu", copy, "sysu/all/single/ir2vis/randperm10")
    expected = literal.permuted_paths(table, TEST_IDS, CAMS["all"], 4, 1)
    assert trial_paths(dataset, 4) == expected[1:]
    assert any(f"cam1/0006/{number:04d}" in note for note in dataset.notes)


def test_permutations_that_count_from_zero_are_refused(copy):
    permutations(copy, start=0)
    with pytest.raises(BadInput, match="from 1 on"):
        open_dataset("sysu", copy, "sysu/all/single/ir2vis/randperm10")


@pytest.mark.parametrize("content", [None, b"", b"not matlab" * 50])
def test_missing_or_broken_permutations_are_refused(copy, content):
    if content is not None:
        fabricate.write(copy / "exp/rand_perm_cam.mat", content)
    with pytest.raises(BadInput, match=r"rand_perm_cam\.mat"):
        open_dataset("sysu", copy, "sysu/all/single/ir2vis/randperm10")
    assert open_dataset("sysu", copy).trials


def test_strays_are_passed_over_and_noted(copy):
    before = open_dataset("sysu", copy)
    fabricate.write(copy / "cam1/0006/Thumbs.db", b"x")
    fabricate.write(copy / "cam3/0006/._0001.jpg", b"x")
    after = open_dataset("sysu", copy)
    assert (after.query, after.gallery) == (before.query, before.gallery)
    assert any("2 files that are no images" in note for note in after.notes)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("test_id.txt", "6,7,12", r"test_id\.txt, line 1: identity 7 is also in exp/train_id\.txt"),
        ("val_id.txt", "2", r"val_id\.txt, line 1: identity 2 is also"),
        ("test_id.txt", "6,12,6", r"test_id\.txt, line 1: identity 6 is listed twice"),
        ("test_id.txt", "6,x,12", r"line 1: 'x' is no identity number"),
        ("test_id.txt", "6,../12", r"line 1: '\.\./12' is no identity number"),
        ("test_id.txt", "", r"line 1: no identity listed"),
        ("test_id.txt", "6\n12", r"line 2: expected one line"),
        ("test_id.txt", b"\xff\xfe\x00", "not a text file"),
        ("test_id.txt", "41", "no query image"),
        ("train_id.txt", None, r"train_id\.txt is missing"),
    ],
)
def test_broken_split_files_are_refused(copy, name, content, message):
    path = copy / "exp" / name
    if content is None:
        path.unlink()
    else:
        fabricate.write(path, content)
    with pytest.raises(BadInput, match=message) as refusal:
        open_dataset("sysu", copy)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_missing_camera_is_allowed_and_noted(copy):
    shutil.rmtree(copy / "cam6")
    dataset = open_dataset("sysu", copy)
    assert {sample.cam for sample in dataset.query} == {3}
    assert "cam6: no images of test identities" in dataset.notes


def test_no_gallery_image_is_refused(copy):
    for cam in CAMS["all"]:
        shutil.rmtree(copy / f"cam{cam}")
    with pytest.raises(BadInput, match="no gallery image"):
        open_dataset("sysu", copy)
