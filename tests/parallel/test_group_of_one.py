"""A process group of one, in this process: sharding changes nothing, and commands end as they would."""

from __future__ import annotations

import socket

import pytest
import torch
from tiny import TinyVictim, pixels

from vbench.cli import _explained
from vbench.cli.several import on_all
from vbench.core import processes
from vbench.core.errors import BadInput, VbenchError
from vbench.core.launch import Place
from vbench.core.types import Modality
from vbench.victims import shards

ALONE = Place(0, 1, 0, 1)


@pytest.fixture
def environment(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": 0, "WORLD_SIZE": 1}.items():
        monkeypatch.setenv(name, str(value))


@pytest.fixture
def group(environment):
    processes.start(ALONE)
    yield
    processes.stop()


def test_what_is_gathered_is_what_was_given(group):
    given = [torch.arange(6).view(2, 3), torch.rand(3).bfloat16(), torch.empty(0, 4)]
    for tensor, (copy,) in zip(given, processes.all_gather(given, "a test"), strict=True):
        assert copy.dtype == tensor.dtype and torch.equal(copy, tensor)
    processes.barrier("a test")
    assert processes.report_failure(7) == [7]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_sharded_victim_is_the_plain_one(group, monkeypatch, count):
    plain, sharded = TinyVictim().eval(), TinyVictim().eval()
    monkeypatch.setattr(shards, "processes", lambda: 2)
    shards.shard_victim(sharded)
    monkeypatch.setattr(shards, "processes", processes.processes)
    seen = []
    twice = {"stem": lambda maps: seen.append(shards.gather_rows(maps)) or maps * 2}
    found = []
    for victim in (plain, sharded):
        images = (pixels(count, 0).float() / 255).requires_grad_()
        output = victim(images, Modality.INFRARED, twice)
        loss = output.embedding.square().sum() + output.logits[:, 0].sum() + output.features["layer1"].sum()
        (gradient,) = torch.autograd.grad(loss, images)
        found.append((output.embedding, output.logits, output.features["stem"], gradient))
        assert list(output.features) == ["stem", "layer1"] and len(output.features) == 2
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(*seen)


def fail(error):
    raise error


@pytest.mark.parametrize(
    ("command", "code", "line"),
    [
        (lambda: None, 0, ""),
        (lambda: fail(SystemExit(0)), 0, ""),
        (lambda: fail(SystemExit(1)), 1, ""),
        (lambda: fail(BadInput("no such file")), 2, "vbench: no such file"),
        (lambda: fail(VbenchError("it broke")), 1, "vbench: it broke"),
        (lambda: fail(KeyError("nobody's")), 1, 'KeyError: "nobody\'s"'),
        (lambda: fail(KeyboardInterrupt()), 130, "vbench: interrupted; finished runs are kept"),
        (lambda: fail(processes.PeerFailed("process 1 of this run failed", 2, True)), 2, ""),
        (lambda: fail(processes.PeerFailed("another process is gone")), 1, "another process is gone"),
    ],
)
def test_a_command_ends_with_its_code_and_one_line(environment, capfd, command, code, line):
    assert on_all(ALONE, command, _explained) == code
    printed = capfd.readouterr().err
    assert line in printed if line else not printed
    assert processes.group() is None, "the group is left"
