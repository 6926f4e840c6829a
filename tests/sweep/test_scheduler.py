"""Which job is next, what a failure costs, and what the books say afterwards."""

from __future__ import annotations

import os

import pytest
from fake_pool import FakePool, record, task

from vbench.core.progress import Display
from vbench.records.spec import ModelSpec
from vbench.records.store import RunStore
from vbench.sweep.engine import Died, Do, Failed, Open, Opened, Train
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
        Scheduler(pool, self.ledger, display, retries).work(pending)
        return self.ledger


def statuses(sweep, tasks):
    return [sweep.states.get(one.key).status for one in tasks]


def test_every_group_is_opened_once_and_every_task_done_once(tmp_path):
    tasks = [task(victim, attack, seed) for victim in "ab" for attack in ("x", "y") for seed in (0, 1)]
    pool = FakePool(tmp_path)
    ledger = Sweep(tmp_path).run(tasks, pool)
    assert len([job for _, job in pool.begun if isinstance(job, Open)]) == 2
    assert sorted(one.key for one in pool.tasks_begun) == sorted(one.key for one in tasks)
    assert set(ledger.done) == set(tasks) and pool.most_at_once == 2
    for number in (0, 1):
        victims = [j.task.group.victim.victim for n, j in pool.begun if n == number and isinstance(j, Do)]
        assert victims == sorted(victims, reverse=victims[0] == "b"), (
            "a worker stays with the group it opened"
        )


def test_one_group_is_shared_by_all_workers(tmp_path):
    pool = FakePool(tmp_path)
    Sweep(tmp_path).run([task(seed=seed) for seed in range(6)], pool)
    assert {number for number, job in pool.begun if isinstance(job, Do)} == {0, 1}


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


def test_records_of_vbench_run_are_found_when_the_victim_is_open(tmp_path):
    tasks = [task(seed=seed) for seed in range(3)]
    RunStore(tmp_path).write(record(tasks[0].key))
    pool, sweep = FakePool(tmp_path), Sweep(tmp_path)
    sweep.run(tasks, pool)
    assert pool.tasks_begun == tasks[1:]
    assert set(sweep.ledger.found) == {tasks[0]}
    assert sweep.states.get(tasks[0].key).seconds == 5.0, "fitting and attacking, as the record says"


def test_the_same_run_in_other_words_is_done_once(tmp_path):
    tasks = [task(attack="pgd"), task(attack="also_pgd"), task(attack="noise")]
    pool, sweep = FakePool(tmp_path, width=3), Sweep(tmp_path)
    ledger = sweep.run(tasks, pool)
    assert len(pool.tasks_begun) == 2
    assert {*ledger.done, *ledger.found} == set(tasks) and not ledger.failed
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_what_one_task_learns_the_next_takes_over(tmp_path):
    sides = [task(attack="uap", side=side, seed=seed) for side in ("query", "gallery") for seed in (0, 1)]
    others = [task(attack="pgd", seed=seed) for seed in range(2)]
    pool = FakePool(tmp_path, width=2)
    Sweep(tmp_path).run([*sides, *others], pool)
    jobs = [job for _, job in pool.begun if isinstance(job, Do)]
    learners = [job for job in jobs if job.task.attack == "uap" and not job.learnt]
    takers = [job for job in jobs if job.learnt]
    assert [job.task.side for job in learners] == ["query", "query"]
    assert {(job.task.side, *job.learnt) for job in takers} == {
        ("gallery", "fit-agw-0"),
        ("gallery", "fit-agw-1"),
    }
    again = Sweep(tmp_path)
    again.ledger.sort([*sides, *others], True)
    assert set(again.ledger.learnt) == {"fit-agw-0", "fit-agw-1"}, "also in another process"


def test_a_learnt_file_outside_the_folder_of_runs_is_not_read(tmp_path):
    (tmp_path / "secret").write_text("x")
    sweep = Sweep(tmp_path / "runs")
    fits = {"a": "../secret", "b": str(tmp_path / "secret"), "c": "perturbations/none.safetensors"}
    sweep.states.put(task().key, TaskState(status="done", fits=fits))
    sweep.ledger.sort([task()], True)
    assert sweep.ledger.learnt == {}


def test_a_failing_task_stops_nothing_and_its_reason_is_kept(tmp_path):
    tasks = [task(seed=seed) for seed in range(4)]

    def script(job):
        if isinstance(job, Do) and job.task.seed == 1:
            return Failed("attack 'pgd' yields non-finite pixels")
        if isinstance(job, Do) and job.task.seed == 2:
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
        if isinstance(job, Do) and job.task.seed == 1 and left[0]:
            left[0] -= 1
            return Died("its worker was ended by SIGKILL")
        return None

    pool, sweep = FakePool(tmp_path, script=script), Sweep(tmp_path)
    sweep.run(tasks, pool, retries=retries)
    assert statuses(sweep, tasks) == ["done", end, "done"]
    assert pool.tasks_begun.count(tasks[1]) == min(deaths, retries) + 1
    if end == "done":
        assert sweep.states.get(tasks[1].key).attempts == 2


def test_an_engine_that_has_retried_itself_is_believed(tmp_path):
    pool, sweep = FakePool(tmp_path, script=lambda job: Died("gone", final=True)), Sweep(tmp_path)
    sweep.run([task()], pool, retries=5)
    assert len(pool.begun) == 1 and statuses(sweep, [task()]) == ["failed"]


def test_a_group_that_cannot_be_opened_fails_its_tasks_alone(tmp_path):
    good, bad, odd = [task("good")], [task("bad", seed=seed) for seed in range(2)], task("odd")

    def script(job):
        if isinstance(job, Open) and job.group.victim.victim == "bad":
            return Failed("bad.t: damaged")
        if isinstance(job, Open) and job.group.victim.victim == "odd":
            return Opened({odd.key: "attack 'pgd' needs a classifier"})
        return None

    sweep = Sweep(tmp_path)
    ledger = sweep.run([*bad, odd, *good], FakePool(tmp_path, script=script))
    assert set(ledger.done) == set(good)
    assert ledger.failed == {**dict.fromkeys(bad, "bad.t: damaged"), odd: "attack 'pgd' needs a classifier"}


def test_what_another_process_is_at_is_left_to_it(tmp_path):
    tasks = [task(seed=seed) for seed in range(3)]
    sweep = Sweep(tmp_path)
    other = TaskState(status="running", host="elsewhere", driver=1, identity="same", record=tasks[0].key)
    sweep.states.put(tasks[0].key, other)

    def script(job):
        # While the victim is opened here, somebody elsewhere begins the second and ends the third.
        if isinstance(job, Open):
            sweep.states.put(tasks[1].key, other)
            sweep.store.write(record(tasks[2].key))
        return None

    pool = FakePool(tmp_path, script=script)
    ledger = sweep.run(tasks, pool)
    assert pool.tasks_begun == []
    assert set(ledger.elsewhere) == {tasks[0], tasks[1]} and set(ledger.found) == {tasks[2]}


def test_an_interruption_leaves_nothing_running(tmp_path):
    tasks = [task(seed=seed) for seed in range(4)]

    def script(job):
        if isinstance(job, Do) and job.task.seed == 1:
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
    jobs = [Train(data, ModelSpec(name)) for name in "abc"]
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
