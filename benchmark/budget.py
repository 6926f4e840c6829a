"""Reading a perturbation budget: exact fractions, so that 8/255 means eight 8-bit levels and not nearly."""

from __future__ import annotations

from fractions import Fraction

from vbench.errors import BadInput


def parse_budget(text: str | float | Fraction, norm: str = "linf") -> Fraction:
    """Read a budget such as "8/255" or "0.03", in [0, 1] pixel units.

    Raises :class:`BadInput` for anything that is not a finite positive number, and for L_inf budgets above
    1, which are almost always meant in 8-bit levels.
    """
    try:
        value = Fraction(str(text).replace(" ", ""))
    except (ValueError, ZeroDivisionError) as error:
        raise BadInput(f"eps '{text}' is not a number; write it as 8/255 or 0.03") from error
    if value <= 0:
        raise BadInput(f"eps '{text}' must be above 0, for instance 8/255")
    if norm == "linf" and value > 1:
        hint = f"; did you mean {text}/255?" if value <= 255 else ""
        raise BadInput(f"eps {text} is above 1, the whole pixel range{hint}")
    return value


def show_budget(value: Fraction) -> str:
    """Write a budget the way the field does: over 255 where that is exact or where it came from levels.

    >>> show_budget(Fraction(8, 255)), show_budget(Fraction(3, 100))
    ('8/255', '0.03')
    """
    levels = value * 255
    return f"{levels}/255" if levels.denominator == 1 else f"{float(value):g}"
