"""The built-in victims, readable without importing one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VictimFacts:
    """What ``vbench list victims`` shows: of the authors' network at full size.

    ``parameters`` are those a forward pass or training uses, in millions; released files hold more.
    ``input_size`` is (H, W) in pixels; ``embedding`` the length of the vector that is ranked.
    """

    target: str
    summary: str
    paper: str
    year: int
    parameters: float
    input_size: tuple[int, int]
    embedding: int


VICTIMS: dict[str, VictimFacts] = {
    "agw": VictimFacts(
        target="vbench.victims.agw:AGW",
        summary="two-stream ResNet-50 with non-local blocks and generalised-mean pooling",
        paper="Ye et al., Deep Learning for Person Re-identification: A Survey and Outlook, TPAMI 2022",
        year=2021,
        parameters=25.4,
        input_size=(288, 144),
        embedding=2048,
    ),
}
