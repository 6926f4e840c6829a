"""Names that strangers chose, as they may be printed and published."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from vbench.printable import one_line

_LONGEST_SLUG = 70


def shown_roots(roots: Sequence[Path]) -> list[str]:
    """What to call each folder: the shortest end of its path that no other one shares.

    A whole path would tell where on whose machine the site was made.
    """
    parts = [root.resolve().parts[1:] or ("folder",) for root in roots]
    depth = 1
    while True:
        names = [one_line("/".join(one[-depth:])) for one in parts]
        clear = all(parts[i] == parts[j] for i, one in enumerate(names) for j in range(i) if one == names[j])
        if clear or depth > max(map(len, parts)):
            return names
        depth += 1


class Slugs:
    """File names made of what strangers chose: ASCII letters, digits and hyphens, each text its own.

    A text that is such a name already keeps it; any other gets part of its hash, so that names stay the same
    whatever else is on the site.
    """

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def of(self, text: str) -> str:
        """The name for a text; the same text always gets the same."""
        digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
        name = re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")[:_LONGEST_SLUG].strip("-")
        if not name or name != text:
            name = f"{name}-{digest[:8]}" if name else digest[:8]
        if self._texts.setdefault(name, text) != text:
            name = f"{name}-{digest}"
            self._texts[name] = text
        return name
