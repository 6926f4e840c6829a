"""Who a process is, what it computes on, and that nothing changes for one on its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from tiny import TinyVictim

from vbench.core import processes
from vbench.core.errors import BadInput
from vbench.core.launch import Place, launched
from vbench.core.processes import own_device
from vbench.victims.shards import gather_rows, shard_victim

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


@pytest.fixture
def started_with(monkeypatch):
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    return lambda **changes: [
        monkeypatch.setenv(*pair) for pair in {**TORCHRUN, **changes}.items() if pair[1]
    ]


def test_torchrun_tells_a_process_its_place(started_with):
    assert launched() is None
    started_with()
    assert launched() == Place(3, 4, 1, 2)


@pytest.mark.parametrize("changes", [{"LOCAL_RANK": ""}, {"MASTER_ADDR": ""}])
def test_half_an_environment_is_none(started_with, changes):
    started_with(**changes)
    assert launched() is None


def test_one_process_of_torchrun_is_alone(started_with):
    started_with(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", LOCAL_WORLD_SIZE="1")
    assert launched() is None


@pytest.mark.parametrize("changes", [{"RANK": "4"}, {"RANK": "two"}, {"LOCAL_RANK": "2"}])
def test_a_place_that_cannot_be_is_refused(started_with, changes):
    started_with(**changes)
    with pytest.raises(BadInput, match="is not a valid rank and world size; start with torchrun"):
        launched()


@pytest.fixture
def machine(monkeypatch):
    """The second of several processes on a machine with some GPUs."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)

    def there(gpus: int, local: int) -> list[int]:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(processes, "_place", Place(1, local, 1, local))
        return chosen

    return there


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_every_process_takes_a_gpu(machine, device):
    chosen = machine(gpus=2, local=2)
    assert own_device(device) == "cuda:1" and chosen == [1]


def test_a_process_that_alone_sees_its_gpu_takes_it(machine, monkeypatch):
    chosen = machine(gpus=1, local=4)
    monkeypatch.setattr(processes, "_own_gpu", True)
    assert own_device("auto") == "cuda:0" and chosen == [0]


def test_cpus_are_for_all(machine):
    machine(gpus=2, local=4)
    assert own_device("cpu") == "cpu"
    machine(gpus=0, local=4)
    assert own_device("auto") == "auto"


def test_more_processes_than_gpus_are_refused(machine):
    machine(gpus=2, local=4)
    expected = "4 processes for 2 GPUs on this machine; start torchrun with --nproc-per-node 2, or use"
    with pytest.raises(BadInput, match=expected):
        own_device("auto")
    machine(gpus=4, local=4)
    with pytest.raises(BadInput, match="device 'cuda:2': each process of a run takes its own"):
        own_device("cuda:2")


def test_nothing_changes_for_a_process_alone():
    victim, gradients = TinyVictim(), [torch.ones(3), None]
    shard_victim(victim)
    assert "forward" not in vars(victim) and own_device("cuda:2") == "cuda:2"
    assert processes.all_reduce(gradients) == gradients and gather_rows(gradients[0]) is gradients[0]
    assert processes.broadcast(gradients) == gradients and processes.from_main(lambda: 5) == 5
    processes.check_equal("nothing", "a")


def test_the_page_shows_commands_that_exist():
    from typer.main import get_command

    from vbench.cli import app

    lines = re.findall(r"^torchrun .*-m vbench (.*)$", PAGE.read_text(), re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        name, *words = line.split()
        get_command(app).commands[name].make_context(name, words)
