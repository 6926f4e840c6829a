"""What the file of published figures calls the attack of a record."""

from __future__ import annotations

from vbench.record import Record

_SWITCHES = {"fsam": "FSAM", "sfm": "SFM", "aqal": "AQAL"}
_IN_PLACE = {"se": "SE", "eca": "ECA"}


def printed_name(record: Record) -> str:
    """The ``attack`` of :class:`vbench.reports.published.Published` that a record is about, empty for none.

    Mostly the attack's name, whatever its settings: those behind a printed figure are unknown. Of
    ``fsam_uap`` the rows of the paper's ablation and of its comparison of attention are told apart by the
    settings they name; a variant that no row of the paper is about has nothing.
    """
    attack = record.config["attack"]
    settings = attack.get("settings", {})
    return _of_fsam(settings) if attack["name"] == "fsam_uap" and settings else attack["name"]


def _of_fsam(settings: dict[str, object]) -> str:
    on = [name for switch, name in _SWITCHES.items() if settings.get(switch, True)]
    if not settings.get("identity", True) or settings.get("reading", "quadruple") != "quadruple":
        return ""
    attention = settings.get("attention", "cbam_spatial")
    if attention in _IN_PLACE and len(on) == len(_SWITCHES):
        return f"fsam_uap: {_IN_PLACE[attention]} in place of FSAM"
    modules = settings.get("fsam", True) or settings.get("sfm", True)
    if attention != "cbam_spatial" and modules:
        return ""
    return "fsam_uap" if len(on) == len(_SWITCHES) else f"fsam_uap: {' + '.join(['noise', *on])}"
