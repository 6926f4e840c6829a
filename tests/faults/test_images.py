"""Images and listings that are not as they should be, as ``vbench run`` meets them."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
from faults.conftest import run_arguments
from PIL import Image

from vbench.records.store import RunStore


@pytest.fixture
def copy(quick, tmp_path):
    return shutil.copytree(quick.root, tmp_path / "sysu")


def encoded(mode: str, kind: str, size: tuple[int, int] = (16, 32)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, 90).save(buffer, kind)
    return buffer.getvalue()


def queries(root):
    """Images that a protocol needs whatever it draws: those of infrared cameras of test identities."""
    test = (root / "exp/test_id.txt").read_text().strip().split(",")
    return sorted(path for pid in test for path in (root / "cam3" / f"{int(pid):04d}").iterdir())


def the_record(runs):
    (record,) = RunStore(runs).read_all().records
    return record


NOISE = ("--attack", "noise")
BAD = {
    "truncated": (lambda whole: whole[:-40], "truncated"),
    "zero-byte": (lambda whole: b"", "empty file"),
    "non-image": (lambda whole: b"<html>not found</html>" * 20, "not an image"),
    "16-bit": (lambda whole: encoded("I;16", "PNG"), "8-bit RGB or grey-scale"),
    "CMYK": (lambda whole: encoded("CMYK", "JPEG"), "8-bit RGB or grey-scale"),
    "too large": (lambda whole: encoded("L", "PNG", (8000, 8000)), "too large"),
}


@pytest.mark.parametrize("damage", BAD)
def test_an_image_that_cannot_be_used_is_named(quick, copy, vbench, tmp_path, damage):
    change, reason = BAD[damage]
    path = queries(copy)[0]
    path.write_bytes(change(path.read_bytes()))
    runs = tmp_path / "runs"
    done = vbench(*run_arguments(quick, runs, *NOISE, root=copy), expect=2)
    (line,) = done.stderr.strip().splitlines()
    assert str(path.relative_to(copy)) in line and reason in line and "vbench data verify" in line
    assert not list(runs.glob("*"))


@pytest.mark.parametrize(
    ("mode", "size"), [("RGB", (5, 90)), ("RGB", (1, 1)), ("L", (16, 32))], ids=["size", "pixel", "grey"]
)
def test_an_image_of_another_kind_is_taken(quick, copy, vbench, tmp_path, mode, size):
    queries(copy)[0].write_bytes(encoded(mode, "JPEG", size))
    vbench(*run_arguments(quick, tmp_path / "runs", *NOISE, root=copy))
    assert np.isfinite(the_record(tmp_path / "runs").mean("clean", "map"))


def test_a_missing_camera_is_noted_in_the_record(quick, copy, vbench, tmp_path):
    shutil.rmtree(copy / "cam6")
    vbench(*run_arguments(quick, tmp_path / "runs", *NOISE, root=copy))
    assert "cam6: no images of test identities" in the_record(tmp_path / "runs").warnings


def test_an_identity_without_images_is_noted_in_the_record(quick, copy, vbench, tmp_path):
    pid = queries(copy)[0].parent.name
    for camera in copy.glob("cam[1-6]"):
        shutil.rmtree(camera / pid, ignore_errors=True)
    vbench(*run_arguments(quick, tmp_path / "runs", *NOISE, root=copy))
    warnings = "\n".join(the_record(tmp_path / "runs").warnings)
    assert f"1 test identities without infrared images: {int(pid)}" in warnings
    assert f"1 test identities without visible images: {int(pid)}" in warnings


def test_an_identity_in_two_splits_is_refused(quick, copy, vbench, tmp_path):
    first = (copy / "exp/train_id.txt").read_text().split(",")[0].strip()
    listing = copy / "exp/test_id.txt"
    listing.write_text(f"{listing.read_text().strip()},{first}\n")
    done = vbench(*run_arguments(quick, tmp_path / "runs", *NOISE, root=copy), expect=2)
    (line,) = done.stderr.strip().splitlines()
    assert f"test_id.txt, line 1: identity {first} is also in exp/train_id.txt" in line
