"""Text that strangers chose, made safe for a terminal: what cannot be seen is written as an escape.

An escape sequence could recolour, retitle or rewrite a terminal, and a character that turns the direction of
a line makes one name pass for another.
"""

from __future__ import annotations

import re

# A quick first look; most texts hold nothing of the kind.
_SUSPECT = re.compile(r"[^ -~]")


def one_line(text: str) -> str:
    r"""Text in one line, as it is but for what cannot be printed.

    >>> one_line("a\nb \x1b[31m")
    'a\\nb \\x1b[31m'
    """
    if text.isprintable():
        return text
    return _SUSPECT.sub(lambda found: found[0] if found[0].isprintable() else _escape(found[0]), text)


def lines(text: str) -> str:
    """The same for text of several lines: line breaks stay."""
    return text if text.isprintable() else "\n".join(map(one_line, text.split("\n")))


def json_text(text: str) -> str:
    r"""JSON that says the same with nothing in it that a terminal would obey: ``\u001b`` and the like."""
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
