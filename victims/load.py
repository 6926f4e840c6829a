"""Builds a victim from a name or a weights file; ``vbench victims convert``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vbench.core import __version__
from vbench.core.errors import BadInput, VbenchError, shortened
from vbench.core.files import split_entry
from vbench.core.types import SIMILARITIES
from vbench.victims.base import Victim, accepts_generator, option_names
from vbench.victims.checkpoint import check_state, sha256_of, write_checkpoint
from vbench.victims.from_file import is_regdb, victim_from_file
from vbench.victims.make import check_options, make_victim


def load_victim(
    name: str,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    device: str | torch.device = "auto",
    allow_code: bool = False,
    **options: Any,
) -> Victim:
    """Build the victim called ``name`` in evaluation mode; see :func:`build_victim`."""
    from vbench.victims.registry import victims

    return build_victim(victims.load(name), weights, num_classes, device, allow_code=allow_code, **options)


def build_victim(
    victim_class: type[Victim],
    weights: str | Path | None = None,
    num_classes: int | None = None,
    device: str | torch.device = "auto",
    generator: torch.Generator | None = None,
    allow_code: bool = False,
    **options: Any,
) -> Victim:
    """Build a victim in evaluation mode on ``device`` ("auto": a GPU if there is one).

    ``weights`` is the authors' unchanged released file, a plain state dict of this victim, or a
    ``.safetensors`` of ``vbench train``, whose stored options are used unless given here. Names may be those
    inside a wrapper (``module.``, ``model.``, ...). The number of classes is read from the classifier of a
    released layout, else it is the number that makes all tensors fit. Without weights the initial weights
    come from ``generator`` or a fixed seed. Afterwards ``victim.weights_metadata`` holds the file's metadata
    ({} without weights), for a released one with the training split if classifier and file name determine it,
    and under "notes" choices made while reading it, which are also printed on standard error.

    Raises BadInput for an unknown option, a file of another victim, a tensor that is missing, unexpected, of
    another shape or not finite, a ``num_classes`` that contradicts the file, a victim that
    :func:`vbench.victims.load.check_victim` refuses, and a model file that is a program without
    ``allow_code``.
    """
    if victim_class.runs_code and not allow_code:
        raise BadInput(
            f"victim '{victim_class.name}' is a program; running it runs its code. If it is yours, give "
            "--allow-code (in Python: allow_code=True)"
        )
    if weights is not None and hasattr(victim_class, "file"):
        raise BadInput(f"victim '{victim_class.name}' has its weights in its file; leave {weights} out")
    check_options(victim_class, options)
    if num_classes is not None and "num_classes" in option_names(victim_class):
        options["num_classes"] = num_classes
    if accepts_generator(victim_class):
        options["generator"] = generator
    if weights is None:
        victim = make_victim(victim_class, options)
    else:
        victim = victim_from_file(victim_class, options, weights)
    check_victim(victim)
    if num_classes not in (None, victim.num_classes):
        raise BadInput(
            f"victim '{victim.name}' knows {victim.num_classes} identities, whatever num_classes is given; "
            "leave it out"
        )
    return victim.to(resolve_device(device)).eval()


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn "auto", "cpu", "cuda", "cuda:1" into an available device; BadInput otherwise."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        if resolved.type == "mps":
            raise BadInput("device 'mps': rankings need float64, which it does not have; use cpu or auto")
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        raise BadInput(f"device '{device}' is not available here; use cpu or auto") from error
    return resolved


_CHUNK = 1 << 20


def convert_checkpoint(
    file: Path, victim: str, out: Path, split: str | None = None, options: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Read a released ``file``, check it tensor by tensor, and write ``out`` (``.safetensors``).

    Only tensors that the network uses are written. Returns the metadata of the new file: victim, options,
    split (``split``, or from the file), SHA-256 of the old file and of the tensors, other content of the old
    file. Raises BadInput as :func:`load_victim` does, for a RegDB file whose split is not known, and for a
    ``split`` that contradicts the file's name.
    """
    loaded = load_victim(victim, file, device="cpu", **(options or {}))
    rest = dict(loaded.weights_metadata)
    known = rest.pop("split", None)
    if "victim" in rest:
        raise BadInput(f"{file}: this is a file of vbench already; nothing to convert")
    if split and known and split != known:
        raise BadInput(f"--split {split}: the name of {file} says {known}")
    if is_regdb(loaded.num_classes) and not (split or known):
        raise BadInput(
            f"{file}: RegDB has ten splits with different training identities and the file's name does not "
            "say which; give --split regdb/trial-N"
        )
    state = loaded.state_dict()
    metadata = {
        "schema": 1,
        "victim": loaded.name,
        "options": loaded.describe(),
        "split": split or known,
        "released": {"file": file.name, "sha256": _sha256(split_entry(file)[0]), "beside": rest},
        "sha256": sha256_of(state),
        "vbench": __version__,
    }
    write_checkpoint(out, state, metadata)
    return metadata


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


