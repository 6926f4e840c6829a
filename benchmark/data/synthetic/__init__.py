"""Synthetic images of persons, written to disk in the folder layouts of SYSU-MM01, RegDB and LLCM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vbench.core import lazy

if TYPE_CHECKING:
    from vbench.data.synthetic.write import write_dataset

__all__ = ["write_dataset"]

__getattr__ = lazy(__name__, {"write_dataset": "write"})
