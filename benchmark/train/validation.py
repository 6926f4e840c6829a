"""Clean accuracy on training identities that were left out of training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vbench.data.base import Dataset
from vbench.errors import BadInput
from vbench.metrics import rank_metrics
from vbench.train.images import TrainImages
from vbench.types import Modality
from vbench.victims.base import Victim

_BATCH = 64


def held_out_labels(images: TrainImages, share: float, seed: int) -> tuple[int, ...]:
    """Choose the labels that are not trained on: ``share`` of those seen in both modalities, at least two.

    Empty for a share of 0. The choice depends on the labels and the seed alone.
    """
    if not 0 <= share < 1:
        raise BadInput(f"the validation share must be in [0, 1), got {share}")
    if share == 0:
        return ()
    labels = np.intersect1d(images.visible_labels, images.infrared_labels)
    count = max(2, round(share * len(labels)))
    chosen = np.random.default_rng([seed, len(labels)]).choice(labels, min(count, len(labels)), replace=False)
    return tuple(sorted(int(label) for label in chosen))


def validate(victim: Victim, dataset: Dataset, images: TrainImages, held_out: tuple[int, ...]) -> dict:
    """Rank all held-out images across modalities in the dataset's direction, by its own rule.

    Returns percentages ``rank1``, ``rank10``, ``mAP``, ``mINP`` and the counts behind them, or ``skipped``
    with the reason where nothing can be ranked. Uses training images only.
    """
    sides = {
        Modality.VISIBLE: (images.visible, images.visible_labels, dataset.train_visible),
        Modality.INFRARED: (images.infrared, images.infrared_labels, dataset.train_infrared),
    }
    ranked = {}
    for modality, (pixels, labels, samples) in sides.items():
        rows = np.flatnonzero(np.isin(labels, held_out))
        cams = np.array([sample.cam for sample in samples])[rows]
        ranked[modality] = (_embed(victim, pixels[rows], modality), labels[rows], cams)
    query, query_ids, query_cams = ranked[dataset.query_modality]
    gallery, gallery_ids, gallery_cams = ranked[dataset.gallery_modality]
    distance = -query @ gallery.T if victim.similarity == "cosine" else torch.cdist(query, gallery)
    try:
        found = rank_metrics(
            distance, query_ids, gallery_ids, query_cams, gallery_cams, protocol=dataset.metric
        )
    except BadInput as error:
        return {"skipped": str(error)}
    return {
        "identities": len(held_out),
        "query": len(query_ids),
        "gallery": len(gallery_ids),
        "rank1": round(100 * found.rank(1), 2),
        "rank10": round(100 * found.rank(10), 2),
        "mAP": round(100 * found.mAP, 2),
        "mINP": round(100 * found.mINP, 2),
    }


@torch.no_grad()
def _embed(victim: Victim, pixels: np.ndarray, modality: Modality) -> Tensor:
    device = next(victim.parameters()).device
    parts = []
    for start in range(0, len(pixels), _BATCH):
        batch = torch.from_numpy(pixels[start : start + _BATCH]).to(device).permute(0, 3, 1, 2).float() / 255
        parts.append(victim(batch, modality).embedding.cpu().double())
    return torch.cat(parts)