_FILTERS = ("lanczos", "bilinear")


def check_victim(victim: Victim) -> None:
    """Raise BadInput, in one line, for a victim that could not be run, identified or saved.

    Required: attributes of the right types, JSON-able options, weights with values on a single device, and a
    state dict of tensors only.
    """
    name = getattr(victim, "name", None)
    if not isinstance(name, str) or not name:
        raise BadInput(f"victim {type(victim).__name__} has no name; give its class a text 'name'")
    owner = f"victim '{shortened(name)}'"
    _check_attributes(victim, owner)
    _check_weights(victim, owner)
    try:
        state = victim.state_dict()
    except Exception as error:  # a victim's own code may fail in any way
        raise BadInput(
            f"{owner}: it has no state dict ({type(error).__name__}: {shortened(str(error))})"
        ) from error
    check_state(state, owner)
    try:
        json.dumps(victim.describe())
    except VbenchError:
        raise
    except Exception as error:
        raise BadInput(
            f"{owner}: its options must be plain values (JSON), {shortened(str(error))}"
        ) from error


def _check_attributes(victim: Victim, owner: str) -> None:
    def check(attribute: str, meaning: str, is_right: bool) -> None:
        if not is_right:
            value = getattr(victim, attribute, None)
            found = (
                f"not {shortened(repr(value), 60)}" if hasattr(victim, attribute) else "and it is not there"
            )
            raise BadInput(f"{owner}: its attribute '{attribute}' must be {meaning}, {found}")

    def given(attribute: str) -> Any:
        return getattr(victim, attribute, None)

    size, stages = given("input_size"), given("stages")
    check(
        "input_size",
        "(height, width) in pixels",
        _is_sequence(size) and len(size) == 2 and all(map(_counts, size)),
    )
    check(
        "num_classes",
        "the number of training identities, 0 without a classifier",
        _counts(given("num_classes"), 0),
    )
    if hasattr(victim, "embedding_dim"):
        check("embedding_dim", "the length of its embedding", _counts(victim.embedding_dim))
    check("similarity", f"one of {', '.join(SIMILARITIES)}", given("similarity") in SIMILARITIES)
    check("resize_filter", f"one of {', '.join(_FILTERS)}", given("resize_filter") in _FILTERS)
    named = _is_sequence(stages) and all(isinstance(one, str) for one in stages)
    check("stages", "different names in a tuple, () for none", named and len(set(stages)) == len(stages))


def _check_weights(victim: nn.Module, owner: str) -> None:
    tensors = [*victim.parameters(), *victim.buffers()]
    if any(nn.parameter.is_lazy(tensor) for tensor in tensors):
        raise BadInput(f"{owner}: it has lazy parameters without a shape; send one batch through it first")
    devices = sorted({str(tensor.device) for tensor in tensors})
    if len(devices) > 1:
        raise BadInput(f"{owner}: its weights lie on {' and '.join(devices)}; bring them to one device")
    if devices == ["meta"]:
        raise BadInput(f"{owner}: its weights have no values (meta device); load weights first")


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _counts(value: object, least: int = 1) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least
