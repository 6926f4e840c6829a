"""Evaluation protocols and their ids."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from itertools import product
from typing import Any

from vbench.core.errors import BadInput, shortened, unknown_name

#: Data set layouts that vbench reads itself.
LAYOUTS = ("sysu", "regdb", "llcm")

#: Randomly sampled galleries, one per trial, in the protocols of SYSU-MM01 and LLCM.
DRAWS = 10

#: Images per identity and camera in a multi-shot gallery.
MULTI_SHOT = 10


@dataclass(frozen=True)
class Protocol:
    """One protocol; ``str()`` gives its id. Get one from :func:`parse_protocol`.

    ``direction`` is "ir2vis" or "vis2ir": query modality, then gallery modality. ``mode`` ("all" or
    "indoor") and ``shots`` ("single" or "multi") exist for SYSU-MM01 only. ``galleries`` says how the ten
    galleries of SYSU-MM01 and LLCM are chosen: "seed10" samples that of trial t with Python's generator,
    seeded with t = 0 .. 9, as AGW's evaluation code and its successors do; "randperm10" reads the
    permutations that the authors of SYSU-MM01 published. ``trial`` (1 .. 10) picks one of RegDB's splits.

    SYSU-MM01 has no standard visible-to-infrared protocol: ``sysu/.../single/vis2ir/seed10`` is defined by
    this project, and its results cannot be compared with published ones.
    """

    layout: str
    direction: str
    mode: str | None = None
    shots: str | None = None
    galleries: str | None = None
    trial: int | None = None

    def __str__(self) -> str:
        last = self.galleries if self.trial is None else f"trial-{self.trial}"
        parts = (self.layout, self.mode, self.shots, self.direction, last)
        return "/".join(part for part in parts if part is not None)

    @property
    def standard(self) -> bool:
        """False for the protocols that only this project defines."""
        return not (self.layout == "sysu" and self.direction == "vis2ir")

    @property
    def shots_per_camera(self) -> int:
        """Gallery images per identity and camera: 1, or 10 for multi-shot."""
        return MULTI_SHOT if self.shots == "multi" else 1


def _build_table() -> dict[str, Protocol]:
    sysu = [
        Protocol("sysu", "ir2vis", mode=mode, shots=shots, galleries=galleries)
        for mode, shots, galleries in product(
            ("all", "indoor"), ("single", "multi"), ("seed10", "randperm10")
        )
    ]
    mirrored = [
        Protocol("sysu", "vis2ir", mode=mode, shots="single", galleries="seed10")
        for mode in ("all", "indoor")
    ]
    regdb = [
        Protocol("regdb", direction, trial=trial)
        for direction, trial in product(("vis2ir", "ir2vis"), range(1, 11))
    ]
    llcm = [Protocol("llcm", direction, galleries="seed10") for direction in ("ir2vis", "vis2ir")]
    return {str(protocol): protocol for protocol in (*sysu, *mirrored, *regdb, *llcm)}


_TABLE = _build_table()


def check_layout(layout: str) -> None:
    """Raise :class:`BadInput` for a layout that is not in :data:`LAYOUTS`."""
    if layout not in LAYOUTS:
        raise unknown_name("dataset layout", layout, LAYOUTS)


def parse_protocol(text: str) -> Protocol:
    """Return the protocol with this id; raises :class:`BadInput`, suggesting the nearest id, for others.

    >>> parse_protocol("regdb/vis2ir/trial-3").trial
    3
    """
    try:
        return _TABLE[text.lower()]
    except KeyError:
        text = shortened(text)
        near = difflib.get_close_matches(text, _TABLE, n=1, cutoff=0.0)
        raise BadInput(
            f"unknown protocol {text!r}; did you mean '{near[0]}'? `vbench data protocols` lists them all"
        ) from None


def all_protocols(layout: str | None = None) -> list[str]:
    """Ids of all protocols, or of one layout's; :class:`BadInput` for an unknown layout."""
    if layout is None:
        return list(_TABLE)
    check_layout(layout)
    return [text for text, protocol in _TABLE.items() if protocol.layout == layout]


def default_protocol(layout: str) -> str:
    """Id of the protocol that a layout is evaluated under unless told otherwise."""
    return all_protocols(layout)[0]


#: The built-in synthetic data set, which needs no folder.
SYNTHETIC = "synthetic"


def check_name(name: Any) -> str:
    """The name as listings show it; :class:`BadInput` if no data set is called so. Imports no reader."""
    from vbench.data.registry import datasets

    if not isinstance(name, str):
        raise BadInput(f"a dataset is a name or an open Dataset, not {type(name).__name__}")
    name = SYNTHETIC if name.lower() == SYNTHETIC else datasets.canonical(name)
    if name != SYNTHETIC and ":" not in name and name not in datasets.names():
        raise datasets.unknown(name, SYNTHETIC)
    return name
