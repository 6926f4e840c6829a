"""Whose image is whose: the checked identities and cameras of one trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vbench.errors import BadInput
from vbench.metrics.removal import check_cameras, check_protocol

#: Integer labels, one an image.
Labels = Tensor | np.ndarray | Sequence[int]


@dataclass(frozen=True)
class TrialLabels:
    """Checked labels of one trial on the device of its distances, with the gallery grouped by identity.

    ``order`` lists gallery columns by identity, in gallery order within one; ``group_end`` is the last
    position of each identity in ``order``; ``first`` and ``matches`` say for each query where its own
    identity starts in ``order`` and how many images it has there.
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
        """Check labels against ``shape`` (queries, gallery) and group them, or raise :class:`BadInput`."""
        check_protocol(protocol)
        check_cameras(protocol, query_cams, gallery_cams)
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


def _labels(name: str, values: Labels, length: int, device: torch.device) -> Tensor:
    labels = torch.as_tensor(values)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise BadInput(f"{name} must be integers, got {str(labels.dtype).removeprefix('torch.')}")
    if tuple(labels.shape) != (length,):
        raise BadInput(f"{name} must have length {length} to fit the distances, got {tuple(labels.shape)}")
    return labels.to(device, torch.int64)
