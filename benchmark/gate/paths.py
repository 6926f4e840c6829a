"""Where a baseline's files are: beside it, anywhere, or drawn again."""

from __future__ import annotations

import json
import os
from pathlib import Path

from vbench.data.open import is_synthetic
from vbench.data.synthetic.embedded import SyntheticSet
from vbench.data.synthetic.write import GENERATOR_VERSION, MANIFEST
from vbench.errors import BadInput
from vbench.folders import cache_folder
from vbench.gate.baseline import Baseline
from vbench.request import Request
from vbench.size import LARGEST_SIDE

#: Real sets have a thousand.
_MOST_IDS = 100_000


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
            _check_drawn(baseline.drawn)
            root = baseline.drawn.write(cache_folder(), quiet)
    if weights is None and request.weights:
        weights = folder / request.weights
    surrogates = tuple(folder / path for path in request.surrogate_weights)
    return request.model_copy(update={"root": root, "weights": weights, "surrogate_weights": surrogates})


def _check_drawn(drawn: SyntheticSet) -> None:
    """A baseline may come from anywhere, and a set is drawn unasked."""
    ids, side = max(drawn.ids, drawn.test_ids), max(drawn.size)
    if ids > _MOST_IDS or side > LARGEST_SIDE or min(drawn.ids, drawn.test_ids, *drawn.size) < 1:
        raise BadInput(
            f"the baseline's drawn set has {ids} identities in images of {side} pixels; name a --root"
        )


def _seen_from(folder: Path, path: Path) -> Path:
    return path if path.is_absolute() else Path(Path(os.path.relpath(path, folder)).as_posix())


def _drawn(root: Path) -> SyntheticSet | None:
    if not is_synthetic(root):
        return None
    try:
        manifest = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
        if manifest.pop("generator") != GENERATOR_VERSION:
            return None
        return SyntheticSet(**{**manifest, "size": tuple(manifest["size"])})
    except (OSError, RecursionError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise BadInput(f"{root / MANIFEST} is not what drew this set; draw it again") from error
