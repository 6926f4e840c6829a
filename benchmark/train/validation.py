"""Clean accuracy on training identities that were left out of training."""

from __future__ import annotations

import numpy as np

from vbench.data.base import Dataset
from vbench.embed import embed
from vbench.errors import BadInput
from vbench.metrics import rank_embeddings
from vbench.seeds import entropy
from vbench.train.images import TrainImages
from vbench.types import Modality
from vbench.victims.base import Victim
from vbench.victims.recipe import check_share


def held_out_labels(images: TrainImages, share: float, seed: int) -> tuple[int, ...]:
    """Choose the labels that are not trained on: ``share`` of those seen in both modalities, at least two.

    Empty for a share of 0. The choice depends on the labels and the seed alone.
    """
    check_share(share)
    if share == 0:
        return ()
    labels = np.intersect1d(images.visible_labels, images.infrared_labels)
    count = max(2, round(share * len(labels)))
    generator = np.random.default_rng([entropy(seed), len(labels)])
    chosen = generator.choice(labels, min(count, len(labels)), replace=False)
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
        ranked[modality] = (embed(victim, pixels[rows], modality).embeddings, labels[rows], cams)
    query, query_ids, query_cams = ranked[dataset.query_modality]
    gallery, gallery_ids, gallery_cams = ranked[dataset.gallery_modality]
    # Camera 0 means unknown (the training lists of LLCM): two unknown cameras are not the same camera.
    query_cams = np.where(query_cams == 0, -1, query_cams)
    try:
        found = rank_embeddings(
            query,
            gallery,
            query_ids,
            gallery_ids,
            query_cams,
            gallery_cams,
            similarity=victim.similarity,
            protocol=dataset.metric,
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
