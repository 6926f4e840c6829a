"""Choosing data and weights: gates against leaks, and defaults that are made once."""

from __future__ import annotations

import pytest
from opening import opener

from vbench.core.errors import BadInput
from vbench.data.synthetic import write_dataset
from vbench.data.synthetic.embedded import SyntheticSet


def test_weights_of_another_split_are_refused_unless_forced(small, tmp_path):
    root = write_dataset("regdb", tmp_path / "regdb", ids=4, seed=0, size=(64, 32), test_ids=4, quiet=True)
    made = opener("regdb", root, weights=small.weights)
    dataset = made.open(tmp_path, quiet=True)
    with pytest.raises(BadInput, match="was trained on split sysu"):
        made.bench(dataset, tmp_path, quiet=True)
    forced = opener("regdb", root, weights=small.weights, ignore_gates=True)
    assert forced.bench(dataset, tmp_path, quiet=True).victim.num_classes == 150


def test_real_data_needs_a_root_and_weights(small, tmp_path):
    with pytest.raises(BadInput, match="needs --root"):
        opener("sysu").open(tmp_path)
    with pytest.raises(BadInput, match="--root is for real data"):
        opener("synthetic", tmp_path).open(tmp_path)
    (small.root / "vbench-synthetic.json").rename(small.root / "hidden.json")
    try:
        made = opener("sysu", small.root)
        with pytest.raises(BadInput, match="needs --weights"):
            made.bench(made.open(tmp_path, quiet=True), tmp_path, quiet=True)
    finally:
        (small.root / "hidden.json").rename(small.root / "vbench-synthetic.json")


def test_a_victim_that_is_its_own_surrogate_is_asked_for_its_own_weights(small, tmp_path):
    (small.root / "vbench-synthetic.json").rename(small.root / "hidden.json")
    try:
        made = opener("sysu", small.root, surrogates=("agw",))
        with pytest.raises(BadInput, match="needs --weights, its released checkpoint"):
            made.check_fits(made.setup.victim, None, made.open(tmp_path, quiet=True))
    finally:
        (small.root / "hidden.json").rename(small.root / "vbench-synthetic.json")


def test_the_default_set_is_written_once(tmp_path):
    wanted = SyntheticSet(ids=3, test_ids=2, size=(32, 16))
    folder = wanted.write(tmp_path, quiet=True)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}
    assert wanted.write(tmp_path, quiet=True) == folder
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}
    assert len(before) == 3 * 8 + 2 * 18


def test_the_default_has_at_least_forty_unseen_identities():
    assert SyntheticSet().test_ids >= 40
