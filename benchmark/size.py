"""Reading an image size from text."""

from __future__ import annotations

import re

from vbench.errors import BadInput, shortened

#: Of drawn images that a file asks for; pictures of people are a tenth of it.
LARGEST_SIDE = 4096


def parse_size(text: str) -> tuple[int, int]:
    """Turn "64x32" into (64, 32), height first; :class:`BadInput` for anything else.

    >>> parse_size("64x32")
    (64, 32)
    """
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text.strip().lower())
    if match is None or not int(match[1]) or not int(match[2]):
        raise BadInput(f"size {shortened(repr(text))} is not HEIGHTxWIDTH in pixels, such as 64x32")
    return int(match[1]), int(match[2])
