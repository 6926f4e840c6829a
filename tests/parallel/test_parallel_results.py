"""On several processes everything is what it is on one."""

from __future__ import annotations

import measured
import pytest
import torch
from launch import HERE, several


@pytest.fixture(scope="module")
def alone():
    return measured.everything()


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)])
def processes(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"on-{request.param}")
    for ended in several(request.param, [HERE / "measured.py", folder]):
        assert ended.code == 0, ended.stderr
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(request.param)]


def test_every_process_holds_the_same_bits(processes):
    first, *others = processes
    for other in others:
        assert other.keys() == first.keys()
        assert [name for name in first if not torch.equal(first[name], other[name])] == []


def test_results_are_those_of_one_process(processes, alone):
    found = processes[0]
    assert set(found) <= set(alone) and (len(processes) == 3 or set(found) == set(alone))
    different = [name for name, value in found.items() if not same(name, value, alone[name])]
    assert different == []


def same(name, value, expected):
    """Equal up to float64, where nothing was computed with half the digits on purpose."""
    if name.startswith("bfloat16"):
        near = torch.nn.functional.cosine_similarity(value.flatten(), expected.flatten(), dim=0)
        return value.shape == expected.shape and near.item() > 0.99
    return value.shape == expected.shape and torch.allclose(value, expected, rtol=1e-9, atol=1e-11)
