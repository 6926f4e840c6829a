"""Arrays, lists, tables and tensors are read as the numbers that they hold, or refused in one line."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from vbench.core.errors import BadInput
from vbench.metrics import (
    attack_success_rate,
    bootstrap_drop,
    rank_embeddings,
    rank_metrics,
    ranking_distance,
)
from vbench.metrics.statistics import flip_pvalue

RNG = np.random.default_rng(0)
DISTANCE = RNG.integers(0, 40, (7, 12)) / 8
IDS = np.arange(7) % 3, np.arange(12) % 3
CAMS = np.full(7, 6), np.full(12, 1)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def strided(array):
    return np.repeat(array, 2, axis=-1)[..., ::2]


#: The same numbers, laid out otherwise.
LAYOUTS = {
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "reversed twice": lambda a: a[..., ::-1].copy()[..., ::-1],
    "every other": strided,
    "Fortran": np.asfortranarray,
    "read-only": read_only,
    "list": np.ndarray.tolist,
    "objects": lambda a: a.astype(object),
    "tensor": torch.from_numpy,
    "numpy in a list": list,
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(layout):
    expected = rank_metrics(DISTANCE, *IDS, *CAMS)
    found = rank_metrics(layout(DISTANCE), *(layout(one) for one in (*IDS, *CAMS)))
    assert torch.equal(found.average_precision, expected.average_precision)
    query, gallery = DISTANCE[:, :4], DISTANCE.T[:, :4]
    found = rank_embeddings(layout(query), layout(gallery), *(layout(one) for one in (*IDS, *CAMS)))
    expected = rank_embeddings(torch.tensor(query), torch.tensor(gallery), *IDS, *CAMS)
    assert torch.equal(found.average_precision, expected.average_precision)
    values = DISTANCE[0], DISTANCE[1]
    drop = bootstrap_drop(*map(layout, values), np.random.default_rng(1))
    assert drop == bootstrap_drop(*values, np.random.default_rng(1))
    ranks = np.array([1, 1, 2, 0]), np.array([1, 3, 1, 0])
    assert attack_success_rate(*map(layout, ranks)) == 0.5
    p = flip_pvalue(layout(DISTANCE[0] - 2), layout(np.arange(12)), np.random.default_rng(0))
    assert p == flip_pvalue(DISTANCE[0] - 2, np.arange(12), np.random.default_rng(0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floating_types_of_tensors(dtype):
    tensor = torch.from_numpy(DISTANCE).to(dtype).requires_grad_()
    expected = rank_metrics(tensor.detach().double(), *IDS, *CAMS)
    found = rank_metrics(tensor, *IDS, *CAMS)
    assert torch.equal(found.average_precision, expected.average_precision)
    assert not found.average_precision.requires_grad
    query, gallery = tensor[:, :4], tensor.T[:, :4]
    assert not ranking_distance(query, gallery).requires_grad
    assert bootstrap_drop(tensor, tensor, np.random.default_rng(0)) == (0, 0)


@pytest.mark.parametrize("dtype", ["float16", "longdouble"])
def test_floating_types_of_arrays(dtype):
    found = rank_metrics(DISTANCE.astype(dtype), *IDS, *CAMS)
    assert found.mAP == rank_metrics(DISTANCE, *IDS, *CAMS).mAP


def test_tensors_of_inference_mode_and_within():
    with torch.inference_mode():
        distance = torch.from_numpy(DISTANCE) + 0
        found = rank_metrics(distance, *IDS, *CAMS)
    assert found.mAP == rank_metrics(distance, *IDS, *CAMS).mAP == rank_metrics(DISTANCE, *IDS, *CAMS).mAP
    assert rank_embeddings(distance, distance, IDS[0], IDS[0], CAMS[0], CAMS[0][:7] - 5).valid.all()


@pytest.mark.parametrize("kind", ["int64", "int8", "uint8", "uint64", "Int64", "category"])
def test_columns_of_tables(kind):
    columns = [pd.Series(one).astype(kind) for one in (*IDS, *CAMS)]
    frame = pd.DataFrame(DISTANCE)
    assert rank_metrics(frame, *columns).mAP == rank_metrics(DISTANCE, *IDS, *CAMS).mAP


@pytest.mark.parametrize(
    "labels",
    [
        [True, False] * 3 + [True],
        [0.0] * 7,
        ["a"] * 7,
        [None] * 7,
        [1j] * 7,
        [2**63] * 7,
        [-(2**63) - 1] * 7,
        [2**70] * 7,
        [[1], [1, 2]],
        np.full(7, 2**63, np.uint64),
        torch.ones(7, dtype=torch.complex64),
        np.array(["2024-01-31"] * 7, "datetime64[D]"),
        np.arange(6),
        7,
        object(),
    ],
)
def test_labels_that_are_no_integers(labels):
    with pytest.raises(BadInput) as refused:
        rank_metrics(DISTANCE, labels, IDS[1], *CAMS)
    assert str(refused.value).startswith("query_ids ") and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "distance", [DISTANCE + 1j, DISTANCE > 2, [["x"] * 12] * 7, None, "distance", [[1.0], [1.0, 2.0]], {}]
)
def test_distances_that_are_no_numbers(distance):
    with pytest.raises(BadInput, match=r"^distance ") as refused:
        rank_metrics(distance, *IDS, *CAMS)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("values", [["a", "b"], [1j, 2j], torch.tensor([1j, 2j]), [None, 1.0], object()])
def test_values_that_are_no_numbers(values):
    for call in (
        lambda: bootstrap_drop(values, values, np.random.default_rng(0)),
        lambda: attack_success_rate(values, values),
        lambda: rank_embeddings(values, DISTANCE, *IDS, *CAMS),
    ):
        with pytest.raises(BadInput) as refused:
            call()
        assert "\n" not in str(refused.value)
