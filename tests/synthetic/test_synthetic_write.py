"""What lands on disk: complete, readable, well-formed, the same every time, or not at all."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from vbench.core.errors import BadInput, VbenchError
from vbench.data.synthetic import write, write_dataset

LAYOUTS = ("sysu", "regdb", "llcm")
ARGUMENTS = {"ids": 6, "test_ids": 4, "seed": 5, "size": (32, 16), "quiet": True}


def digest(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module", params=LAYOUTS)
def dataset(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic") / request.param
    assert write_dataset(request.param, root, **ARGUMENTS) == root
    return request.param, root


@pytest.fixture(scope="module")
def sysu(tmp_path_factory):
    return write_dataset("sysu", tmp_path_factory.mktemp("sysu") / "set", **ARGUMENTS)


@pytest.fixture(scope="module")
def regdb(tmp_path_factory):
    return write_dataset("regdb", tmp_path_factory.mktemp("regdb") / "set", **ARGUMENTS)


@pytest.fixture(scope="module")
def llcm(tmp_path_factory):
    return write_dataset("llcm", tmp_path_factory.mktemp("llcm") / "set", **ARGUMENTS)


def ids_of(path):
    return {int(pid) for pid in path.read_text().splitlines()[0].split(",")}


def test_the_same_arguments_give_the_same_bytes_whatever_the_chunk(dataset, tmp_path, monkeypatch):
    layout, root = dataset
    monkeypatch.setattr(write, "_CHUNK_PIXELS", 7 * 32 * 16)
    again = write_dataset(layout, tmp_path / "again", **ARGUMENTS)
    assert digest(again) == digest(root)


def test_another_seed_gives_other_people(dataset, tmp_path):
    layout, root = dataset
    other = write_dataset(layout, tmp_path / "other", **{**ARGUMENTS, "seed": 6})
    pictures = {path: sha for path, sha in digest(root).items() if path.endswith((".jpg", ".bmp"))}
    changed = digest(other)
    assert all(changed.get(path) != sha for path, sha in pictures.items())


def test_every_picture_opens_at_its_size_and_infrared_is_grey(dataset):
    layout, root = dataset
    paths = [path for path in root.rglob("*") if path.suffix in {".jpg", ".bmp"}]
    assert paths
    for path in paths:
        with Image.open(path) as image:
            pixels = np.asarray(image)
        assert pixels.shape == (32, 16, 3)
        relative = path.relative_to(root).as_posix()
        if relative.startswith(("cam3", "cam6", "Thermal", "nir", "test_nir")):
            spread = np.ptp(pixels.astype(int), axis=2).max()
            assert spread == 0, (layout, relative)


def test_the_manifest_says_what_was_asked(dataset):
    layout, root = dataset
    manifest = json.loads((root / write.MANIFEST).read_text())
    assert manifest == {
        "generator": write.GENERATOR_VERSION,
        "layout": layout,
        "ids": 6,
        "test_ids": 4,
        "seed": 5,
        "size": [32, 16],
    }


def test_sysu_splits_and_counts(sysu):
    train, val, test = (ids_of(sysu / f"exp/{part}_id.txt") for part in ("train", "val", "test"))
    assert len(train | val) == 6 and len(train) + len(val) == 6 and len(test) == 4
    assert not test & (train | val)
    for cam in range(1, 7):
        infrared = cam in (3, 6)
        for pid in train | val | test:
            names = sorted(path.name for path in (sysu / f"cam{cam}/{pid:04d}").iterdir())
            count = 3 if pid in test else 2 if infrared else 1
            assert names == [f"{number:04d}.jpg" for number in range(1, count + 1)]


def test_sysu_permutations_name_pictures_that_exist(sysu):
    cell = loadmat(sysu / "exp/rand_perm_cam.mat")["rand_perm_cam"]
    assert cell.shape == (6, 1)
    for cam in range(1, 7):
        people = cell[cam - 1, 0].squeeze()
        assert people.shape == (10,)
        for pid in ids_of(sysu / "exp/test_id.txt"):
            orders = people[pid - 1]
            assert orders.shape == (10, 3)
            assert (np.sort(orders, axis=1) == [1, 2, 3]).all()
            assert (sysu / f"cam{cam}/{pid:04d}/{orders[0, 0]:04d}.jpg").is_file()
    firsts = {tuple(cell[0, 0].squeeze()[pid - 1][:, 0]) for pid in ids_of(sysu / "exp/test_id.txt")}
    assert len(firsts) > 1


def test_regdb_has_ten_different_splits(regdb):
    seen = set()
    for trial in range(1, 11):
        people = {}
        for part, count in (("train", 6), ("test", 4)):
            for word, folder in (("visible", "Visible"), ("thermal", "Thermal")):
                rows = [
                    row.split(" ")
                    for row in (regdb / f"idx/{part}_{word}_{trial}.txt").read_text().splitlines()
                ]
                assert len(rows) == count * 10
                assert all((regdb / path).is_file() and path.startswith(folder) for path, _ in rows)
                owner = {
                    int(label): {int(path.split("/")[1]) for path, other in rows if other == label}
                    for _, label in rows
                }
                assert sorted(owner) == list(range(count))
                assert all(len(pids) == 1 for pids in owner.values())
                pairs = {label: next(iter(pids)) for label, pids in owner.items()}
                assert people.setdefault(part, pairs) == pairs, "one label, one person, in both modalities"
        train, test = set(people["train"].values()), set(people["test"].values())
        assert not train & test and len(train | test) == 10
        seen.add(frozenset(test))
    assert len(seen) > 5


def test_llcm_lists_and_cameras(llcm):
    test = ids_of(llcm / "idx/test_id.txt")
    for word in ("vis", "nir"):
        rows = [row.split(" ") for row in (llcm / f"idx/train_{word}.txt").read_text().splitlines()]
        assert {int(label) for _, label in rows} == set(range(6))
        assert all((llcm / path).is_file() for path, _ in rows)
        assert not {int(path.split("/")[1]) for path, _ in rows} & test
        listed = {path for path, _ in rows}
        assert {path.relative_to(llcm).as_posix() for path in (llcm / word).rglob("*.jpg")} == listed
        cams = {int(folder.name[3:]) for folder in (llcm / f"test_{word}").iterdir()}
        assert cams <= set(range(1, 10)) and (word == "vis" or 3 not in cams)
        for pid in test:
            folders = list((llcm / f"test_{word}").glob(f"cam*/{pid:04d}"))
            assert len(folders) == 3 and all(len(list(folder.iterdir())) == 3 for folder in folders)


def test_a_person_looks_the_same_however_many_others_there_are(sysu, tmp_path):
    more = write_dataset("sysu", tmp_path / "more", **{**ARGUMENTS, "ids": 9})
    for cam in range(1, 7):
        assert (more / f"cam{cam}/0002/0001.jpg").read_bytes() == (
            sysu / f"cam{cam}/0002/0001.jpg"
        ).read_bytes()


def test_a_complete_set_is_left_alone(tmp_path):
    root = write_dataset("sysu", tmp_path / "set", **ARGUMENTS)
    picture = root / "cam1/0001/0001.jpg"
    picture.write_bytes(b"mine")
    assert write_dataset("sysu", root, **ARGUMENTS) == root
    assert picture.read_bytes() == b"mine"
    with pytest.raises(BadInput, match=r"seed 5 instead of 7"):
        write_dataset("sysu", root, **{**ARGUMENTS, "seed": 7})


def test_a_folder_with_other_things_is_refused_and_untouched(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(BadInput, match="not a synthetic dataset"):
        write_dataset("sysu", tmp_path, **ARGUMENTS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(BadInput, match="is a file"):
        write_dataset("sysu", tmp_path / "thesis.txt", **ARGUMENTS)


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "set").mkdir()
    assert (write_dataset("sysu", tmp_path / "set", **ARGUMENTS) / write.MANIFEST).is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch, failure):
    done = []

    def fail_in_the_middle(picture, suffix):
        if len(done) == 20:
            raise failure
        done.append(suffix)
        return b"picture"

    monkeypatch.setattr(write, "encode", fail_in_the_middle)
    with pytest.raises(KeyboardInterrupt if failure is KeyboardInterrupt else VbenchError):
        write_dataset("sysu", tmp_path / "set", **ARGUMENTS)
    assert len(done) == 20 and list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_nothing_that_looks_complete(tmp_path):
    script = (
        "import os, sys; from pathlib import Path\n"
        "from vbench.data.synthetic import write, write_dataset\n"
        "encode, count = write.encode, [0]\n"
        "def die(picture, suffix):\n"
        "    count[0] += 1\n"
        "    if count[0] == 20: os._exit(9)\n"
        "    return encode(picture, suffix)\n"
        "write.encode = die\n"
        "write_dataset('sysu', Path(sys.argv[1]), ids=6, test_ids=4, seed=5, size=(32, 16), quiet=True)\n"
    )
    out = tmp_path / "set"
    assert subprocess.run([sys.executable, "-c", script, str(out)], check=False).returncode == 9
    assert not out.exists() and not list(tmp_path.rglob(write.MANIFEST))
    assert (write_dataset("sysu", out, **ARGUMENTS) / write.MANIFEST).is_file()


def test_two_runs_at_once_end_in_one_set(tmp_path, monkeypatch):
    out = tmp_path / "set"
    publish = write._publish

    def slower(work, target, manifest):
        monkeypatch.setattr(write, "_publish", publish)
        write_dataset("sysu", out, **ARGUMENTS)
        publish(work, target, manifest)

    monkeypatch.setattr(write, "_publish", slower)
    assert write_dataset("sysu", out, **ARGUMENTS) == out
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(
    ("layout", "changes", "message"),
    [
        ("sysuu", {}, "did you mean 'sysu'"),
        ("sysu", {"ids": 1}, "at least 2 training"),
        ("sysu", {"test_ids": 0}, "at least 1 test"),
        ("sysu", {"ids": 9999}, "4-digit"),
        ("sysu", {"seed": -1}, "whole numbers from 0"),
        ("sysu", {"size": (64, 4)}, "64x4"),
        ("sysu", {"size": (64, 32, 3)}, "64x32x3"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, layout, changes, message):
    with pytest.raises(BadInput, match=message) as caught:
        write_dataset(layout, tmp_path / "set", **{**ARGUMENTS, **changes})
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_importing_the_package_is_cheap():
    heavy = "{'torch', 'scipy', 'PIL', 'vbench.data.synthetic.write'}"
    script = f"import sys, vbench.data.synthetic; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_writing_does_not_need_torch(tmp_path):
    script = (
        "import sys; from pathlib import Path; from vbench.data.synthetic import write_dataset\n"
        "write_dataset('sysu', Path(sys.argv[1]), ids=2, test_ids=1, seed=0, size=(16, 8), quiet=True)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "set")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(("layout", "train", "test"), [("sysu", 2, 4), ("llcm", 2, 4), ("regdb", 3, 3)])
def test_the_number_of_images_of_an_identity_and_camera_can_be_chosen(layout, train, test):
    plan = write.LAYOUTS[layout](5, 3, 7, write.Shots(train, test))
    counted = Counter((shot.pid, shot.cam, shot.modality) for shot in plan.pictures.values())
    assert {count for (pid, *_), count in counted.items() if pid <= 5} == {train}
    assert {count for (pid, *_), count in counted.items() if pid > 5} == {test}


@pytest.mark.parametrize("shots", [(0, None), (None, 10_000), (-1, 2)])
def test_a_number_of_images_out_of_range_is_refused(tmp_path, shots):
    with pytest.raises(BadInput, match="1 to 9999"):
        write_dataset("sysu", tmp_path / "set", **ARGUMENTS, shots=write.Shots(*shots))


def test_splits_of_regdb_share_their_images(tmp_path):
    with pytest.raises(BadInput, match="share all images"):
        write_dataset("regdb", tmp_path / "set", **ARGUMENTS, shots=write.Shots(2, 3))
