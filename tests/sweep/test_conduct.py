"""A sweep from end to end over a pool that pretends: what is prepared first, and what is told at the end."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest
from fake_pool import FakePool

from vbench.data.synthetic import write_dataset
from vbench.records.spec import RunSpec
from vbench.records.store import RunStore
from vbench.sweep import check
from vbench.sweep.check import Inputs
from vbench.sweep.engine import Failed, Prepare
from vbench.sweep.read import read_suite
from vbench.sweep.schedule import Wishes, conduct, summary, terminable
from vbench.sweep.tasks import tasks_of

SUITE = """\
victims: [agw, 'agw[embedding=pooled]', ddag]
attacks: [noise, uap]
surrogates: [none, agw]
"""


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """The root of a small synthetic set, and an empty cache."""
    monkeypatch.setenv("VBENCH_CACHE", str(tmp_path / "cache"))
    return write_dataset("sysu", tmp_path / "data", ids=3, seed=0, size=(32, 16), test_ids=2, quiet=True)


def suite(tmp_path, more=""):
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE + more)
    file = read_suite(path)
    return file, tasks_of(file)


def run(tmp_path, file, tasks, script=lambda job: None, **wishes):
    pool = FakePool(tmp_path / "runs", script=script)
    made = []

    def make(count, folder):
        made.append(count)
        return pool

    result = conduct(file, tasks, tasks, Wishes(tmp_path / "runs", quiet=True, **wishes), make)
    return result, pool, made


REAL = "datasets: {name: sysu, root: data, size: 32x16}\n"


def test_a_thin_victim_is_trained_once_for_all_that_wait_for_it(drawn, tmp_path):
    file, tasks = suite(tmp_path, REAL)
    result, pool, made = run(tmp_path, file, tasks)
    jobs = [job for _, job in pool.begun]
    assert [job.model.victim for job in jobs[:2]] == ["agw", "ddag"]
    assert all(isinstance(job, RunSpec) for job in jobs[2:]), "training ends before the first run"
    assert result.complete and len(result.done) == 12 and made == [12]
    again, idle, made = run(tmp_path, file, tasks)
    assert again.complete and len(again.found) == 12 and made == [] and idle.begun == []


def test_a_victim_that_cannot_be_trained_fails_what_needs_it(drawn, tmp_path):
    file, tasks = suite(tmp_path, REAL)

    def script(job):
        trains = isinstance(job, Prepare) and job.model.victim == "ddag"
        return Failed("no room left") if trains else None

    result, _, _ = run(tmp_path, file, tasks, script)
    assert {task.group.victim.victim for task in result.failed} == {"ddag"}
    assert len(result.failed) == 4 and len(result.done) == 8
    text = summary(result, tmp_path / "runs")
    assert "12 runs: 8 done (8 of them now), 4 failed" in text and text.count("no room left") == 4
    assert "surrogate" in text and "protocol" not in text, "columns that differ, and no others"


def test_preparing_stops_before_the_first_task(drawn, tmp_path):
    file, tasks = suite(tmp_path, REAL)
    result, pool, _ = run(tmp_path, file, tasks, only_prepare=True)
    assert {type(job) for _, job in pool.begun} == {Prepare}
    assert not result.done and not result.failed
    text = summary(result, tmp_path / "runs", only_prepared=True)
    assert text.splitlines() == ["12 runs: 0 done, 12 to do", "data and thin victims are ready"]


def test_a_synthetic_set_is_drawn_once_for_all_its_protocols(tmp_path, monkeypatch):
    monkeypatch.setenv("VBENCH_CACHE", str(tmp_path / "cache"))
    protocols = "[sysu/all/single/ir2vis/seed10, sysu/indoor/single/ir2vis/seed10]"
    more = f"datasets:\n  - {{protocols: {protocols}}}\n  - {{label: big, size: 96x48}}\n"
    file, tasks = suite(tmp_path, more)
    result, pool, _ = run(
        tmp_path, file, tasks, lambda job: Failed("full") if isinstance(job, Prepare) else None
    )
    drawn = [job.data for _, job in pool.begun]
    assert [(data.layout, data.size) for data in drawn] == [("sysu", None), ("sysu", (96, 48))]
    assert len(result.failed) == len(tasks) == 36, "nothing can be opened without it"


def test_names_of_records_follow_weights_data_and_version(drawn, tmp_path, monkeypatch):
    (tmp_path / "w.t").write_bytes(b"one")
    suite(tmp_path, REAL)
    text = (tmp_path / "suite.yaml").read_text().replace("ddag]", "{name: ddag, weights: w.t}]")
    (tmp_path / "suite.yaml").write_text(text)
    tasks = tasks_of(read_suite(tmp_path / "suite.yaml"))
    thin, stored = tasks[0], next(task for task in tasks if task.group.victim.weights)

    def names():
        found = Inputs()
        return found.identity(thin), found.identity(stored)

    before = names()
    assert before == names() and None not in before
    (tmp_path / "w.t").write_bytes(b"two")
    assert names()[0] == before[0] and names()[1] != before[1]
    (tmp_path / "w.t").unlink()
    assert names() == (before[0], None), "its worker will say what is wrong"
    with monkeypatch.context() as later:
        later.setattr(check, "__version__", "99")
        assert names()[0] != before[0]
    next((drawn / "cam3").rglob("*.jpg")).unlink()
    assert Inputs().identity(thin) != before[0]


def test_a_list_holds_what_shares_a_fit_and_a_group_what_shares_a_victim(drawn, tmp_path):
    suite(tmp_path)
    (tmp_path / "suite.yaml").write_text(
        "victims: [agw, ddag]\nattacks: [uap, pgd, 'pgd[steps=30]', 'pgd[steps=5]', ensemble]\n"
        "side: [query, gallery]\ndatasets: {name: sysu, root: data, size: 32x16, protocols: "
        "[sysu/all/single/ir2vis/seed10, sysu/indoor/single/ir2vis/seed10]}\n"
    )
    groups = Inputs().grouped(tasks_of(read_suite(tmp_path / "suite.yaml")))
    assert [group.victim.victim for group in groups] == ["agw", "ddag"], "of both protocols"
    for lists in groups.values():
        assert sum(len(tasks) for tasks in lists) == 20
        sizes = {one[0].attack_text: len(one) for one in lists}
        assert sizes == {"uap": 4, "pgd": 2, "pgd[steps=5]": 1, "ensemble": 4}
        assert [len(one) for one in lists].count(2) == 4, "one attack in two ways, by side and protocol"


def test_sigterm_is_taken_as_ctrl_c_and_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_records_of_a_pool_on_other_disks_are_written_by_the_driver(drawn, tmp_path):
    file, tasks = suite(tmp_path, REAL)
    far = tmp_path / "far"
    pool = FakePool(far)
    usual = pool.usual

    def with_files(job):
        done = usual(job)
        files = {path.name: path.read_bytes() for path in far.glob(f"*-{done.record}.json")}
        return replace(done, files={**files, "perturbations/uap-x.safetensors": b"learnt"})

    pool.usual = with_files
    result = conduct(file, tasks, tasks, Wishes(tmp_path / "runs", quiet=True), lambda count, folder: pool)
    assert result.complete
    assert len(RunStore(tmp_path / "runs").read_all().records) == 12
    assert (tmp_path / "runs" / "perturbations" / "uap-x.safetensors").read_bytes() == b"learnt"
