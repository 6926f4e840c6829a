"""Verification finds what is wrong, and nothing where nothing is."""

from __future__ import annotations

import fabricate
import pytest

from vbench.core.errors import BadInput
from vbench.data import open_dataset
from vbench.data.registry import DATASETS
from vbench.data.verify import verify


@pytest.fixture(params=["sysu", "regdb", "llcm"])
def layout(request):
    return request.param


@pytest.fixture
def root(layout, tmp_path):
    """Marked synthetic, so that only what a test breaks is a problem."""
    folder = getattr(fabricate, layout)(tmp_path)
    fabricate.write(folder / "vbench-synthetic.json", "{}")
    return folder


def test_an_intact_copy_has_no_problem_and_true_counts(layout, root):
    report = verify(layout, root, quiet=True)
    assert report.ok
    assert report.synthetic
    assert all(count.known is None for count in report.counts)
    counts = {count.name: count.found for count in report.counts}
    dataset = open_dataset(layout, root)
    assert counts["training images, visible"] == len(dataset.train_visible)
    assert counts["training images, infrared"] == len(dataset.train_infrared)
    assert counts["training identities"] == len(dataset.train_labels)
    if layout == "sysu":
        assert counts["queries, all-search"] == len(dataset.query)
        assert counts["gallery, all-search single-shot"] == len(dataset.trials[0].gallery)
        assert sum(report.cameras.values()) == len(list(root.glob("cam*/*/*.jpg")))
    elif layout == "regdb":
        assert counts["test images, visible"] == len(dataset.query)
        assert counts["test images, infrared"] == len(dataset.gallery)
    else:
        assert counts["test images, infrared"] == len(dataset.query)


def test_a_copy_that_is_not_marked_is_held_against_the_published_counts(layout, root):
    (root / "vbench-synthetic.json").unlink()
    report = verify(layout, root, quiet=True)
    compared = {count.name: count.known for count in report.counts if count.known is not None}
    assert compared == DATASETS[layout]["published"]
    assert not report.ok
    assert any("but the published set has" in problem for problem in report.problems)


def test_unreadable_images_are_named_whether_a_protocol_draws_them_or_not(layout, root):
    pattern = {"sysu": "cam*/*/*.jpg", "regdb": "[VT]*/*/*.bmp", "llcm": "test_*/cam[12456789]/*/*.jpg"}[
        layout
    ]
    every = sorted(root.glob(pattern))
    broken = {str(path.relative_to(root)) for path in every[::5]}
    for name in broken:
        path = root / name
        path.write_bytes(path.read_bytes()[:150])
    report = verify(layout, root, quiet=True)
    assert {name for name, _ in report.unreadable} == broken
    assert not report.ok
    assert all(any(name in problem for problem in report.problems) for name in broken)


def test_listed_images_that_are_gone_are_missing(tmp_path):
    root = fabricate.regdb(tmp_path)
    gone = sorted(root.glob("Visible/*/*.bmp"))[0]
    gone.unlink()
    report = verify("regdb", root, quiet=True)
    assert report.missing == (str(gone.relative_to(root)),)
    assert report.unreadable == ()


def test_a_regdb_split_without_its_lists_is_a_problem(tmp_path):
    root = fabricate.regdb(tmp_path, trials=9)
    fabricate.write(root / "vbench-synthetic.json", "{}")
    report = verify("regdb", root, quiet=True)
    assert len(report.problems) == 1
    assert "train_visible_10.txt is missing" in report.problems[0]


def test_published_counts_hold_together():
    """Totals that the papers print: RegDB has 10 images an identity, LLCM 30,921 for training and 46,767."""
    sysu, regdb, llcm = (DATASETS[name]["published"] for name in ("sysu", "regdb", "llcm"))
    assert sysu["training images, visible"] + sysu["training images, infrared"] == 34167
    assert {10 * regdb["test identities"]} == {value for name, value in regdb.items() if "images" in name}
    assert llcm["training images, visible"] + llcm["training images, infrared"] == 30921
    assert sum(value for name, value in llcm.items() if "images" in name) == 46767


def test_a_split_file_too_broken_to_go_on_is_bad_input(tmp_path):
    root = fabricate.sysu(tmp_path)
    fabricate.write(root / "exp/test_id.txt", "6,six")
    with pytest.raises(BadInput, match="'six' is no identity number"):
        verify("sysu", root, quiet=True)
    with pytest.raises(BadInput, match="does not exist"):
        verify("sysu", tmp_path / "nowhere", quiet=True)
