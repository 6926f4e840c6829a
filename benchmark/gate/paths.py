"""Where a baseline's files are: beside it, anywhere, or drawn again."""

from __future__ import annotations

import json
import os
from pathlib import Path

from vbench.data.open import is_synthetic
from vbench.data.synthetic.write import GENERATOR_VERSION, MANIFEST
from vbench.defaults import SyntheticSet
from vbench.folders import cache_folder
from vbench.gate.baseline import Baseline
from vbench.request import Request


def stored(request: Request, folder: Path) -> tuple[Request, SyntheticSet | None]:
    """A request as a baseline in ``folder`` keeps it: relative paths as seen from there, absolute as given.

    A synthetic set is kept as its parameters, which is second.
    """
    drawn = _drawn(request.root) if request.root else None
    changes = {
        "root": None if drawn or request.root is None else _seen_from(folder, request.root),
        "weights": _seen_from(folder, request.weights) if request.weights else None,
        "surrogate_weights": tuple(_seen_from(folder, path) for path in request.surrogate_weights),
    }
    return request.model_copy(update=changes), drawn


def resolved(
    baseline: Baseline, folder: Path, root: Path | None, weights: Path | None, quiet: bool = False
) -> Request:
    """The request of a baseline that lies in ``folder``, ready to be run; a drawn set is there afterwards.

    ``root`` and ``weights`` take the place of the baseline's.
    """
    request = baseline.request
    if root is None:
        root = folder / request.root if request.root else None
        if baseline.drawn is not None:
            root = baseline.drawn.write(cache_folder(), quiet)
    if weights is None and request.weights:
        weights = folder / request.weights
    surrogates = tuple(folder / path for path in request.surrogate_weights)
    return request.model_copy(update={"root": root, "weights": weights, "surrogate_weights": surrogates})


def _seen_from(folder: Path, path: Path) -> Path:
    return path if path.is_absolute() else Path(Path(os.path.relpath(path, folder)).as_posix())


def _drawn(root: Path) -> SyntheticSet | None:
    if not is_synthetic(root):
        return None
    manifest = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    if manifest.pop("generator") != GENERATOR_VERSION:
        return None
    return SyntheticSet(**{**manifest, "size": tuple(manifest["size"])})
