"""Synthetic people, written to disk in the folder layouts of SYSU-MM01, RegDB and LLCM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vbench.data.synthetic.write import write_dataset

__all__ = ["write_dataset"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from vbench.data.synthetic import write

        return getattr(write, name)
    raise AttributeError(name)
