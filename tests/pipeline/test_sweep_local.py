"""Sweeps on local processes as a user meets them: numbers, failures, and processes that are killed."""

from __future__ import annotations

import json
import os
import signal

import pytest
from sweep_world import World, build_world, forked_workers, gone  # noqa: F401

from vbench.records.store import RunStore
from vbench.run.builtin import threads
from vbench.sweep.state import States

UAP = "uap[evaluations=96,batch=12]"


pytestmark = pytest.mark.usefixtures("forked_workers")


@pytest.fixture
def world(tmp_path) -> World:
    return build_world(tmp_path)


def results(runs):
    """What must not depend on who did a run, by record id."""
    contents = RunStore(runs).read_all()
    assert not contents.broken
    kept = ("label", "clean", "adversarial", "size", "per_query", "controls", "drop_interval", "warnings")
    return {
        record.id: [getattr(record, field) for field in kept] + [record.fit_log.get("loss"), record.config]
        for record in contents.records
    }


@pytest.mark.slow
def test_workers_do_what_vbench_run_does_and_do_it_once(world, vbench, tmp_path):
    runs, alone = tmp_path / "runs", tmp_path / "alone"
    attacks = ["noise", "metric_ifgsm[steps=2]", UAP]
    suite = world.suite(
        f"attacks: {json.dumps(attacks)}\nside: [query, gallery]\nresources: {{jobs: 2, cpus: 1}}\n"
    )
    done = vbench("sweep", suite, "--runs", runs)
    assert "6 runs: 6 done (6 of them now)" in done.stdout
    assert done.stderr.count("done in") == 6 and "[6/6]" in done.stderr
    given = [
        "--dataset",
        "sysu",
        "--root",
        world.folder / "data",
        "--weights",
        world.folder / "agw.safetensors",
    ]
    given += [part for attack in attacks for part in ("--attack", attack)]
    with threads(1):
        for side in ("query", "gallery"):
            common = ["--victim", "agw", "--runs", alone, "--ignore-gates", "--quiet", "--side", side]
            vbench("run", *given, *common)
    assert results(runs) == results(alone)
    learnt = {path.name: path.read_bytes() for path in (alone / "perturbations").iterdir()}
    assert {path.name for path in (runs / "perturbations").iterdir()} == set(learnt)
    (uap_query, uap_gallery) = (r for r in RunStore(runs).read_all().records if r.universal)
    assert uap_query.cost["fit_seconds"] == uap_gallery.cost["fit_seconds"], "learnt once, for both sides"

    states = States.of(runs, "suite")
    logs = {path: path.stat().st_mtime_ns for path in (states.folder / "logs").iterdir()}
    assert len(logs) == 2
    assert "6 runs: 6 done\n" in vbench("sweep", "run", suite, "--runs", runs).stdout
    assert logs == {path: path.stat().st_mtime_ns for path in logs}, "nothing to do starts no worker"
    assert "6 runs: 6 done; nothing left" in vbench("status", suite, "--runs", runs).stdout
    (told,) = json.loads(vbench("status", "--runs", runs, "--format", "json").stdout)
    assert told["counts"]["done"] == 6 and {task["record"] for task in told["tasks"]} == set(results(runs))
    assert all(states.get(task["key"]).memory > 50 * 2**20 for task in told["tasks"])


@pytest.mark.slow
def test_shards_together_do_everything_and_a_bad_attack_fails_alone(world, vbench, tmp_path):
    runs = tmp_path / "runs"
    suite = world.suite("attacks: [noise, './odd.py:Bad']\nseeds: [0, 1]\nresources: {jobs: 1, retries: 0}\n")
    first = vbench("sweep", suite, "--allow-code", "--shard", "1/2", "--runs", runs, "--quiet")
    assert "2 runs: 2 done (2 of them now)" in first.stdout and first.stderr == ""
    assert "2 done, 2 to do" in vbench("status", suite, "--runs", runs).stdout
    second = vbench("sweep", suite, "--allow-code", "--shard", "2/2", "--runs", runs, expect=1)
    assert "2 runs: 0 done, 2 failed" in second.stdout
    assert "attack 'bad' yields non-finite" in " ".join(second.stdout.split())
    assert second.stderr.count("FAILED") == 2
    assert len(RunStore(runs).read_all().records) == 2
    kept = vbench("sweep", suite, "--allow-code", "--keep-failed", "--runs", runs, expect=1)
    assert "4 runs: 2 done, 2 failed" in kept.stdout and kept.stderr == "", "no worker was started"
    status = vbench("status", suite, "--runs", runs).stdout
    assert "2 done, 2 failed; nothing left" in status and "yields non-finite" in " ".join(status.split())


def test_a_killed_worker_costs_its_run_and_a_rerun_completes_the_sweep(world, vbench, tmp_path):
    runs = tmp_path / "runs"
    suite = world.suite(
        "attacks: ['./odd.py:Waits', noise]\nseeds: [0, 1]\nexclude: {attack: './odd.py:Waits', seed: 1}\n"
        "resources: {jobs: 2, retries: 0}\n"
    )
    sweep = world.start("sweep", suite, "--allow-code", "--runs", runs, forks=True)
    pid = world.waiting(sweep)
    running = vbench("status", suite, "--runs", runs).stdout
    assert "Waits" in running and f"pid {pid}" in running
    os.kill(pid, signal.SIGKILL)
    out, err = sweep.communicate(timeout=240)
    assert sweep.returncode == 1, err
    assert "3 runs: 2 done (2 of them now), 1 failed" in out and "SIGKILL" in out
    assert len(results(runs)) == 2
    world.let_go()
    assert "3 runs: 3 done (1 of them now)" in vbench("sweep", suite, "--allow-code", "--runs", runs).stdout
    assert len(results(runs)) == 3
    assert "3 done; nothing left" in vbench("status", suite, "--runs", runs).stdout


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, "interrupted"),
        (signal.SIGKILL, "running"),
    ],
)
@pytest.mark.slow
def test_killing_the_one_in_charge_ends_its_workers_and_loses_nothing(
    world, vbench, tmp_path, number, status
):
    runs = tmp_path / "runs"
    suite = world.suite("attacks: [noise, './odd.py:Waits']\nresources: {jobs: 1}\n")
    states = States.of(runs, "suite")
    sweep = world.start("sweep", suite, "--allow-code", "--runs", runs)
    pid = world.waiting(sweep)
    sweep.send_signal(number)
    _, err = sweep.communicate(timeout=60)
    assert sweep.returncode in (130, -signal.SIGKILL) and "Traceback" not in err
    assert gone(pid), "its worker goes with it"
    (left,) = [
        state.status
        for path in states.folder.glob("*.json")
        if (state := states.get(path.stem)) and state.status != "done"
    ]
    assert left == status
    assert "1 done, 1 interrupted" in vbench("status", suite, "--runs", runs).stdout
    assert len(results(runs)) == 1
    world.let_go()
    assert "2 runs: 2 done (1 of them now)" in vbench("sweep", suite, "--allow-code", "--runs", runs).stdout
    assert len(results(runs)) == 2
