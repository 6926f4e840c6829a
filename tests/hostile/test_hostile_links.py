"""Links that came with a folder: nothing outside it is written, emptied or removed through one."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from strangers import run

from vbench.attacks.perturbation import Perturbation
from vbench.audit.record import Audit
from vbench.core.errors import VbenchError
from vbench.core.files import lock_of, remove_leftovers, write_atomically
from vbench.data.images import load_or_build
from vbench.records.files import kept_file
from vbench.records.store import RunStore
from vbench.run.session import keep
from vbench.sweep.state import States, TaskState


@pytest.fixture
def outside(tmp_path):
    """A folder with one file, and neither may change."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    yield folder
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    assert (folder / "mine.txt").read_text() == "mine"


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def test_a_record_takes_the_place_of_a_link(outside, runs):
    store, record = RunStore(runs), run()
    store.path(record).symlink_to(outside / "mine.txt")
    assert store.write(record).is_file() and not store.path(record).is_symlink()


def learnt(**facts):
    import torch

    return Perturbation(torch.zeros(3, 4, 4), provenance=facts)


@pytest.mark.parametrize("attack", ["uap", "../../outside/x", "/etc/x", "a\0b", 7, None, "x" * 999])
def test_what_an_attack_learnt_stays_below(outside, runs, attack):
    """The name stands in a file that somebody may have handed over."""
    keep(RunStore(runs), run(), [learnt(attack=attack)])
    (path,) = runs.rglob("*.safetensors")
    assert path.parent == runs / "perturbations"


def test_folders_of_runs_are_no_links(outside, runs):
    record, store = run(), RunStore(runs)
    for name in ("perturbations", "kept", "audits", "sweep"):
        (runs / name).symlink_to(outside)
    facts = {"victim_label": "agw", "protocol": "p", "synthetic": True, "rank1": 0.5, "queries": 1}
    facts |= {"queries_in_protocol": 1, "trials": 1, "checks": [], "environment": {}}
    audit = Audit(id="i", created="", config={"victim": {"name": "agw"}}, **facts)
    states = States.of(runs, "night")
    for write in (
        lambda: keep(store, record, [learnt(attack="uap")]),
        lambda: audit.write(runs),
        lambda: states.put("key", TaskState(status="done")),
        lambda: states.list_tasks(runs / "suite.yaml", [], 1),
    ):
        with pytest.raises(VbenchError, match="is a link"):
            write()


def test_kept_files_stay_below(outside, quick, vbench, runs):
    arguments = ["run", "--victim", "agw", "--weights", quick.weights(), "--dataset", quick.layout]
    arguments += ["--root", quick.root, "--attack", "noise", "--ignore-gates", "--quiet", "--runs", runs]
    (runs / "kept").symlink_to(outside)
    done = vbench(*arguments, "--keep", "images", expect=1)
    assert "is a link" in done.stderr and kept_file(runs, "x", "images").is_relative_to(runs)


def test_runs_themselves_may_be_a_link(tmp_path):
    """A user's own, to a larger disk."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    keep(RunStore(tmp_path / "runs"), run(), [learnt(attack="uap")])
    assert len(list((tmp_path / "disk").rglob("*.*"))) == 2


def test_decoded_images_empty_no_file(outside, tmp_path):
    path = tmp_path / "cache" / "images.npy"
    path.parent.mkdir()
    for link in (path, path.with_suffix(".part")):
        link.symlink_to(outside / "mine.txt")
    rows = [np.zeros((2, 2), np.uint8)] * 3
    assert load_or_build(path, (3, 2, 2), rows, quiet=True).shape == (3, 2, 2)
    assert not path.is_symlink()


def test_a_lock_empties_no_file(outside, tmp_path):
    (tmp_path / "x.lock").symlink_to(outside / "mine.txt")
    with pytest.raises(VbenchError, match="is a link; delete it"):
        lock_of(tmp_path / "x.npy")
    with pytest.raises(VbenchError, match="is a link; delete it"):
        load_or_build(tmp_path / "x.npy", (1, 2), [], quiet=True)


def test_what_killed_processes_left_is_removed_after_a_day(outside, runs):
    write_atomically(runs / "agw-noise-0123456789ab.json", "{}")
    ours = ".agw-noise-0123456789ab.json.a1b2c3d4"
    fresh = ".agw-noise-0123456789ab.json.e5f6g7h8"
    kept = (".hidden", ".a.json", ".notes.txt.a1b2c3d4", ".a.json.A1B2C3D4", "a.json.a1b2c3d4")
    for name in (ours, fresh, *kept):
        (runs / name).write_text("{")
    (runs / ".link.json.a1b2c3d4").symlink_to(outside / "mine.txt")
    (runs / ".folder.json.a1b2c3d4").mkdir()
    assert not RunStore(runs).read_all().records and len(RunStore(runs).read_all().broken) == 2
    long_ago = time.time() - 2 * 24 * 3600
    for path in runs.iterdir():
        if path.name != fresh:
            os.utime(path, (long_ago, long_ago), follow_symlinks=False)
    remove_leftovers(runs)
    names = {path.name for path in runs.iterdir()}
    assert names == {fresh, *kept, ".folder.json.a1b2c3d4", "agw-noise-0123456789ab.json"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attack": "\x1b[2J"}, "was learnt by"),
        ({"attack": ["uap"]}, "was learnt by"),
        ({"attack": "uap"}, "does not say with which settings"),
        ({"attack": "uap", "settings": []}, "does not say with which settings"),
        ({"attack": "uap", "settings": {"__class__": 1}}, "unknown parameter"),
        ({"attack": "uap", "settings": {"batch": "x"}}, "batch"),
    ],
)
def test_a_perturbation_is_data(refused, quick, tmp_path, change, words):
    path = tmp_path / "learnt.safetensors"
    learnt(**change).save(path)
    arguments = ["run", "--victim", "agw", "--weights", quick.weights(), "--dataset", quick.layout]
    arguments += ["--root", quick.root, "--attack", "uap", "--ignore-gates", "--quiet"]
    assert words in refused(*arguments, "--runs", tmp_path / "runs", "--perturbation", path)
