"""Is the budget one, and did the images keep it?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

from vbench.budget import budget_text, parse_budget, show_budget
from vbench.errors import BadInput
from vbench.record import Record
from vbench.threat import ThreatModel

_FIGURES = ("linf_levels", "l2", "psnr_db", "ssim", "changed_share")
#: Stored figures went through 32-bit floats.
_ROUNDING = 1e-4
#: What the threat model itself allows a float image beyond its budget.
_FLOAT_SLACK = 1e-5


def stated(record: Record) -> Iterator[str]:
    """The threat card is that of a threat model."""
    card = record.config["threat"]
    try:
        text = parse_budget(card["eps"], card["norm"])
        _threat(record)
    except BadInput as error:
        yield f"config.threat: {error}"
        return
    known = {show_budget(text, card["norm"]), *([show_budget(text)] if record.older else [])}
    if card["eps"] not in known:
        yield f"config.threat.eps: {card['eps']}, is written {show_budget(text, card['norm'])}"
    # A decimal is written with six digits.
    if abs(float(text) - card["eps_value"]) > 1e-5 * card["eps_value"]:
        yield f"config.threat.eps_value: {card['eps_value']}, eps {card['eps']} is {float(text)}"


def kept(record: Record) -> Iterator[str]:
    """The recorded size of the change is possible, and within the budget."""
    size, threat = record.size, _threat(record)
    absent = [name for name in _FIGURES if name not in size]
    if absent:
        yield f"size.{absent[0]}: absent; without it the budget cannot be checked"
        return
    levels = size["linf_levels"]
    if threat.norm == "linf":
        allowed = threat.levels if threat.quantize else 255 * (float(threat.eps) + _FLOAT_SLACK)
        if levels > allowed + 1e-3:
            eps = budget_text(record.config["threat"])
            yield f"size.linf_levels: {levels:.4g} levels, the budget {eps} allows {allowed:.4g}"
    elif size["l2"] > float(threat.eps) + _FLOAT_SLACK:
        yield f"size.l2: {size['l2']:.6g} on average, the budget allows {float(threat.eps):.6g} to an image"
    if threat.quantize and abs(levels - round(levels)) > 1e-3:
        yield f"size.linf_levels: {levels:.6g} is not a whole level, and the images are said to be 8-bit"
    yield from _possible(size)
    yield from _asked(size, threat)
    yield from _together(record)


def _possible(size: dict[str, float]) -> Iterator[str]:
    ranges = {"linf_levels": (0, 255), "psnr_db": (0, 100), "ssim": (-1, 1), "changed_share": (0, 1)}
    for name, (low, high) in {**ranges, "l2": (0, math.inf)}.items():
        if not low - _ROUNDING <= size[name] <= high + _ROUNDING:
            yield f"size.{name}: {size[name]:.6g} lies outside [{low}, {high}]"


def _asked(size: dict[str, float], threat: ThreatModel) -> Iterator[str]:
    """Projecting and rounding make no change larger than what was handed over."""
    asked = size.get("asked")
    if asked is None:
        return
    if threat.norm == "linf":
        most, name, shown = asked * 255 * threat.epsilon + 0.5 * threat.quantize, "linf_levels", "levels"
    else:
        most, name, shown = asked * threat.epsilon, "l2", "in L2"
    if not size[name] <= most + 1e-3:
        yield f"size.asked: {asked:.4g} budgets handed over, and {size[name]:.4g} {shown} shown"


def _together(record: Record) -> Iterator[str]:
    """Bounds between the figures, each from the convexity of one in another over the images."""
    size, pixels = record.size, _values(record)
    if pixels is None:
        return
    largest, l2, changed = size["linf_levels"] / 255, size["l2"], min(size["changed_share"], 1.0)
    most = largest * math.sqrt(pixels * max(changed, 0.0))
    if l2 > most * (1 + _ROUNDING) + _ROUNDING:
        yield f"size.l2: {l2:.6g}, at most {most:.6g} with the stated linf_levels and changed_share"
    if l2 <= 0:
        return
    least = 10 * math.log10(pixels) - 20 * math.log10(l2)
    # Unchanged images count as 100 dB, which bends the bound near there.
    if least < 90 and size["psnr_db"] < least - 0.01:
        yield f"size.psnr_db: {size['psnr_db']:.4g}, at least {least:.4g} with the stated l2"


def _values(record: Record) -> int | None:
    """Values of one image, from the victim's input size."""
    shape = record.config["victim"]["options"].get("input_size")
    if isinstance(shape, list) and len(shape) == 2 and all(type(n) is int and n > 0 for n in shape):
        return 3 * shape[0] * shape[1]
    return None


def _threat(record: Record) -> ThreatModel:
    card = record.config["threat"]
    return ThreatModel(Fraction(card["eps_value"]), card["norm"], card["side"], card["quantize"])
