"""How a machine is split among workers, and when a task does not fit."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vbench.core.errors import BadInput
from vbench.sweep import local
from vbench.sweep.local import RESERVE, WORKER, LocalPool, Slot, shares
from vbench.sweep.suite import Resources

GIB = 1024**3


@pytest.fixture
def cores(monkeypatch):
    monkeypatch.setattr(local, "core_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.fixture
def gpus(monkeypatch):
    monkeypatch.setattr(local, "visible_gpus", lambda: ["0", "1", "2", "3"])


def split(jobs=None, device="auto", tasks=100, **resources):
    found = shares(Resources(**resources), jobs, device, tasks)
    return found.jobs, found.threads, found.gpus


def test_cores_are_split_evenly_and_no_worker_is_idle(cores, monkeypatch):
    assert split(device="cpu") == (8, 1, [])
    assert split(jobs=3, device="cpu") == (3, 2, [])
    assert split(device="cpu", jobs=2, tasks=1) == (1, 8, [])
    assert split(device="cpu", cpus=4) == (2, 4, [])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert split(jobs=2, device="cpu") == (2, 1, [])
    assert split(jobs=2, device="cpu", cpus=3) == (2, 3, []), "the suite says more exactly what a task gets"


def test_the_suite_says_how_many_unless_the_command_does(cores):
    assert shares(Resources(jobs=5), None, "cpu", 100).jobs == 5
    assert shares(Resources(jobs=5), 2, "cpu", 100).jobs == 2


def test_gpus_are_dealt_out_and_never_oversubscribed(cores, gpus):
    assert split() == (4, 2, ["0", "1", "2", "3"])
    assert split(jobs=2) == (2, 4, ["0", "1", "2", "3"])
    assert split(gpus=0.5)[0] == 8
    assert split(gpus=2) == (2, 4, ["0,1", "2,3"])
    assert split(gpus=3) == (1, 8, ["0,1,2"])
    assert split(gpus=0) == (8, 1, [""]), "no GPU is no GPU"
    assert split(device="cpu") == (8, 1, [])
    many = shares(Resources(), 9, "auto", 100)
    assert many.jobs == 4 and "9 workers do not fit the GPUs, 4 do" in many.note
    with pytest.raises(BadInput, match="needs 5 GPUs, and there are 4"):
        split(gpus=5)


def test_a_suite_for_gpus_is_refused_without_one(cores, monkeypatch):
    monkeypatch.setattr(local, "visible_gpus", lambda: [])
    with pytest.raises(BadInput, match="device: cuda"):
        split(device="cuda")


def test_visible_gpus_are_those_that_torch_may_use(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-aa")
    assert local.visible_gpus() == ["3", "GPU-aa"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert local.visible_gpus() == ["0", "1"]


@pytest.fixture
def pool(monkeypatch, tmp_path):
    """Three slots with workers that hold 1 GiB each, and no process behind them."""
    monkeypatch.setattr(LocalPool, "_fill", lambda self: None)
    ended = []
    monkeypatch.setattr(LocalPool, "_end", lambda self, slot: ended.append(slot.number))
    made = LocalPool(3, 1, ["a", "b"], tmp_path, tmp_path)
    for slot in made._slots:
        slot.process, slot.up = SimpleNamespace(pid=100 + slot.number), True
    monkeypatch.setattr(local, "resident", lambda pid: GIB)
    made.ended = ended
    return made


def test_a_task_starts_only_where_its_memory_is(pool, monkeypatch):
    monkeypatch.setattr(local, "available", lambda: 4 * GIB + RESERVE)
    first, second, third = pool._slots
    assert [slot.gpu for slot in pool._slots] == ["a", "b", "a"]
    assert pool.admits(first, 50 * GIB), "alone any task may try"
    first.job, first.need = "job", 3 * GIB
    assert pool.admits(second, 3 * GIB), "2 more for the first, 2 more for the second"
    assert not pool.ended
    assert not pool.admits(second, 3 * GIB + 1)
    assert pool.ended == [1, 2], "idle workers make room"
    second.job, second.need = "job", GIB // 2
    assert pool.admits(third, 3 * GIB), "what holds more than it was said to need takes nothing from others"


def test_workers_beyond_the_first_wait_for_memory(monkeypatch, tmp_path):
    spawned = []

    def spawn(self, slot):
        spawned.append(slot.number)
        slot.process = object()

    monkeypatch.setattr(LocalPool, "_spawn", spawn)
    monkeypatch.setattr(local, "available", lambda: RESERVE + WORKER - 1)
    LocalPool(3, 1, [], tmp_path, tmp_path)
    assert spawned == [0]
    monkeypatch.setattr(local, "available", lambda: RESERVE + WORKER + 1)
    LocalPool(3, 1, [], tmp_path, tmp_path)
    assert spawned == [0, 0, 1, 2]


def test_an_idle_worker_without_a_process_has_no_pid():
    assert Slot(0).pid is None


def test_memory_is_that_of_the_innermost_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(local.psutil, "virtual_memory", lambda: SimpleNamespace(available=10 * GIB))
    group = tmp_path / "cgroup"
    nothing = tmp_path / "none"
    assert local.available(tmp_path, nothing) == 10 * GIB

    inner = tmp_path / "slurm" / "job"
    inner.mkdir(parents=True)
    group.write_text("0::/slurm/job\n")
    (inner / "memory.max").write_text("max\n")
    (inner / "memory.current").write_text("1\n")
    assert local.available(tmp_path, group) == 10 * GIB
    (inner.parent / "memory.max").write_text(f"{4 * GIB}\n")
    (inner.parent / "memory.current").write_text(f"{3 * GIB}\n")
    (inner.parent / "memory.stat").write_text(f"anon 1\ninactive_file {GIB}\n")
    assert local.available(tmp_path, group) == 2 * GIB, "the limit around it, less what is only cache"

    old = tmp_path / "memory" / "batch"
    old.mkdir(parents=True)
    group.write_text("5:cpu:/x\n4:memory:/batch\nodd\n")
    (old / "memory.limit_in_bytes").write_text(str(GIB))
    (old / "memory.usage_in_bytes").write_text(str(2 * GIB))
    assert local.available(tmp_path, group) == 0


def test_a_process_that_is_gone_holds_nothing():
    assert local.resident(None) == 0 and local.resident(2**30) == 0
