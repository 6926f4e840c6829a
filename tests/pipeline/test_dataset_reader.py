"""A data set from outside: by file or installed, and what a careless reader is told."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from metrics.literal_ranking import literal_ranking
from opening import opener
from quick import copy_under_names

from vbench.core.errors import BadInput
from vbench.core.registry import import_target
from vbench.core.types import Modality, Side
from vbench.data import Dataset, DatasetReader, Sample, Trial, open_dataset
from vbench.data.open import read_with

PLUGIN = Path(__file__).parents[1] / "plugins" / "named_files"
FILE = f"{PLUGIN / 'named_files.py'}:NamedFiles"


@pytest.fixture(scope="module")
def named(small, tmp_path_factory):
    """The images of the small set again, under names that only the sample reader understands."""
    root = tmp_path_factory.mktemp("named")
    copy_under_names(open_dataset("sysu", small.root), root)
    return root


def test_a_reader_in_a_file_runs_by_its_own_rule(small, named, vbench, tmp_path):
    runs = tmp_path / "runs"
    run = ("run", "--victim", "agw", "--weights", small.weights, "--dataset", FILE, "--root", named)
    printed = vbench(*run, "--attack", "noise", "--runs", runs, "--ignore-gates", "--quiet").stdout
    assert "named/ir2vis" in printed and "SYNTHETIC" not in printed
    (record,) = [json.loads(file.read_text()) for file in runs.glob("*.json")]
    made = opener(FILE, named, weights=small.weights, ignore_gates=True)
    bench = made.bench(made.open(tmp_path, quiet=True), tmp_path, quiet=True)
    query, gallery = (bench.clean[side].embeddings.double().numpy() for side in (Side.QUERY, Side.GALLERY))
    sides = (bench.dataset.query, bench.dataset.gallery)
    ids, cams = ([np.array([getattr(s, what) for s in side]) for side in sides] for what in ("pid", "cam"))
    _, mean_ap, *_ = literal_ranking(-query @ gallery.T, *ids, *cams, "llcm")
    assert record["clean"][0]["map"] == pytest.approx(mean_ap, abs=1e-4)
    refused = vbench(*run, "--attack", "noise", "--protocol", "named/ir2viz", expect=2)
    assert "unknown protocol of 'named' 'named/ir2viz'; did you mean 'named/ir2vis'?" in refused.stderr


def test_an_installed_reader_has_a_name_of_its_own(tmp_path):
    site, source = tmp_path / "site", tmp_path / "source"
    shutil.copytree(PLUGIN, source, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True)
    code = "from vbench.cli import main; main()"
    listed = subprocess.run(
        [sys.executable, "-c", code, "list", "datasets"],
        env={"PYTHONPATH": str(site), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r"^named +plugin of vbench-named-files", listed.stdout, re.MULTILINE)


def test_an_unknown_name_is_told_the_nearest(tmp_path):
    with pytest.raises(BadInput, match="unknown dataset 'sisu'; did you mean 'sysu'"):
        opener("sisu", tmp_path).open(tmp_path)


def made(root: Path) -> Dataset:
    """Two people in training, two others in test, as no file on disk has to say."""

    def side(part: str, modality: Modality, first: int) -> tuple[Sample, ...]:
        return tuple(
            Sample(f"{part}/{modality.value}/{pid}.jpg", pid, 1, modality) for pid in (first, first + 1)
        )

    trial = Trial("all", np.arange(2), np.arange(2))
    return Dataset(
        "mine",
        root,
        "mine/one",
        "regdb",
        "mine",
        False,
        side("train", Modality.VISIBLE, 0),
        side("train", Modality.INFRARED, 0),
        side("test", Modality.INFRARED, 5),
        side("test", Modality.VISIBLE, 5),
        (trial,),
    )


def reading(root: Path, **changes: object) -> Dataset:
    class Mine(DatasetReader):
        name, expected, protocols = "mine", "nothing", ("mine/one",)

        def read(self, root, protocol):
            return dataclasses.replace(made(root), **changes)

    return read_with(Mine(), root)


def test_a_sound_set_passes(tmp_path):
    found, wanted = reading(tmp_path), made(tmp_path)
    assert (found.query, found.gallery, found.train_labels) == (wanted.query, wanted.gallery, {0: 0, 1: 1})


SAMPLE = Sample("a.jpg", 5, 1, Modality.INFRARED)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "yours"}, "says that it is 'yours'"),
        ({"protocol": "mine/two"}, "under 'mine/two', not 'mine/one' as asked"),
        ({"metric": "market"}, "unknown ranking rule 'market'; known: sysu, regdb, llcm"),
        ({"synthetic": True}, "is marked synthetic"),
        ({"train_infrared": ()}, "train_infrared is empty"),
        ({"trials": ()}, "has no trial"),
        ({"trials": (Trial("t", np.arange(2), np.array([0, 2])),)}, "gallery points beyond the 2 images"),
        ({"trials": (Trial("t", np.array([-1]), np.arange(2)),)}, "query points beyond"),
        ({"trials": (Trial("t", np.array([0.5]), np.arange(2)),)}, "no list of positions"),
        ({"query": (SAMPLE, Sample("b.jpg", 5, 1, Modality.VISIBLE))}, "query mixes modalities"),
        ({"query": (SAMPLE, SAMPLE)}, "query lists 'a.jpg' twice"),
        ({"query": (Sample("../a.jpg", 5, 1, Modality.INFRARED),)}, "no path inside the folder"),
        ({"query": (Sample("/etc/a.jpg", 5, 1, Modality.INFRARED),)}, "no path inside the folder"),
        ({"query": (Sample("a.jpg", 1, 1, Modality.INFRARED),)}, "identity 1 is in training and in test"),
        ({"query": (Sample("a.jpg", 9, 1, Modality.INFRARED),)}, "there is nothing to rank"),
    ],
)
def test_a_careless_reader_is_told_what_is_wrong(tmp_path, changes, message):
    with pytest.raises(BadInput, match=f"dataset 'mine' under .*{re.escape(message)}"):
        reading(tmp_path, **changes)


def test_names_and_protocols_that_would_be_mistaken_are_refused(tmp_path, named):
    reader = import_target(FILE, "dataset")()
    with pytest.raises(BadInput, match="does not exist; 'named' expects a folder with train/visible"):
        read_with(reader, tmp_path / "nowhere")
    (named / "test" / "visible" / "odd.jpg").touch()
    try:
        with pytest.raises(BadInput, match=r"odd\.jpg: the name should be like 0042_c3_0007\.jpg"):
            read_with(reader, named)
    finally:
        (named / "test" / "visible" / "odd.jpg").unlink()

    class Sysu(type(reader)):
        name = "sysu"

    class Loose(type(reader)):
        name = "loose"

    with pytest.raises(BadInput, match="'sysu' is vbench's own"):
        read_with(Sysu(), named)
    with pytest.raises(BadInput, match="protocol id 'named/ir2vis' must start with 'loose/'"):
        read_with(Loose(), named)
