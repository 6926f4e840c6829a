"""Which job is next, what a failure costs, and what the books say afterwards."""

from __future__ import annotations

import os

import pytest
from fake_pool import FakePool, record, task

from vbench.core.progress import Display
from vbench.records.spec import ModelSpec
from vbench.records.store import RunStore
from vbench.sweep.engine import Died, Failed, Prepare
from vbench.sweep.schedule import Scheduler
from vbench.sweep.state import Ledger, States, TaskState
from vbench.sweep.tasks import Durations


class Sweep:
    """A ledger and what it takes to run a scheduler over it."""

    def __init__(self, runs, identify=lambda one: "same"):
        self.states, self.store = States.of(runs, "test"), RunStore(runs)
        self.ledger = Ledger(self.states, self.store, identify)

    def run(self, tasks, pool, retries=1, retry_failed=True):
        pending = self.ledger.sort(tasks, retry_failed)
        display = Display(pending, pool.width, Durations(), quiet=True)
        Scheduler(pool, self.ledger, display, retries).work(lists(pending))
        return self.ledger


def lists(tasks):
    """Tasks by group; those of "uap" with one seed learn the same."""
    found = {}
    for one in tasks:
        fit = ("uap", one.seed) if one.attack == "uap" else one.key
        found.setdefault(one.group, {}).setdefault(fit, []).append(one)
    return {group: list(fits.values()) for group, fits in found.items()}


def statuses(sweep, tasks):
    return [sweep.states.get(one.key).status for one in tasks]


def test_a_worker_stays_with_a_group_and_every_task_is_done_once(tmp_path):
    tasks = [task(victim, attack, seed) for victim in "ab" for attack in ("x", "y") for seed in (0, 1)]
    pool = FakePool(tmp_path)
    ledger = Sweep(tmp_path).run(tasks, pool)
    assert sorted(one.key for one in pool.tasks_begun) == sorted(one.key for one in tasks)
    assert set(ledger.done) == set(tasks) and pool.most_at_once == 2
    for number in (0, 1):
        victims = [job.group.victim.victim for worker, job in pool.begun if worker == number]
        assert victims == sorted(victims, reverse=victims[0] == "b")


def test_one_group_is_shared_by_all_workers(tmp_path):
    pool = FakePool(tmp_path)
    Sweep(tmp_path).run([task(seed=seed) for seed in range(6)], pool)
    assert {number for number, _ in pool.begun} == {0, 1}


def test_what_is_stored_is_not_done_again_and_needs_no_worker(tmp_path):
    tasks = [task(seed=seed) for seed in range(3)]
    Sweep(tmp_path).run(tasks, FakePool(tmp_path))
    again = Sweep(tmp_path)
    assert again.ledger.sort(tasks, True) == []
    assert len(again.ledger.found) == 3
    next(tmp_path.glob(f"*-{record(tasks[1].key).id}.json")).write_text('{"torn')
    pool, third = FakePool(tmp_path), Sweep(tmp_path)
    third.run(tasks, pool)
    assert pool.tasks_begun == [tasks[1]], "a record that cannot be read is none"


def test_other_weights_or_data_make_another_task_of_the_same_name(tmp_path):
    tasks = [task(seed=seed) for seed in range(2)]
    Sweep(tmp_path).run(tasks, FakePool(tmp_path))
    assert Sweep(tmp_path, lambda one: "other").ledger.sort(tasks, True) == tasks
    assert Sweep(tmp_path, lambda one: None).ledger.sort(tasks, True) == tasks


def test_records_of_vbench_run_are_found_by_the_worker(tmp_path):
    tasks = [task(seed=seed) for seed in range(3)]
    RunStore(tmp_path).write(record(tasks[0].key))
    sweep = Sweep(tmp_path)
    ledger = sweep.run(tasks, FakePool(tmp_path))
    assert set(ledger.found) == {tasks[0]} and set(ledger.done) == set(tasks[1:])
    assert sweep.states.get(tasks[0].key).seconds == 5.0
    assert Sweep(tmp_path).ledger.sort(tasks, True) == [], "from now on without a worker"


def test_tasks_that_learn_the_same_are_left_to_one_worker(tmp_path):
    sides = [task(attack="uap", side=side, seed=seed) for side in ("query", "gallery") for seed in (0, 1)]
    others = [task(attack="pgd", seed=seed) for seed in range(4)]
    pool = FakePool(tmp_path, width=2)
    Sweep(tmp_path).run([*sides, *others], pool)
    by_seed = {}
    for number, job in pool.begun:
        if job.attack == "uap":
            by_seed.setdefault(job.seed, []).append((number, job.side))
    assert by_seed == {0: [(0, "query"), (0, "gallery")], 1: [(1, "query"), (1, "gallery")]}
    assert pool.most_at_once == 2 and len(pool.begun) == 8


