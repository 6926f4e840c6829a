"""Disks that are full and folders that may not be written to: one line, and the same command works later."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.conftest import facts, run_arguments, stored, train_arguments
from sweep_world import build_world

NOISE = ("--attack", "noise", "--keep", "embeddings")


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder that may be read and not written to."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a tmpfs of a size, or makes the one that is mounted larger."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size: str) -> Path:
        options = f"size={size},remount" if folder.is_mount() else f"size={size}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"a tmpfs of its own needs root and the right to mount: {error}")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


# A few bytes of a record, of decoded images, and of embeddings that are kept.
@pytest.mark.parametrize("most", [pytest.param(600, marks=pytest.mark.slow), 6_000, 40_000])
def test_a_disk_that_fills_up_costs_nothing_but_the_run(quick, forked, tmp_path, most):
    runs, cache = tmp_path / "runs", {"VBENCH_CACHE": str(tmp_path / "cache")}
    given = run_arguments(quick, runs, *NOISE)
    end = forked(*given, most_bytes=most, environment=cache)
    assert end.code == 1 and "File too large" in end.line and str(tmp_path) in end.line
    assert not facts(runs)
    assert not [name for name in stored(tmp_path) if ".part" in name or Path(name).name.startswith(".")]
    assert forked(*given, environment=cache).code == 0
    assert len(facts(runs)) == 1


def test_a_disk_that_fills_up_during_training_is_one_line(people, forked, tmp_path):
    out = tmp_path / "weights" / "agw.safetensors"
    end = forked(*train_arguments(people, out), most_bytes=60_000)
    assert end.code == 1 and f"cannot write {out}.partial: File too large" in end.line
    assert stored(out.parent) == []


def test_a_full_standard_output_is_one_line(quick, forked, tmp_path):
    end = forked(*run_arguments(quick, tmp_path / "runs", *NOISE), stdout="/dev/full")
    assert end.code == 1 and "No space left on device; free some space" in end.line
    assert len(facts(tmp_path / "runs")) == 1


def test_a_read_only_folder_is_told_before_the_work(quick, people, forked, locked, tmp_path):
    refused = "Permission denied; give a folder that you may write to"
    # An attack that would take hours.
    attack = ("--attack", "metric_ifgsm[steps=1000000]")
    end = forked(*run_arguments(quick, locked / "runs", *attack), plain=True)
    assert end.code == 2 and f"cannot write to {locked / 'runs'}: {refused}" in end.line
    end = forked(*train_arguments(people, locked / "agw.safetensors", epochs=10_000), plain=True)
    assert end.code == 2 and f"cannot write to {locked}: {refused}" in end.line
    cache = {"VBENCH_CACHE": str(locked / "cache")}
    end = forked(*run_arguments(quick, tmp_path / "runs", *attack), plain=True, environment=cache)
    assert end.code == 1 and str(locked / "cache") in end.line and refused in end.line
    end = forked("run", "--attack", "noise", "--victim", "agw", plain=True, environment=cache)
    assert end.code == 2 and str(locked / "cache") in end.line and refused in end.line
    # Told before records are read: there are none.
    for made, target in (
        (("report", "--out", locked / "new" / "table.md"), locked / "new"),
        (("report", "--format", "html", "--published", "--out", locked / "page.html"), locked),
        (("figure", "cmc", "--out", locked / "cmc.pdf"), locked),
        (("leaderboard", tmp_path, "--out", locked / "site"), locked / "site"),
        (("data", "synth", "--layout", "sysu", "--ids", "4", "--out", locked / "set"), locked),
    ):
        end = forked(*made, plain=True)
        assert end.code == 2 and f"cannot write to {target}: {refused}" in end.line
    assert not list(locked.iterdir())


def test_a_sweep_into_a_read_only_folder_is_one_line(forked, locked, tmp_path):
    suite = build_world(tmp_path).suite("attacks: [noise]\nresources: {jobs: 1}\n")
    end = forked("sweep", suite, "--runs", locked, plain=True)
    assert (
        end.code == 2
        and f"cannot write to {locked}: Permission" in end.line
        and "give a folder that you may write to" in end.line
    )


@pytest.mark.slow
@pytest.mark.parametrize("size", ["4k", "12k", "64k"])
def test_run_on_a_small_tmpfs(quick, forked, disk, size):
    folder = disk(size)
    runs, cache = folder / "runs", {"VBENCH_CACHE": str(folder / "cache")}
    given = run_arguments(quick, runs, *NOISE)
    end = forked(*given, environment=cache)
    assert end.code == 1 and "No space left on device; free some space" in end.line
    assert not facts(runs)
    assert not [name for name in stored(folder) if ".part" in name or Path(name).name.startswith(".")]
    disk("50m")
    assert forked(*given, environment=cache).code == 0
    assert len(facts(runs)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("size", ["64k", "2m"])
def test_train_on_a_small_tmpfs(people, forked, disk, size):
    out = disk(size) / "agw.safetensors"
    end = forked(*train_arguments(people, out))
    assert end.code == 1 and "No space left on device; free some space" in end.line
    assert not out.exists()
    disk("50m")
    assert forked(*train_arguments(people, out)).code == 0
    assert {path.suffix for path in out.parent.iterdir()} == {".safetensors", ".json", ".csv"}


@pytest.mark.slow
@pytest.mark.parametrize("size", ["8k", "16k"])
def test_sweep_on_a_small_tmpfs(disk, tmp_path, size):
    world = build_world(tmp_path)
    suite = world.suite("attacks: [noise, fgsm]\nresources: {jobs: 1, retries: 0}\n")
    runs = disk(size) / "runs"
    sweep = world.start("sweep", suite, "--runs", runs)
    out, err = sweep.communicate(timeout=300)
    assert sweep.returncode == 1 and "Traceback" not in err
    assert "No space left on device" in " ".join((out + err).split())
    facts(runs)
    disk("50m")
    sweep = world.start("sweep", suite, "--runs", runs)
    assert (sweep.communicate(timeout=300), sweep.returncode)[1] == 0
    assert len(facts(runs)) == 2
