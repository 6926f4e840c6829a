"""Data sets as people have them: other formats, names, cases and lists than the owners', and stray files."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import fabricate
import pytest
from PIL import Image

from vbench.core.errors import BadInput
from vbench.data import open_dataset
from vbench.data.images import load_images

MADE = {"sysu": fabricate.sysu, "regdb": lambda root: fabricate.regdb(root, trials=1), "llcm": fabricate.llcm}
FOLDERS = ("sysu", "llcm")
LISTS = {"regdb": "idx/test_visible_1.txt", "llcm": "idx/train_vis.txt"}


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    return {layout: make(tmp_path_factory.mktemp(layout)) for layout, make in MADE.items()}


@pytest.fixture
def copy(copies, tmp_path, monkeypatch):
    """A copy of a set to change; no image may be opened while it is read."""

    def opened(*_, **__):
        raise AssertionError("an image was opened")

    monkeypatch.setattr(Image, "open", opened)
    return lambda layout: shutil.copytree(copies[layout], tmp_path / layout)


def facts(dataset):
    """Everything but where the files are."""
    lists = (dataset.query, dataset.gallery, dataset.train_visible, dataset.train_infrared)
    trials = [(trial.query.tolist(), trial.gallery.tolist()) for trial in dataset.trials]
    return [[(s.pid, s.cam, s.modality) for s in samples] for samples in lists], trials


def refusal(layout, root, protocol=None):
    with pytest.raises(BadInput) as caught:
        open_dataset(layout, root, protocol)
    line = str(caught.value)
    assert line.isprintable() and str(root) in line
    return line


def camera_folder(layout):
    return "cam1" if layout == "sysu" else "test_vis/cam1"


def an_image(root, layout):
    return next(path for path in sorted((root / camera_folder(layout)).rglob("*.jpg")))


@pytest.mark.parametrize("layout", FOLDERS)
@pytest.mark.parametrize("suffix", [".tif", ".TIFF", ".webp"])
def camera_folders_of_another_format_name_one_file(copy, layout, suffix):
    root = copy(layout)
    for path in root.rglob("*.jpg"):
        path.rename(path.with_suffix(suffix))
    lists = root / "idx"
    for path in lists.glob("train*") if lists.exists() else ():
        path.write_text(path.read_text().replace(".jpg", suffix))
    line = refusal(layout, root)
    assert suffix in line and "convert it" in line and ".png" in line
    assert (root / re.search(rf"(\S+{re.escape(suffix)})", line)[1]).is_file()


@pytest.mark.parametrize("layout", FOLDERS)
def test_one_image_of_another_format_is_not_passed_over(copy, layout):
    root = copy(layout)
    path = an_image(root, layout)
    path.rename(path.with_suffix(".tif"))
    assert f"{path.stem}.tif is none of" in refusal(layout, root)


def test_a_list_of_another_format_names_its_line(copy):
    root = copy("regdb")
    path = root / LISTS["regdb"]
    path.write_text(path.read_text().replace(".bmp", ".tif"))
    assert f"{path}, line 1: Visible/" in refusal("regdb", root)


@pytest.mark.parametrize("layout", MADE)
def test_formats_that_are_read_may_be_mixed_and_in_upper_case(copy, layout):
    root = copy(layout)
    before, suffixes = facts(open_dataset(layout, root)), (".PNG", ".JPEG", ".Bmp")
    for number, path in enumerate(sorted([*root.rglob("*.jpg"), *root.rglob("*.bmp")])):
        new = path.with_suffix(suffixes[number % 3])
        path.rename(new)
        for listed in (root / "idx").glob("*") if layout != "sysu" else ():
            old = path.relative_to(root).as_posix()
            text = listed.read_text()
            if old in text:
                listed.write_text(text.replace(f"{old} ", f"{new.relative_to(root).as_posix()} "))
    assert facts(open_dataset(layout, root)) == before


@pytest.mark.parametrize("layout", FOLDERS)
@pytest.mark.parametrize("digits", ["{:d}", "{:08d}"])
def test_ids_have_any_number_of_zeros(copy, layout, digits):
    root = copy(layout)
    before = facts(open_dataset(layout, root))
    for path in [path for path in root.rglob("*") if path.is_dir() and path.name.isdigit()]:
        if path.parent.name.startswith("cam"):
            path.rename(path.with_name(digits.format(int(path.name))))
    assert facts(open_dataset(layout, root)) == before


@pytest.mark.parametrize("layout", FOLDERS)
def test_one_identity_in_two_folders_is_refused(copy, layout):
    root = copy(layout)
    folder = an_image(root, layout).parent
    shutil.copytree(folder, folder.with_name(folder.name.lstrip("0")))
    assert "are the same identity; merge them" in refusal(layout, root)


@pytest.mark.parametrize("layout", FOLDERS)
def test_cameras_in_upper_case_are_the_same_set(copy, layout):
    root = copy(layout)
    before = facts(open_dataset(layout, root))
    for path in sorted(root.rglob("cam*")):
        if path.is_dir():
            path.rename(path.with_name(path.name.upper()))
    after = open_dataset(layout, root)
    assert facts(after) == before
    assert all((root / sample.path).is_file() for sample in (*after.query, *after.gallery))


@pytest.mark.parametrize("layout", FOLDERS)
def test_two_cases_of_a_camera_are_refused(copy, layout):
    root = copy(layout)
    folder = root / camera_folder(layout)
    shutil.copytree(folder, folder.with_name("CAM1"))
    assert "differ in upper and lower case alone" in refusal(layout, root)


@pytest.mark.parametrize("layout", LISTS)
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("/", "\\"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: "\ufeff" + text.replace("/", "\\").replace("\n", "\r\n") + "\r\n\r\n",
        lambda text: text.upper(),
        lambda text: text.replace(" ", "\t"),
        lambda text: "".join(f"./{line}  \n" for line in text.splitlines()),
    ],
    ids=["backslashes", "crlf", "bom", "all-three", "case", "tabs", "dot"],
)
def test_lists_of_other_systems_are_the_same_lists(copy, layout, change):
    root = copy(layout)
    before = open_dataset(layout, root)
    for path in (root / "idx").glob("t*_vis*.txt"):
        path.write_bytes(change(path.read_text()).encode())
    after = open_dataset(layout, root)
    assert (after.query, after.gallery, after.train_visible) == (
        before.query,
        before.gallery,
        before.train_visible,
    )


@pytest.mark.parametrize("layout", FOLDERS)
def test_ids_of_other_systems_are_the_same_ids(copy, layout):
    root = copy(layout)
    before = facts(open_dataset(layout, root))
    for path in root.rglob("*_id.txt"):
        path.write_bytes(("\ufeff" + path.read_text().strip().replace(",", " , ") + "\r\n\r\n").encode())
    assert facts(open_dataset(layout, root)) == before


@pytest.mark.parametrize("layout", LISTS)
@pytest.mark.parametrize("more", ["1", "c1 7", "visible"])
def test_a_third_column_is_refused(copy, layout, more):
    root = copy(layout)
    path = root / LISTS[layout]
    path.write_text("".join(f"{line} {more}\n" for line in path.read_text().splitlines()))
    line = refusal(layout, root)
    assert f"{path}, line 1: expected" in line and "relative/path label" in line


@pytest.mark.parametrize("layout", LISTS)
@pytest.mark.parametrize("label", ["-1", "1.0", "nan", "٣", "9" * 30])
def test_a_label_that_is_no_class_number_is_refused(copy, layout, label):
    root = copy(layout)
    path = root / LISTS[layout]
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([f"{first.rsplit(' ', 1)[0]} {label}", *others]))
    assert f"{path}, line 1: expected" in refusal(layout, root)


@pytest.mark.parametrize("content", [b"\xff\xfea\0", b"caf\xe9.jpg 1\n", b"\0\0"])
@pytest.mark.parametrize("layout", LISTS)
def test_a_list_in_another_encoding_is_refused(copy, layout, content):
    root = copy(layout)
    (root / LISTS[layout]).write_bytes(content)
    assert str(root / LISTS[layout]) in refusal(layout, root)


def keep(root, word, cameras):
    """Remove the images of all other cameras."""
    for path in root.glob(f"{word}[1-9]"):
        if int(path.name[3:]) not in cameras:
            shutil.rmtree(path)


def test_llcm_of_one_camera_leaves_nothing_to_rank(copy):
    root = copy("llcm")
    for word in ("vis", "nir"):
        shutil.rmtree(root / f"test_{word}")
        for pid in (2, 10, 345):
            fabricate.write(root / f"test_{word}/cam4/{pid:04d}/a.jpg", "")
    line = refusal("llcm", root)
    assert "hides the own identity from every query (cameras 4)" in line and "nothing to rank" in line


def test_sysu_of_cameras_that_see_one_place_leaves_nothing_to_rank(copy):
    root = copy("sysu")
    keep(root, "cam", (2, 3))
    line = refusal("sysu", root)
    assert "hides the own identity from every query (cameras 3)" in line and "nothing to rank" in line


def test_one_query_that_the_rule_leaves_is_enough(copy):
    root = copy("sysu")
    keep(root, "cam", (2, 3))
    fabricate.write(root / "cam6/0006/0001.jpg", "")
    assert any(sample.cam == 6 for sample in open_dataset("sysu", root).query)


@pytest.mark.parametrize("layout", FOLDERS)
def test_one_test_identity_is_refused(copy, layout):
    root = copy(layout)
    (path,) = root.rglob("test_id.txt")
    pid = an_image(root, layout).parent.name if layout == "llcm" else "6"
    path.write_text(pid)
    if layout == "llcm":
        for word in ("vis", "nir"):
            for cam in (1, 2):
                fabricate.write(root / f"test_{word}/cam{cam}/{pid}/b.jpg", "")
    line = refusal(layout, root)
    assert f"{int(pid)} is the only identity in the gallery" in line


def test_one_test_label_is_refused(copy):
    root = copy("regdb")
    for path in (root / "idx").glob("test_*"):
        path.write_text("".join(f"{line[:-1]}0\n" for line in path.read_text().splitlines()))
    assert "0 is the only identity in the gallery" in refusal("regdb", root)


def odd(folder, name):
    """Write a file whose name is not UTF-8, where the file system lets one."""
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).touch()
    except OSError:
        pytest.skip("this file system has no such names")


@pytest.mark.parametrize("layout", FOLDERS)
def test_a_stray_file_whose_name_is_no_text_is_noted(copy, layout):
    root = copy(layout)
    before = facts(open_dataset(layout, root))
    odd(an_image(root, layout).parent, b"caf\xe9.txt")
    after = open_dataset(layout, root)
    assert facts(after) == before
    (note,) = [note for note in after.notes if "caf" in note]
    assert note.encode() and note.isprintable() and "1 files that are no images" in note


@pytest.mark.parametrize("layout", FOLDERS)
@pytest.mark.parametrize("place", ["root", "camera"])
def test_stray_files_elsewhere_change_nothing(copy, layout, place):
    root = copy(layout)
    before = facts(open_dataset(layout, root))
    odd(root if place == "root" else root / camera_folder(layout), b"caf\xe9.jpg")
    assert facts(open_dataset(layout, root)) == before


@pytest.mark.parametrize("layout", FOLDERS)
def test_an_image_whose_name_is_no_text_is_refused(copy, layout):
    root = copy(layout)
    odd(an_image(root, layout).parent, b"caf\xe9.jpg")
    line = refusal(layout, root)
    assert "is not UTF-8; rename it" in line and line.encode()


def test_what_is_read_is_what_is_decoded(copies, tmp_path):
    root = shutil.copytree(copies["regdb"], tmp_path / "set")
    plain = open_dataset("regdb", root)
    path = root / LISTS["regdb"]
    path.write_bytes(path.read_text().upper().replace("/", "\\").encode())
    wild = open_dataset("regdb", root)
    one, other = (load_images(found.query, root, (12, 6), quiet=True) for found in (wild, plain))
    assert (one == other).all()
