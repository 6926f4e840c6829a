"""P x K cross-modality batches."""

from __future__ import annotations

import math

import numpy as np

from vbench.errors import BadInput


class PairedSampler:
    """Draws batches of ``identities`` x ``instances`` images per modality.

    Row i of both index lists of a batch shows the same identity. Identities come from reshuffled rounds, so
    that each appears equally often; images of an identity repeat in a batch only where it has fewer than
    ``instances``. Identities seen in one modality alone and those in ``leave_out`` are not drawn.
    """

    def __init__(
        self,
        visible_labels: np.ndarray,
        infrared_labels: np.ndarray,
        identities: int,
        instances: int,
        leave_out: tuple[int, ...] = (),
    ) -> None:
        shared = np.intersect1d(visible_labels, infrared_labels)
        self.labels = np.setdiff1d(shared, np.array(leave_out, dtype=shared.dtype))
        if len(self.labels) < identities:
            raise BadInput(
                f"a batch needs {identities} identities seen in both modalities, "
                f"the training set has {len(self.labels)}"
            )
        self.identities, self.instances = identities, instances
        self._visible = {label: np.flatnonzero(visible_labels == label) for label in self.labels}
        self._infrared = {label: np.flatnonzero(infrared_labels == label) for label in self.labels}
        counts = [sum(map(len, images.values())) for images in (self._visible, self._infrared)]
        #: Batches in an epoch: enough to show as many images as the larger modality has.
        self.batches = max(1, math.ceil(max(counts) / (identities * instances)))

    def epoch(self, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(visible indices, infrared indices, labels) of each batch, all of length identities x instances."""
        return [self._batch(labels, rng) for labels in self._identity_rounds(rng)]

    def _identity_rounds(self, rng: np.random.Generator) -> list[np.ndarray]:
        per_round = len(self.labels) // self.identities
        rounds: list[np.ndarray] = []
        while len(rounds) < self.batches:
            shuffled = rng.permutation(self.labels)[: per_round * self.identities]
            rounds.extend(shuffled.reshape(per_round, self.identities))
        return rounds[: self.batches]

    def _batch(
        self, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        visible = np.concatenate([self._draw(self._visible[label], rng) for label in labels])
        infrared = np.concatenate([self._draw(self._infrared[label], rng) for label in labels])
        return visible, infrared, np.repeat(labels, self.instances)

    def _draw(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rng.choice(images, self.instances, replace=len(images) < self.instances)
