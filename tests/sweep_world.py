"""A set, a victim and attacks small enough that a sweep over them is mostly the starting of processes."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vbench.data.synthetic import write_dataset
from vbench.victims.agw import AGW
from vbench.victims.checkpoint import write_checkpoint

SIZE = (32, 16)
_LOADED = ["vbench.run.session", "vbench.sweep.local", "vbench.victims.agw"]

_ATTACKS = """\
import os, time
from pathlib import Path
from vbench.attacks.noise import Noise

class Waits(Noise):
    name, summary = "waits", "noise that waits for the file 'go', and says which process it is in"

    def craft(self, victim, images, modality, context):
        here = Path(__file__).parent / "waiting"
        here.mkdir(exist_ok=True)
        while not (here / "go").exists():
            (here / str(os.getpid())).touch()
            time.sleep(0.05)
        return super().craft(victim, images, modality, context)

class Bad(Noise):
    name, summary = "bad", "returns what is no image"

    def craft(self, victim, images, modality, context):
        return images * float("nan")
"""


@dataclass(frozen=True)
class World:
    """A folder with ``data``, ``agw.safetensors`` (untrained) and ``odd.py`` (attacks)."""

    folder: Path

    def suite(self, more: str) -> Path:
        """Write a suite of this victim on this data; returns its path."""
        path = self.folder / "suite.yaml"
        head = "victims: {name: agw, weights: agw.safetensors}\ndatasets: {name: sysu, root: data}\n"
        path.write_text(head + "ignore_gates: true\n" + more)
        return path

    def start(self, *arguments: object, forks: bool = False, **variables: str) -> subprocess.Popen[str]:
        """Start ``vbench`` as a process of its own; ``forks``: its workers are :class:`Forks`."""
        code = "from vbench.cli import main; main()"
        if forks:
            code = f"from sweep_world import *; fork_workers(pytest.MonkeyPatch()); {code}"
            variables["PYTHONPATH"] = str(Path(__file__).parent)
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def waiting(self, process: subprocess.Popen[str], seconds: float = 240) -> int:
        """The process id of a worker that has begun the attack that waits."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and process.poll() is None:
            found = list((self.folder / "waiting").glob("[0-9]*"))
            if found:
                pid = int(found[0].name)
                found[0].unlink()
                return pid
            time.sleep(0.05)
        process.kill()
        raise AssertionError(process.communicate())

    def let_go(self) -> None:
        """Let the attack that waits go on, and those that come after it."""
        (self.folder / "waiting").mkdir(exist_ok=True)
        (self.folder / "waiting" / "go").touch()


class Forks:
    """In place of the context in which every worker is a new Python: forks of one that has loaded torch."""

    def __init__(self) -> None:
        self._server = multiprocessing.get_context("forkserver")
        self._server.set_forkserver_preload(_LOADED)
        self.Pipe = self._server.Pipe

    def Process(self, target: Callable, args: tuple, **options: Any) -> Any:
        """Unlike other forks of the server, these have the variables of the process that asks for them."""
        return self._server.Process(target=_with_variables, args=(dict(os.environ), target, args), **options)


def _with_variables(variables: dict[str, str], target: Callable, args: tuple) -> None:
    os.environ.clear()
    os.environ.update(variables)
    target(*args)


def fork_workers(patched: pytest.MonkeyPatch) -> None:
    """Let the sweeps of this process start their workers as :class:`Forks`."""
    context = Forks()
    patched.setattr("vbench.sweep.local.multiprocessing.get_context", lambda method: context)


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps of this process start their workers in no time."""
    fork_workers(monkeypatch)


def build_world(folder: Path) -> World:
    """Make one."""
    write_dataset("sysu", folder / "data", ids=6, seed=3, size=SIZE, test_ids=4, quiet=True)
    victim = AGW(num_classes=6, **{**AGW.THIN, "input_size": SIZE, "width": 0.0625})
    write_checkpoint(
        folder / "agw.safetensors", victim.state_dict(), {"victim": "agw", "options": victim.describe()}
    )
    (folder / "odd.py").write_text(_ATTACKS)
    return World(folder)


def gone(pid: int, seconds: float = 20) -> bool:
    """Whether a process ends within some seconds."""
    import psutil

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.1)
    return False
