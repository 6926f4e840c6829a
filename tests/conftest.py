"""Fixtures that tests of several parts share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import typer
from forked import Forked, forking
from released_agw import save_released
from tiny import TinyVictim, make_training, pixels
from torch import Tensor

from vbench.attacks.training import TrainingView


@pytest.fixture(scope="session", autouse=True)
def commands_are_built_once() -> Iterator[None]:
    """The tree of commands, which every call of the command line builds, is that of the first."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("typer.main.get_command", cache(typer.main.get_command))
        yield


@pytest.fixture(scope="session")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forked]:
    """Calls ``vbench`` in a process of its own."""
    with forking(tmp_path_factory.mktemp("forked")) as found:
        yield found


@pytest.fixture(scope="module")
def path(state, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module's ``state`` in a file of a victim's authors."""
    return save_released(tmp_path_factory.mktemp("released") / "best.t", state)


@pytest.fixture
def quick_cache(quick, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without a folder of their own use the cache of the quick data set."""
    monkeypatch.setenv("VBENCH_CACHE", str(quick.cache))


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets methods, given as (class or module, name), fail as soon as they are called."""

    def work(*_: object, **__: object) -> None:
        raise AssertionError("work has begun")

    def forbid(*methods: tuple[object, str]) -> None:
        for owner, name in methods:
            monkeypatch.setattr(owner, name, work)

    return forbid


@pytest.fixture
def victim() -> TinyVictim:
    return TinyVictim().double().eval()


@pytest.fixture
def images() -> Tensor:
    return pixels(16, seed=1).double() / 255


@pytest.fixture
def training(victim: TinyVictim) -> TrainingView:
    return make_training(victim)
