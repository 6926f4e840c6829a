"""Lengths of time in words."""

from __future__ import annotations

from collections.abc import Sequence


def show_seconds(seconds: float) -> str:
    """Seconds in words.

    >>> show_seconds(3.21), show_seconds(75), show_seconds(7300)
    ('3.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def show_left(lengths: Sequence[float | None], width: int = 1, unknown: str = "time left unknown") -> str:
    """What runs of these lengths in seconds, None where it is not known, need on ``width`` workers."""
    if not lengths:
        return "nothing left"
    known = [one for one in lengths if one is not None]
    if not known:
        return unknown
    told = show_seconds(max(sum(known) / max(1, width), max(known)))
    missing = len(lengths) - len(known)
    return f"more than {told} left ({missing} of unknown length)" if missing else f"about {told} left"
