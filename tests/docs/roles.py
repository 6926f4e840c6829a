"""A hook of MkDocs: docstrings name things with Sphinx's roles, of which a page shows only the name."""

from __future__ import annotations

import re
from typing import Any


def on_page_content(html: str, **more: Any) -> str:
    """The page without ``:class:`` and its like before code."""
    return re.sub(r":(?:class|func|meth|mod|data|attr):(?=<code)", "", html)
