"""Synthetic people, written to disk in the folder layouts of SYSU-MM01, RegDB and LLCM."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_dataset"]


def write_dataset(
    layout: str,
    out: Path,
    ids: int,
    seed: int,
    size: tuple[int, int],
    test_ids: int | None = None,
    quiet: bool = False,
) -> Path:
    """Write a synthetic dataset; see :func:`vbench.data.synthetic.write.write_dataset`.

    The generator and NumPy are imported on the first call.
    """
    from vbench.data.synthetic.write import write_dataset as write

    return write(layout, out, ids=ids, seed=seed, size=size, test_ids=test_ids, quiet=quiet)
