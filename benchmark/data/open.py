"""One door to every data set: layout, folder and protocol in, :class:`Dataset` out."""

from __future__ import annotations

from pathlib import Path

from vbench.data import llcm, regdb, sysu
from vbench.data.base import SYNTHETIC_MARK, Dataset
from vbench.data.check import checked
from vbench.data.protocols import Protocol, check_layout, default_protocol, parse_protocol
from vbench.errors import BadInput

_READERS = {"sysu": sysu.read_sysu, "regdb": regdb.read_regdb, "llcm": llcm.read_llcm}
_EXPECTED = {"sysu": sysu.EXPECTED, "regdb": regdb.EXPECTED, "llcm": llcm.EXPECTED}


def open_dataset(layout: str, root: Path, protocol: str | None = None) -> Dataset:
    """Read the data set under ``root`` without decoding an image.

    ``layout`` is "sysu", "regdb" or "llcm"; ``protocol`` an id of :func:`all_protocols`, the layout's
    default when None. Raises :class:`BadInput` for an unknown layout or protocol, a protocol of another
    layout, a missing folder, and whatever makes the set unusable.
    """
    root = check_root(layout, root)
    chosen = chosen_protocol(layout, protocol)
    return checked(_READERS[layout](root, chosen, synthetic=is_synthetic(root)))


def chosen_protocol(layout: str, protocol: str | None = None) -> Protocol:
    """The protocol with this id, the layout's default when None; raises as :func:`open_dataset` does."""
    chosen = parse_protocol(default_protocol(layout) if protocol is None else protocol)
    if chosen.layout != layout:
        raise BadInput(
            f"protocol '{chosen}' belongs to '{chosen.layout}', not to '{layout}'; "
            f"try '{default_protocol(layout)}'"
        )
    return chosen


def check_root(layout: str, root: Path) -> Path:
    """Return ``root`` as a path; :class:`BadInput` for an unknown layout or when it is no folder."""
    check_layout(layout)
    root = Path(root)
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise BadInput(f"{root} {what}; '{layout}' expects a folder with {_EXPECTED[layout]}")
    return root


def is_synthetic(root: Path) -> bool:
    """Whether the folder was written by ``vbench data synth``."""
    return (root / SYNTHETIC_MARK).exists()
