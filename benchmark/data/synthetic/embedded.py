"""The built-in synthetic data set, written to the cache on first use."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from vbench.core.files import check_writable, lock_of
from vbench.core.progress import say
from vbench.data.protocols import check_layout
from vbench.data.synthetic.write import MANIFEST, write_dataset


@dataclass(frozen=True)
class SyntheticSet:
    """Parameters of a synthetic set; ``ids`` training identities, ``test_ids`` unseen ones, size (H, W)."""

    layout: str = "sysu"
    ids: int = 400
    test_ids: int = 48
    seed: int = 0
    size: tuple[int, int] = (64, 32)

    def folder(self, cache: Path) -> Path:
        """The folder of this set in a cache."""
        height, width = self.size
        name = f"{self.layout}-{self.ids}+{self.test_ids}-{height}x{width}-seed{self.seed}"
        return cache / "synthetic" / name

    def write(self, cache: Path, quiet: bool = False) -> Path:
        """Write the set unless it exists; returns its folder. Safe if other processes do the same.

        A set with a damaged manifest is written again. Raises :class:`BadInput` for an unknown layout, and
        where nothing may be written.
        """
        # Checked first, because the layout is part of the folder's name.
        check_layout(self.layout)
        folder = self.folder(cache)
        check_writable(folder.parent)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with lock_of(folder):
            _clear(folder, quiet)
            return write_dataset(
                self.layout, folder, self.ids, self.seed, self.size, test_ids=self.test_ids, quiet=quiet
            )


def _clear(folder: Path, quiet: bool) -> None:
    """Remove a damaged set, and unfinished copies of killed processes; the caller holds the lock."""
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    try:
        json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        say(f"{folder} is damaged: writing the synthetic set again", quiet)
        shutil.rmtree(folder)
