"""kill -9 at any moment: nothing is half-written, and one rerun ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from pathlib import Path

import psutil
import pytest
from faults.conftest import facts, run_arguments, stored, train_arguments
from sweep_world import build_world, gone

UAP = ["--attack", "uap[evaluations=24,batch=12]", "--keep", "embeddings"]
TWO = ["--attack", "noise", *UAP]
KILLED = -signal.SIGKILL


def learnt(runs: Path) -> dict[str, bytes]:
    """What stands beside the records, but for the seconds that are in its header."""
    from safetensors.numpy import load_file

    return {
        str(path.relative_to(runs)): {name: array.tobytes() for name, array in load_file(path).items()}
        for path in sorted(runs.rglob("*.safetensors"))
    }


def names(runs: Path) -> list[str]:
    return [name for name in stored(runs) if not Path(name).name.startswith(".")]


def undisturbed(forked, arguments) -> float:
    """Do runs in one go; returns how many seconds that took."""
    done = forked(*arguments)
    assert done.code == 0, done.printed
    return done.seconds


@pytest.fixture(scope="module")
def whole(quick, forked, tmp_path_factory):
    runs = tmp_path_factory.mktemp("undisturbed") / "runs"
    undisturbed(forked, run_arguments(quick, runs, *UAP))
    return runs


@pytest.fixture(scope="module")
def whole_two(quick, forked, tmp_path_factory):
    runs = tmp_path_factory.mktemp("undisturbed") / "runs"
    return runs, undisturbed(forked, run_arguments(quick, runs, *TWO))


def same(runs: Path, whole: Path) -> bool:
    return facts(runs) == facts(whole) and learnt(runs) == learnt(whole) and names(runs) == names(whole)


def killed_at_every_file(quick, forked, runs: Path, whole: Path, where: str) -> None:
    """Every start gets one file further than the one before, so that each is once the one in the making."""
    for number in range(1, 20):
        end = forked(*run_arguments(quick, runs, *UAP), die_at=[where, number])
        assert facts(runs).items() <= facts(whole).items()
        if end.code == 0:
            break
        assert end.code == KILLED, end.printed
    assert number > 3, "embeddings, a perturbation, a record"
    assert same(runs, whole)


def test_a_run_killed_while_it_writes_ends_as_if_it_had_not_been(quick, forked, whole, tmp_path):
    killed_at_every_file(quick, forked, tmp_path / "runs", whole, "half")


@pytest.mark.slow
def test_a_run_killed_after_any_file_ends_as_if_it_had_not_been(quick, forked, whole, tmp_path):
    killed_at_every_file(quick, forked, tmp_path / "runs", whole, "replaced")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(8))
def test_random_kills_of_a_run(quick, forked, whole_two, tmp_path, number):
    whole, seconds = whole_two
    runs, cache = tmp_path / "runs", {"VBENCH_CACHE": str(tmp_path / "cache")}
    given = run_arguments(quick, runs, *TWO)
    moment = random.Random(number).uniform(0, seconds)
    end = forked(*given, kill_after=moment, environment=cache)
    assert end.code in (KILLED, 0)
    assert facts(runs).items() <= facts(whole).items()
    assert forked(*given, environment=cache).code == 0
    assert same(runs, whole)


@pytest.mark.slow
def test_random_kills_of_training(people, forked, tmp_path):
    whole = tmp_path / "whole" / "agw.safetensors"
    done = forked(*train_arguments(people, whole))
    assert done.code == 0, done.printed
    files = {path.name: path.read_bytes() for path in whole.parent.iterdir()}
    assert len(files) == 3
    draw = random.Random(0)
    for number in range(7):
        out = tmp_path / str(number) / "agw.safetensors"
        end = forked(*train_arguments(people, out), kill_after=draw.uniform(0, done.seconds))
        assert end.code in (KILLED, 0)
        assert not out.exists() or out.read_bytes() == files[out.name]
        assert forked(*train_arguments(people, out)).code == 0
        left = {path.name: path.read_bytes() for path in out.parent.iterdir()}
        assert {name: left[name] for name in left if not name.startswith(".")} == files


@pytest.mark.slow
def test_random_kills_of_a_sweep(tmp_path):
    world = build_world(tmp_path)
    suite = world.suite(
        "attacks: [noise, 'metric_ifgsm[steps=2]', 'uap[evaluations=24,batch=12]']\nseeds: [0, 1]\n"
        "resources: {jobs: 2, cpus: 1, retries: 0}\n"
    )
    started = time.monotonic()
    whole = tmp_path / "whole"
    sweep = world.start("sweep", suite, "--runs", whole)
    assert (sweep.communicate(timeout=300), sweep.returncode)[1] == 0
    seconds = time.monotonic() - started
    draw = random.Random(0)
    for number in range(5):
        runs = tmp_path / f"runs{number}"
        sweep = world.start("sweep", suite, "--runs", runs, VBENCH_CACHE=str(tmp_path / f"cache{number}"))
        time.sleep(draw.uniform(0, seconds))
        try:
            family = psutil.Process(sweep.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            family = []
        victim = draw.choice([sweep, *family])
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
        if victim is sweep:
            sweep.communicate(timeout=60)
            assert all(gone(one.pid) for one in family)
        else:
            _, err = sweep.communicate(timeout=300)
            assert sweep.returncode in (0, 1) and "Traceback" not in err, err
        assert facts(runs).items() <= facts(whole).items()
        again = world.start("sweep", suite, "--runs", runs)
        assert (again.communicate(timeout=300), again.returncode)[1] == 0
        assert facts(runs) == facts(whole)
