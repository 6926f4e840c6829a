"""Identities and cameras of one trial; which gallery images a protocol removes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from vbench.core.errors import BadInput, unknown_name
from vbench.core.types import RankingRule
from vbench.metrics.statistics import plain_array

PROTOCOLS: tuple[str, ...] = get_args(RankingRule)

#: Rules whose CMC ranks identities, each at its best kept image, instead of images.
IDENTITY_CMC = frozenset({"sysu", "llcm"})

#: SYSU-MM01's cameras 2 (visible) and 3 (infrared) are in the same place.
_SYSU_SAME_PLACE = (2, 3)


def check_protocol(protocol: str) -> None:
    """Raise :class:`BadInput` for an unknown ranking rule."""
    if protocol not in PROTOCOLS:
        raise unknown_name("ranking protocol", protocol, PROTOCOLS)


def _no_cameras(protocol: str) -> BadInput:
    return BadInput(f"protocol '{protocol}' needs cameras; pass query_cams and gallery_cams")


def removed(
    protocol: str,
    query_ids: Tensor,
    gallery_ids: Tensor,
    query_cams: Tensor | None,
    gallery_cams: Tensor | None,
) -> Tensor | None:
    """Mask of removed gallery images, queries x gallery bool, or None if nothing is removed.

    sysu: for a query of camera 3, all gallery images of camera 2, of any identity. The same holds for a query
    of camera 2 and gallery images of camera 3, by analogy: visible queries are not defined in the published
    protocol. regdb: nothing. llcm: gallery images that share both identity and camera number with the query.
    """
    if protocol == "regdb":
        return None
    if query_cams is None or gallery_cams is None:
        raise _no_cameras(protocol)
    if protocol == "llcm":
        return (query_ids[:, None] == gallery_ids) & (query_cams[:, None] == gallery_cams)
    visible, infrared = _SYSU_SAME_PLACE
    # One byte per image, equal where the pair is removed, so that all pairs need one cheap comparison.
    query_code = query_cams.eq(infrared).byte() + 2 * query_cams.eq(visible).byte()
    gallery_code = gallery_cams.eq(visible).byte() + 2 * gallery_cams.eq(infrared).byte()
    return query_code.where(query_code > 0, 3)[:, None] == gallery_code


#: Integer labels, one per image.
Labels = Tensor | np.ndarray | Sequence[int]


@dataclass(frozen=True)
class TrialLabels:
    """Checked labels of one trial on the device of its distances, with the gallery grouped by identity.

    ``order`` lists gallery columns sorted by identity, in gallery order within one; ``group_end`` is the last
    position of each identity in ``order``; ``first`` and ``matches`` are, for each query, the position in
    ``order`` where its identity starts and the number of its images.
    """

    protocol: str
    query_ids: Tensor
    gallery_ids: Tensor
    query_cams: Tensor | None
    gallery_cams: Tensor | None
    order: Tensor
    group_end: Tensor
    first: Tensor
    matches: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Number of queries and of gallery images."""
        return len(self.query_ids), len(self.gallery_ids)

    @classmethod
    def build(
        cls,
        query_ids: Labels,
        gallery_ids: Labels,
        query_cams: Labels | None,
        gallery_cams: Labels | None,
        protocol: str,
        shape: tuple[int, int],
        device: torch.device,
    ) -> TrialLabels:
        """Check labels against ``shape`` (queries, gallery) and group them; raises :class:`BadInput`."""
        check_protocol(protocol)
        if protocol != "regdb" and (query_cams is None or gallery_cams is None):
            raise _no_cameras(protocol)
        if 0 in shape:
            raise BadInput(f"nothing to rank: {shape[0]} queries, {shape[1]} gallery images")
        query_ids = _labels("query_ids", query_ids, shape[0], device)
        gallery_ids = _labels("gallery_ids", gallery_ids, shape[1], device)
        if query_cams is not None:
            query_cams = _labels("query_cams", query_cams, shape[0], device)
        if gallery_cams is not None:
            gallery_cams = _labels("gallery_cams", gallery_cams, shape[1], device)
        grouped, order = gallery_ids.sort(stable=True)
        first = torch.searchsorted(grouped, query_ids)
        matches = torch.searchsorted(grouped, query_ids, right=True) - first
        group_end = torch.unique_consecutive(grouped, return_counts=True)[1].cumsum(0) - 1
        return cls(
            protocol, query_ids, gallery_ids, query_cams, gallery_cams, order, group_end, first, matches
        )


def number_tensor(name: str, values: Any) -> Tensor:
    """Real numbers of any kind as a tensor, on its device if it is one; see :func:`plain_array`."""
    if not isinstance(values, Tensor):
        array = plain_array(name, values)
        # torch has no floats beyond 64 bits.
        return torch.from_numpy(array.astype(np.float64) if array.dtype.itemsize > 8 else array)
    if values.is_complex() or values.is_quantized:
        raise BadInput(f"{name} must be real numbers, got {_kind(values)}")
    return values.detach().to_dense() if values.layout != torch.strided else values.detach()


def _labels(name: str, values: Labels, length: int, device: torch.device) -> Tensor:
    labels = number_tensor(name, values)
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise BadInput(f"{name} must be integers, got {_kind(labels)}")
    if tuple(labels.shape) != (length,):
        raise BadInput(f"{name} must have length {length} to fit the distances, got {tuple(labels.shape)}")
    wide = labels.to(device, torch.int64)
    if labels.dtype == torch.uint64 and bool((wide < 0).any()):
        raise BadInput(f"{name} hold an integer of 2^63 or more; number the identities anew")
    return wide


def _kind(values: Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")
