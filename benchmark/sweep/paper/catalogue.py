"""The suites of the paper: main table, systems, ablation, blocks, kinds of attention."""

from __future__ import annotations

from vbench.core.errors import unknown_name
from vbench.sweep.paper.suite import Line, Suite

ALL = "all"

_REBUTTAL = "rebuttal of FSAM-UAP"
_FULL = Line("FSAM-UAP", "fsam_uap", published="fsam_uap")


def _switches(fsam: bool, sfm: bool, aqal: bool) -> dict[str, str]:
    return {"fsam": str(fsam).lower(), "sfm": str(sfm).lower(), "aqal": str(aqal).lower()}


def _ablated(fsam: bool, sfm: bool, aqal: bool) -> Line:
    parts = ["noise"]
    parts += [name for name, on in (("FSAM", fsam), ("SFM", sfm), ("AQAL", aqal)) if on]
    name = " + ".join(parts)
    whole = fsam and sfm and aqal
    return Line(
        name,
        "fsam_uap",
        _switches(fsam, sfm, aqal),
        published="fsam_uap" if whole else f"fsam_uap: {name}",
    )


#: Both modules are used whatever the preset: without them there would be nothing to compare.
_MODULES = {"fsam": "true", "sfm": "true"}


def _at_block(number: int) -> Line:
    return Line(f"block{number}", "fsam_uap", _MODULES, block=number)


COMPARISON = Suite(
    "comparison",
    "comparison with other attacks",
    (
        Line("noise", "noise"),
        Line("FGSM", "fgsm", published="fgsm"),
        Line("PGD", "pgd"),
        Line("UAP", "uap", published="uap"),
        _FULL,
    ),
    source=_REBUTTAL,
)

SYSTEMS = Suite(
    "systems",
    "systems before and after the attack",
    (_FULL,),
    source=_REBUTTAL,
    victims=("agw", "ddag", "mrcn"),
    across=True,
)

ABLATION = Suite(
    "ablation",
    "ablation of FSAM, SFM and AQAL",
    (
        _ablated(False, False, False),
        _ablated(True, False, False),
        _ablated(False, True, False),
        _ablated(False, False, True),
        _ablated(True, True, False),
        _ablated(True, False, True),
        _ablated(False, True, True),
        _ablated(True, True, True),
    ),
    source="FSAM-UAP (NeurIPS 2024), ablation",
)

BLOCKS = Suite(
    "blocks",
    "where the modules sit",
    (
        *(_at_block(number) for number in range(5)),
        Line("all blocks", "fsam_uap", {**_MODULES, "stages": "all"}, published="fsam_uap"),
    ),
    source=_REBUTTAL,
    notes=("block0 is the victim's stem, block1 its first stage; see vbench describe victim.",),
)

ATTENTION = Suite(
    "attention",
    "kinds of attention",
    (
        Line("SE", "fsam_uap", {**_MODULES, "attention": "se"}, published="fsam_uap: SE in place of FSAM"),
        Line("ECA", "fsam_uap", {**_MODULES, "attention": "eca"}, published="fsam_uap: ECA in place of FSAM"),
        Line("FSAM", "fsam_uap", {**_MODULES, "attention": "cbam_spatial"}, published="fsam_uap"),
    ),
    source="FSAM-UAP (NeurIPS 2024), comparison of attention",
)

SUITES = {suite.name: suite for suite in (COMPARISON, SYSTEMS, ABLATION, BLOCKS, ATTENTION)}


def suites_called(name: str) -> tuple[Suite, ...]:
    """The suite with a name, or all for "all"; raises :class:`BadInput` for an unknown name."""
    if name == ALL:
        return tuple(SUITES.values())
    if name not in SUITES:
        raise unknown_name("suite of the paper", name, (*SUITES, ALL))
    return (SUITES[name],)
