"""."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class VictimFacts:
    """What ``vbench list victims`` shows: of the authors' network at full size.

    ``summary`` and ``paper`` are the victim's texts everywhere; its class takes them from here. A paper
    ends with where and when it was published.
    ``parameters`` are those a forward pass or training uses, in millions; released files hold more.
    ``input_size`` is (H, W) in pixels; ``embedding`` the length of the vector that is ranked.
    """

    target: str
    summary: str
    paper: str
    parameters: float
    input_size: tuple[int, int]
    embedding: int

    @property
    def year(self) -> int:
        """The year in which the paper was published."""
        return int(self.paper.split()[-1])


VICTIMS: dict[str, VictimFacts] = {
    "agw": VictimFacts(
        target="vbench.victims.agw:AGW",
        summary="two-stream ResNet-50 with non-local blocks and generalised-mean pooling",
        paper="Ye et al., Deep Learning for Person Re-identification: A Survey and Outlook, TPAMI 2022",
        parameters=24.4,
        input_size=(288, 144),
        embedding=2048,
    ),
    "caj": VictimFacts(
        target="vbench.victims.caj:CAJ",
        summary="AGW's network trained with channel exchange and a squared triplet loss",
        paper="Ye et al., Channel Augmented Joint Learning for Visible-Infrared Recognition, ICCV 2021",
        parameters=24.4,
        input_size=(288, 144),
        embedding=2048,
    ),
    "ddag": VictimFacts(
        target="vbench.victims.ddag:DDAG",
        summary="two-stream ResNet-50 with part attention, and graph attention in training",
        paper="Ye et al., Dynamic Dual-Attentive Aggregation Learning for Visible-Infrared Person "
        "Re-Identification, ECCV 2020",
        parameters=41.9,
        input_size=(288, 144),
        embedding=2048,
    ),
    "mmn": VictimFacts(
        target="vbench.victims.mmn:MMN",
        summary="two-stream ResNet-50 with a generated middle modality and four stripes",
        paper="Zhang et al., Towards a Unified Middle Modality Learning for Visible-Infrared Person "
        "Re-Identification, ACM MM 2021",
        parameters=26.8,
        input_size=(384, 192),
        embedding=8192,
    ),
    "deen": VictimFacts(
        target="vbench.victims.deen:DEEN",
        summary="two-stream ResNet-50 with multistage aggregation and diverse embedding expansion",
        paper="Zhang and Wang, Diverse Embedding Expansion Network and Low-Light Cross-Modality Benchmark "
        "for Visible-Infrared Person Re-identification, CVPR 2023",
        parameters=42.0,
        input_size=(384, 144),
        embedding=12288,
    ),
    "mpanet": VictimFacts(
        target="vbench.victims.mpanet:MPANet",
        summary="single-stream ResNet-50 with modality alleviation and pattern masks",
        paper="Wu et al., Discover Cross-Modality Nuances for Visible-Infrared Person Re-Identification, "
        "CVPR 2021",
        parameters=52.5,
        input_size=(384, 128),
        embedding=14336,
    ),
    "pmt": VictimFacts(
        target="vbench.victims.pmt:PMT",
        summary="single-stream ViT-B/16 with overlapping patches and a BN neck",
        paper="Lu et al., Learning Progressive Modality-shared Transformers for Effective "
        "Visible-Infrared Person Re-identification, AAAI 2023",
        parameters=86.1,
        input_size=(256, 128),
        embedding=768,
    ),
    "mrcn": VictimFacts(
        target="vbench.victims.mrcn:MRCN",
        summary="two-stream ResNet-50 with instance normalisation, restitution and compensation",
        paper="Zhang et al., MRCN: A Novel Modality Restitution and Compensation Network for "
        "Visible-Infrared Person Re-identification, AAAI 2023",
        parameters=24.4,
        input_size=(384, 192),
        embedding=2048,
    ),
}

_FULL_TRUNK = {"width": 1.0, "blocks": [3, 4, 6, 3], "block": "bottleneck", "small_stem": False}

_THIN_TRUNK = {"width": 0.25, "blocks": [1, 1, 1, 1], "block": "basic", "small_stem": True}

_RESIDUAL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "agw": ({"embedding": "neck", "flip": False}, {}),
    "caj": ({"embedding": "neck", "flip": True}, {}),
    "ddag": (
        {
            "embedding": "attention",
            "flip": False,
            "part_count": 3,
            "graph_heads": 4,
            "graph_width": 512,
            "graph_dropout": 0.2,
        },
        {"graph_width": 32},
    ),
    "mmn": ({"embedding": "image", "flip": False}, {}),
    "deen": ({"embedding": "sum", "flip": True, "variant": "sysu"}, {}),
    "mpanet": ({"embedding": "neck", "flip": False, "variant": "sysu", "parts": 6}, {}),
    "mrcn": ({"embedding": "neck", "flip": False, "place": "layer2"}, {}),
}

_PMT = {
    "patch": 16,
    "stride": 12,
    "width": 768,
    "depth": 12,
    "heads": 12,
    "mlp_ratio": 4.0,
    "dropout": 0.03,
    "drop_path": 0.1,
    "stem_channels": 0,
    "embedding": "neck",
    "flip": False,
}

_THIN_PMT = {
    "patch": 6,
    "stride": 4,
    "width": 96,
    "depth": 6,
    "heads": 3,
    "mlp_ratio": 2.0,
    "dropout": 0.0,
    "stem_channels": 16,
}

#: Options of the authors' network by victim.
FULL: dict[str, dict[str, Any]] = {
    **{name: {**_FULL_TRUNK, **own} for name, (own, _) in _RESIDUAL.items()},
    "pmt": _PMT,
}

#: Options of the small network that is trained on synthetic data by victim.
THIN: dict[str, dict[str, Any]] = {
    **{name: {**_THIN_TRUNK, **own, **thin} for name, (own, thin) in _RESIDUAL.items()},
    "pmt": {**_PMT, **_THIN_PMT},
}
