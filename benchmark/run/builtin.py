"""Weights of thin victims for synthetic data: shipped, or trained once and kept in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vbench.victims as victims_package
from vbench.core.errors import BadInput
from vbench.core.files import lock_of
from vbench.core.progress import say
from vbench.core.source import code_card
from vbench.data.base import Dataset
from vbench.victims.registry import victims

#: The number of threads determines the order of float sums, and so the weights; fixed, so that they do not
#: depend on the number of cores.
_TRAINING_THREADS = 2
#: A GPU or another precision would give different weights under the same name.
_DEVICE, _PRECISION = "cpu", "float32"

#: Weights of the default victim, shipped because training gives different weights on different CPUs.
_SHIPPED = Path(victims_package.__file__).parent / "weights"

if TYPE_CHECKING:
    from vbench.victims.base import Victim
    from vbench.victims.build import VictimSpec


def thin_path(spec: VictimSpec, dataset: Dataset, cache: Path, size: Sequence[int], seed: int = 0) -> Path:
    """The path of the weights of :func:`thin_weights`: shipped with vbench, or in the cache."""
    name = _thin_name(spec, dataset, size, seed)
    shipped = _SHIPPED / name
    return shipped if shipped.is_file() else cache / "victims" / name


def _thin_name(spec: VictimSpec, dataset: Dataset, size: Sequence[int], seed: int) -> str:
    """A file name with a hash of all that the weights depend on: options, recipe, images, split, seed."""
    from vbench.victims.training.trainer import recipe_of

    victim = _thin(spec, len(dataset.train_labels), size)
    key = {
        "victim": victim.name,
        "options": {k: v for k, v in victim.describe().items() if k not in victim.SETTINGS},
        "recipe": asdict(recipe_of(victim)),
        "data": (dataset.root / "vbench-synthetic.json").read_text(),
        "split": dataset.split,
        "seed": seed,
        # For a plugin's victim, the hash of its code.
        **{name: value for name, value in code_card(victim).items() if name == "source"},
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    return f"{victim.name}-{digest}.safetensors"


def thin_weights(
    spec: VictimSpec,
    dataset: Dataset,
    cache: Path,
    size: Sequence[int],
    seed: int = 0,
    quiet: bool = False,
) -> Path:
    """Weights of a thin victim for a synthetic dataset: shipped, or trained on first use and cached.

    Trained on the training identities, by the victim's own recipe, with the options of ``spec`` that affect
    weights, always on the CPU in float32. A cached file that is damaged, or was trained differently, is
    replaced. Raises :class:`BadInput` for a victim without a thin variant.
    """
    path = thin_path(spec, dataset, cache, size, seed)
    if path.parent == _SHIPPED:
        return path
    from vbench.victims.training.batches import load_train_images
    from vbench.victims.training.trainer import UnusableState, state_path, train_victim

    victim = _thin(spec, len(dataset.train_labels), size)
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock_of(path):
        if not _intact(path, quiet):
            say(
                f"training a thin {victim.name} on the synthetic set (once; then kept in {path.parent})",
                quiet,
            )
            images = load_train_images(
                dataset, size, victim.resize_filter, cache_dir=cache / "images", quiet=quiet
            )
            train = partial(
                train_victim,
                victim,
                dataset,
                images,
                seed=seed,
                out=path,
                quiet=quiet,
                device=_DEVICE,
                precision=_PRECISION,
            )
            with threads(_TRAINING_THREADS):
                try:
                    train()
                except UnusableState:
                    say(f"{state_path(path)}: cannot be resumed; starting over", quiet)
                    train(resume=False)
    return path


def _intact(path: Path, quiet: bool) -> bool:
    """Whether a cached weights file exists, is undamaged, and was trained on the CPU in float32."""
    from vbench.victims.checkpoint import read_checkpoint, sha256_of

    if not path.is_file():
        return False
    try:
        found = read_checkpoint(path)
    except BadInput as error:
        say(f"{error}: training again", quiet)
        return False
    # Files of earlier versions may lack these fields.
    if found.metadata.get("sha256") not in (None, sha256_of(found.state)):
        say(f"{path}: not the weights that were written: training again", quiet)
        return False
    device, precision = (
        found.metadata.get("device", _DEVICE),
        found.metadata.get("precision", "torch.float32"),
    )
    if (device, precision) != (_DEVICE, f"torch.{_PRECISION}"):
        say(f"{path}: trained on {device} in {precision}: training again on the CPU in float32", quiet)
        return False
    return True


def untrained(spec: VictimSpec, size: Sequence[int]) -> Victim:
    """The thin victim that :func:`thin_weights` would train for images of ``size``, with two classes."""
    return _thin(spec, 2, size, spec.settings)


def _thin(
    spec: VictimSpec, classes: int, size: Sequence[int], settings: Mapping[str, Any] | None = None
) -> Victim:
    cls = victims.load(spec.name)
    options = getattr(cls, "THIN", None)
    if options is None:
        raise BadInput(f"victim '{spec.name}' has no thin variant for synthetic data; give --weights")
    wanted = {name: value for name, value in spec.options.items() if name not in spec.settings}
    from vbench.victims.base import with_classes
    from vbench.victims.make import make_victim

    given = {**options, "input_size": tuple(size), **wanted, **(settings or {})}
    return make_victim(cls, with_classes(cls, given, classes))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads inside the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
