"""The built-in victims, readable without importing one."""

from __future__ import annotations

from dataclasses import dataclass


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
