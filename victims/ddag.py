"""DDAG: two-stream ResNet-50 with part attention, trained with a graph over the batch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vbench.core.errors import BadInput
from vbench.victims.layers import GraphClassifier, PartAttention, l2_normalise
from vbench.victims.losses import batch_hard_triplet
from vbench.victims.released import ReleasedLayout
from vbench.victims.staged import TRUNK_RENAMES, TRUNK_TWINS, Parts, TwoStreamVictim
from vbench.victims.training.batches import generator_on
from vbench.victims.training.recipe import (
    PUBLISHED_TWO_STREAM,
    THIN_RESIDUAL,
    THIN_RESIDUAL_OPTIONS,
    TrainBatch,
)

_MARGIN = 0.3


@dataclass(kw_only=True, eq=False, repr=False)
class DDAG(TwoStreamVictim):
    """Dynamic dual-attentive aggregation of Ye et al., ECCV 2020.

    ``width=1.0`` with default ``blocks`` is the authors' network. ``embedding`` picks which of its two
    outputs is ranked, each L2-normalised: "attention" (after part attention, by which the authors select
    their checkpoint) or "neck". ``flip`` averages with the mirrored image. ``part_count`` is the number of
    stripes that attend to each other. ``graph_heads`` layers of ``graph_width`` outputs with
    ``graph_dropout`` (a probability) make up the graph attention, which is used in training only.
    ``generator`` samples the initial weights; without one they come from a fixed seed.
    """

    name, version = "ddag", 1
    summary = "two-stream ResNet-50 with part attention, and graph attention in training"
    paper = (
        "Ye et al., Dynamic Dual-Attentive Aggregation Learning for Visible-Infrared Person Re-"
        "Identification, ECCV 2020"
    )
    #: Options of the thin network, which trains in two minutes on two CPU cores.
    THIN: ClassVar[dict[str, Any]] = {**THIN_RESIDUAL_OPTIONS, "graph_width": 32}
    released = ReleasedLayout(
        renames=(
            *TRUNK_RENAMES,
            (r"^part_attention\.query\.", "wpa.fc1.0."),
            (r"^part_attention\.key\.", "wpa.fc2."),
            (r"^part_attention\.value\.", "wpa.fc3."),
            (r"^part_attention\.gate$", "wpa.gate"),
            (r"^part_attention\.neck\.", "wpa.bottleneck."),
            (r"^graph\.heads\.(\d+)\.weight$", r"attention_\1.W"),
            (r"^graph\.heads\.(\d+)\.scores$", r"attention_\1.a"),
            (r"^graph\.out\.weight$", "out_att.W"),
            (r"^graph\.out\.scores$", "out_att.a"),
            (r"^neck\.", "bottleneck."),
        ),
        twins=TRUNK_TWINS,
        unused=(r"^classifier[12]\.weight$", r"^wpa\.W\.[01]\."),
        marks=("wpa.gate", "out_att.W"),
    )
    embeddings = ("attention", "neck")
    full_recipe = replace(PUBLISHED_TWO_STREAM, head=("neck", "classifier", "part_attention", "graph"))
    #: At the learning rate of the rest the graph would stay at chance level.
    thin_recipe = replace(THIN_RESIDUAL, learning_rate=3e-3, head=("graph",), trunk_rate=10 / 3)
    embedding: str = "attention"
    part_count: int = 3
    graph_heads: int = 4
    graph_width: int = 512
    graph_dropout: float = 0.2

    def __post_init__(self, generator: torch.Generator | None) -> None:
        for option in ("part_count", "graph_heads", "graph_width"):
            value = getattr(self, option)
            if value < 1:
                raise BadInput(f"{self.name}: {option} must be at least 1, got {value}")
            setattr(self, option, int(value))
        self.graph_dropout = self._rate("graph_dropout")
        super().__post_init__(generator)

    def _build(self) -> None:
        super()._build()
        self.embedding_dim = self.trunk.channels["layer4"]
        self._add_classifier(self.embedding_dim)
        self.part_attention = PartAttention(self.embedding_dim, self.part_count)
        self.graph = GraphClassifier(self.embedding_dim, self.graph_width, self.graph_heads, self.num_classes)

    @classmethod
    def released_options(cls, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Sizes of part and graph attention, as far as the file's tensors determine them."""
        heads = [name for name in state if re.fullmatch(r"attention_\d+\.W", name)]
        options: dict[str, Any] = {}
        if "wpa.gate" in state:
            options["part_count"] = state["wpa.gate"].numel()
        if heads:
            options["graph_heads"] = len(heads)
            options["graph_width"] = state[heads[0]].shape[-1]
        return options

    def head(self, current: Tensor, count: int) -> tuple[Parts, Tensor]:
        """The vector after the neck and the one refined by part attention, both at unit length."""
        neck = self.neck(current.mean(dim=(2, 3)))
        refined = self.part_attention(current, neck)
        parts = {"attention": l2_normalise(refined), "neck": l2_normalise(neck)}
        return parts, self.classifier(neck)

    def training_losses(self, batch: TrainBatch) -> dict[str, Tensor]:
        """Identity loss before and after part attention, hardest triplet, and the weighted graph loss."""
        current = self.joint_map(batch.visible, batch.infrared)
        pooled = current.mean(dim=(2, 3))
        neck = self.neck(pooled)
        both = torch.cat((batch.labels, batch.labels))
        refined = self.part_attention(current, neck)
        draws = generator_on(pooled.device, batch.generator)
        graph = self.graph(pooled, both, self.graph_dropout, draws)

        def identity(logits: Tensor) -> Tensor:
            return F.cross_entropy(logits, both, label_smoothing=batch.label_smoothing)

        return {
            "identity": identity(self.classifier(neck)),
            "triplet": batch_hard_triplet(pooled, both, _MARGIN),
            "parts": identity(self.classifier(refined)),
            "graph": _graph_weight(batch.previous) * F.cross_entropy(graph, both),
        }


def _graph_weight(previous: Mapping[str, float]) -> float:
    """``1 / (1 + mean of the other losses in the epoch before)``, 0 in the first (equation 11)."""
    terms = [previous[name] for name in ("identity", "triplet", "parts") if name in previous]
    return 1 / (1 + sum(terms)) if terms else 0.0
