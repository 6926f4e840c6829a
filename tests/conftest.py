"""Fixtures that tests of several parts share."""

from __future__ import annotations

import pytest
from tiny import TinyVictim, make_training, pixels
from torch import Tensor

from vbench.attacks.training import TrainingView


@pytest.fixture
def victim() -> TinyVictim:
    return TinyVictim().double().eval()


@pytest.fixture
def images() -> Tensor:
    return pixels(16, seed=1).double() / 255


@pytest.fixture
def training(victim: TinyVictim) -> TrainingView:
    return make_training(victim)