def test_a_failing_task_stops_nothing_and_its_reason_is_kept(tmp_path):
    tasks = [task(seed=seed) for seed in range(4)]

    def script(job):
        if job.seed == 1:
            return Failed("attack 'pgd' yields non-finite pixels")
        if job.seed == 2:
            return Failed("RuntimeError: CUDA error", sound=False)
        return None

    pool, sweep = FakePool(tmp_path, script=script), Sweep(tmp_path)
    ledger = sweep.run(tasks, pool)
    assert statuses(sweep, tasks) == ["done", "failed", "failed", "done"]
    assert ledger.failed[tasks[1]] == "attack 'pgd' yields non-finite pixels"
    assert len(pool.tasks_begun) == 4, "a failure is not retried at once"
    assert pool.renewed == 1, "only the worker that may be broken is replaced"
    kept = Sweep(tmp_path)
    assert kept.ledger.sort(tasks, retry_failed=False) == []
    assert set(kept.ledger.failed) == {tasks[1], tasks[2]}
    assert Sweep(tmp_path).ledger.sort(tasks, retry_failed=True) == [tasks[1], tasks[2]]


@pytest.mark.parametrize(("deaths", "retries", "end"), [(1, 1, "done"), (2, 1, "failed"), (1, 0, "failed")])
def test_a_worker_that_dies_costs_its_task_one_try(tmp_path, deaths, retries, end):
    tasks, left = [task(seed=seed) for seed in range(3)], [deaths]

    def script(job):
        if job.seed == 1 and left[0]:
            left[0] -= 1
            return Died("its worker was ended by SIGKILL")
        return None

    pool, sweep = FakePool(tmp_path, script=script), Sweep(tmp_path)
    sweep.run(tasks, pool, retries=retries)
    assert statuses(sweep, tasks) == ["done", end, "done"]
    assert pool.tasks_begun.count(tasks[1]) == min(deaths, retries) + 1


def test_tasks_after_one_that_killed_its_worker_are_done(tmp_path):
    tasks, left = [task(attack="uap", side=side) for side in ("query", "gallery", "both")], [1]

    def script(job):
        if job.side == "gallery" and left[0]:
            left[0] -= 1
            return Died("its worker was ended by SIGKILL")
        return None

    pool = FakePool(tmp_path, script=script)
    ledger = Sweep(tmp_path).run(tasks, pool)
    assert set(ledger.done) == set(tasks)
    assert [job.side for job in pool.tasks_begun] == ["query", "gallery", "gallery", "both"]


def test_what_another_process_is_at_is_left_to_it(tmp_path):
    tasks = [task(seed=seed) for seed in range(3)]
    sweep = Sweep(tmp_path)
    other = TaskState(status="running", host="elsewhere", driver=1)
    sweep.states.put(tasks[0].key, other)

    def script(job):
        # While the second is done here, somebody elsewhere begins the third.
        sweep.states.put(tasks[2].key, other)

    pool = FakePool(tmp_path, width=1, script=script)
    ledger = sweep.run(tasks, pool)
    assert pool.tasks_begun == [tasks[1]]
    assert ledger.elsewhere == {tasks[0], tasks[2]} and set(ledger.done) == {tasks[1]}
    sweep.store.write(record(tasks[0].key))
    sweep.states.put(tasks[2].key, other.model_copy(update={"status": "interrupted"}))
    assert sweep.ledger.sort(list(ledger.elsewhere), True) == [tasks[2]]
    assert ledger.elsewhere == {tasks[0]}, "its process still says that it runs"


def test_an_interruption_leaves_nothing_running(tmp_path):
    tasks = [task(seed=seed) for seed in range(4)]

    def script(job):
        if job.seed == 1:
            raise KeyboardInterrupt
        return None

    sweep = Sweep(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        sweep.run(tasks, FakePool(tmp_path, script=script))
    running = [one for one in tasks if (state := sweep.states.get(one.key)) and state.status == "running"]
    assert len(running) == 2 and sweep.states.get(tasks[1].key).driver == os.getpid()
    sweep.ledger.release()
    assert {sweep.states.get(one.key).status for one in running} == {"interrupted"}
    assert Sweep(tmp_path).ledger.sort(tasks, False) == tasks[1:]


def test_preparations_are_retried_when_a_worker_dies_and_reported_when_they_fail(tmp_path):
    data = task().group.data
    jobs = [Prepare(data, ModelSpec(name)) for name in "abc"]
    seen = []

    def script(job):
        seen.append(job.model.victim)
        if job.model.victim == "a" and seen.count("a") == 1:
            return Died("killed")
        return Failed("no thin variant") if job.model.victim == "b" else None

    pool, sweep = FakePool(tmp_path, script=script), Sweep(tmp_path)
    scheduler = Scheduler(pool, sweep.ledger, Display([], 1, Durations(), quiet=True), retries=1)
    assert scheduler.prepare(jobs) == {jobs[1]: "no thin variant"}
    assert sorted(seen) == ["a", "a", "b", "c"]
