"""What a data set may be called: drawn, a layout, an installed reader, or a reader given by path."""

from __future__ import annotations

from typing import Any

from vbench.data.protocols import LAYOUTS
from vbench.errors import BadInput, unknown_name

#: Drawn people, which need no folder.
SYNTHETIC = "synthetic"


def check_name(name: Any) -> str:
    """The name again; :class:`BadInput` for one that nothing answers to. Imports no reader."""
    from vbench.data.registry import datasets

    if not isinstance(name, str):
        raise BadInput(f"a dataset is a name or an open Dataset, not {type(name).__name__}")
    if name not in (SYNTHETIC, *LAYOUTS) and ":" not in name and name not in datasets.names():
        raise unknown_name("dataset", name, (SYNTHETIC, *LAYOUTS, *datasets.names()))
    return name
