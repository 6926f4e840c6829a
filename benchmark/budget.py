"""Reading a perturbation budget: exact fractions, so that 8/255 means eight 8-bit levels and not nearly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from vbench.errors import BadInput, shortened

# Digits and signs of 8/255, 0.03 and 3e-2. An exponent of nine digits would fill all memory.
_NUMBER = re.compile(r"[+-]?[0-9./]{1,100}(e[+-]?[0-9]{1,2})?", re.IGNORECASE)
#: No change of an image in [0, 1] has a Euclidean norm beyond it, up to 5000 x 5000 pixels.
_LARGEST_L2 = 10_000


def read_fraction(text: str) -> Fraction:
    """Exactly the number that a text says, in no time; raises ValueError for anything else.

    >>> read_fraction("3e-2")
    Fraction(3, 100)
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError("not a number")
    try:
        return Fraction(text)
    except ZeroDivisionError as error:
        raise ValueError("division by zero") from error


def parse_budget(text: str | float | Fraction, norm: str = "linf") -> Fraction:
    """Read a budget such as "8/255" or "0.03", in [0, 1] pixel units.

    Raises :class:`BadInput` for anything that is not a finite positive number, for L_inf budgets above 1,
    which are almost always meant in 8-bit levels, and for others that no image could use.
    """
    try:
        value = text if isinstance(text, Fraction) else read_fraction(str(text).replace(" ", ""))
    except ValueError as error:
        raise BadInput(f"eps '{shortened(str(text))}' is not a number; write it as 8/255 or 0.03") from error
    if value <= 0:
        raise BadInput(f"eps '{text}' must be above 0, for instance 8/255")
    if norm == "linf" and value > 1:
        hint = f"; did you mean {text}/255?" if value <= 255 and "/" not in str(text) else ""
        raise BadInput(f"eps {text} is above 1, the whole pixel range{hint}")
    if value > _LARGEST_L2:
        raise BadInput(f"eps {text} is above {_LARGEST_L2}, more than any image in [0, 1] can change")
    return value


def show_budget(value: Fraction, norm: str = "linf") -> str:
    """Write a budget the way the field does: a bound on a pixel over 255 where that is exact.

    A Euclidean norm is no number of 8-bit levels.

    >>> show_budget(Fraction(8, 255)), show_budget(Fraction(3, 100)), show_budget(Fraction(2), "l2")
    ('8/255', '0.03', '2')
    """
    levels = value * 255
    exact = norm == "linf" and levels.denominator == 1
    return f"{levels}/255" if exact else f"{float(value):g}"


def budget_text(threat: Mapping[str, Any]) -> str:
    """The budget in the card of a threat model, for people; older cards call an L2 budget of 2 "510/255"."""
    text = str(threat["eps"])
    try:
        return show_budget(parse_budget(text, "l2"), "l2") if threat["norm"] == "l2" else text
    except BadInput:
        return text
