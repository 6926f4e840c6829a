"""Escape text for a terminal; write durations, counts and long lists."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Candidates for escaping: everything but printable ASCII.
_SUSPECT = re.compile(r"[^ -~]")


def one_line(text: str) -> str:
    r"""Text in one line, non-printable characters escaped.

    >>> one_line("a\nb \x1b[31m")
    'a\\nb \\x1b[31m'
    """
    if text.isprintable():
        return text
    return _SUSPECT.sub(lambda found: found[0] if found[0].isprintable() else _escape(found[0]), text)


def lines(text: str) -> str:
    """Text of several lines with non-printable characters escaped; line breaks stay."""
    return text if text.isprintable() else "\n".join(map(one_line, text.split("\n")))


def json_text(text: str) -> str:
    r"""Equivalent JSON in which control characters are escaped: ``\u001b`` and the like."""
    return text if text.isprintable() else "\n".join(map(_json_line, text.split("\n")))


def _json_line(text: str) -> str:
    return text if text.isprintable() else _SUSPECT.sub(_json_escape, text)


def _json_escape(found: re.Match[str]) -> str:
    one = found[0]
    if one.isprintable():
        return one
    units = one.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def _escape(one: str) -> str:
    return one.encode("unicode_escape", "backslashreplace").decode()


def show_seconds(seconds: float) -> str:
    """A duration in seconds, hours and minutes.

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
    """The time left on ``width`` workers for runs of these lengths in seconds, None where not known."""
    if not lengths:
        return "nothing left"
    known = [one for one in lengths if one is not None]
    if not known:
        return unknown
    time = show_seconds(max(sum(known) / max(1, width), max(known)))
    missing = len(lengths) - len(known)
    return f"more than {time} left ({missing} of unknown length)" if missing else f"about {time} left"


def count_of(number: int, what: str) -> str:
    """A number of things: "1 trial", "2 trials"."""
    return f"{number} {what}{'s' if number != 1 else ''}"


def first_of(texts: Sequence[str], most: int, between: str = ", ") -> str:
    """The first few texts, and how many more there are.

    >>> first_of(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return f"{between.join(texts[:most])}{more}"
