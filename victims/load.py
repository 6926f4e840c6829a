"""Build a victim by name, with weights from a released or own file."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from vbench.errors import BadInput, shortened, unknown_name
from vbench.plugins import explained
from vbench.victims.base import Victim
from vbench.victims.checkpoint import Checkpoint, read_checkpoint
from vbench.victims.initialise import at_most
from vbench.victims.options import accepts_generator, option_names
from vbench.victims.recognise import refuse_other_models
from vbench.victims.released import OWN_LAYOUT, ReleasedLayout
from vbench.victims.split import released_split

#: Numbers that a victim may have beside those of its file: what a file leaves out is told by name later. A
#: wrong one may be small, and the victim of its full size.
_OWN_SLACK, _SLACK = 1_000_000, 300_000_000
#: Options that count layers, each of which takes time to make; networks have a hundred.
_LAYERS, _MOST_LAYERS = ("blocks", "depth"), 1000
#: What the making of a network raises where its options do not suit it.
_ANY = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


def load_victim(
    name: str,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    device: str | torch.device = "auto",
    **options: Any,
) -> Victim:
    """Build the victim called ``name`` in evaluation mode; see :func:`build_victim`."""
    from vbench.registry import victims

    return build_victim(victims.load(name), weights, num_classes, device, **options)


def build_victim(
    victim_class: type[Victim],
    weights: str | Path | None = None,
    num_classes: int | None = None,
    device: str | torch.device = "auto",
    generator: torch.Generator | None = None,
    **options: Any,
) -> Victim:
    """Build a victim in evaluation mode on ``device`` ("auto": a GPU if there is one).

    ``weights`` is the authors' released file unchanged, or a ``.safetensors`` of ``vbench train``, whose
    stored options are used unless given here. The number of classes is read from the file. Without weights
    the starting weights come from ``generator`` or a fixed seed. ``victim.weights_metadata`` afterwards
    holds what the file says about itself ({} without weights), for a released one with the training split
    where classifier and file name tell it.

    Raises BadInput for an unknown option, a file of another victim, a tensor that is missing, unexpected or
    of another shape, or a ``num_classes`` that contradicts the file.
    """
    _check_options(victim_class, options)
    checkpoint = read_checkpoint(Path(weights)) if weights is not None else None
    if checkpoint is not None:
        if not _is_own(checkpoint):
            refuse_other_models(victim_class, checkpoint.state, str(weights))
        options = {**_stored_options(victim_class, checkpoint, weights), **options}
        num_classes = _agree_on_classes(victim_class, checkpoint, num_classes, weights)
    if num_classes is not None:
        options["num_classes"] = num_classes
    if accepts_generator(victim_class):
        options["generator"] = generator
    with explained(f"victim '{victim_class.name}'", victim_class):
        victim = (
            victim_class(**options)
            if checkpoint is None
            else _fitting(victim_class, options, checkpoint, weights)
        )
    if checkpoint is not None:
        layout = _layout(victim_class, checkpoint)
        victim.load_state_dict(layout.translate(checkpoint.state, victim.state_dict(), str(weights)))
        victim.weights_metadata = _metadata(checkpoint, Path(weights), victim.num_classes)
    return victim.to(resolve_device(device)).eval()


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn "auto", "cpu", "cuda", "cuda:1", "mps" into a device that is there; BadInput otherwise."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        raise BadInput(f"device '{device}' is not available here; use cpu or auto") from error
    return resolved


def _fitting(
    victim_class: type[Victim], options: dict[str, Any], checkpoint: Checkpoint, weights: str | Path
) -> Victim:
    """Build a victim for a file, whose options may say anything: no more of it than the file could fill."""
    held, tensors = sum(tensor.numel() for tensor in checkpoint.state.values()), len(checkpoint.state)
    try:
        with at_most(2 * held + (_OWN_SLACK if _is_own(checkpoint) else _SLACK)):
            return victim_class(**options)
    except BadInput as error:
        raise BadInput(f"{weights}: {error}") from error
    except _ANY as error:
        reason = shortened(str(error))
        raise BadInput(
            f"{weights}: what it says of itself, with {held:,} numbers in {tensors} tensors, makes no "
            f"{victim_class.name} ({reason})"
        ) from error


def _is_own(checkpoint: Checkpoint) -> bool:
    return "victim" in checkpoint.metadata


def _metadata(checkpoint: Checkpoint, path: Path, num_classes: int) -> dict[str, Any]:
    if _is_own(checkpoint):
        return checkpoint.metadata
    split = released_split(path, num_classes)
    return {**checkpoint.metadata, **({"split": split} if split else {})}


def _layout(victim_class: type[Victim], checkpoint: Checkpoint) -> ReleasedLayout:
    return OWN_LAYOUT if _is_own(checkpoint) else victim_class.released or OWN_LAYOUT


def _stored_options(
    victim_class: type[Victim], checkpoint: Checkpoint, weights: str | Path
) -> dict[str, Any]:
    if not _is_own(checkpoint):
        return _released_options(victim_class, checkpoint, weights)
    stored = checkpoint.metadata["victim"]
    if stored != victim_class.name:
        named = shortened(str(stored))
        raise BadInput(f"{weights}: weights of victim '{named}', not of '{victim_class.name}'")
    options = _own_options(checkpoint, weights)
    options.pop("num_classes", None)
    try:
        _check_options(victim_class, options)
    except BadInput as error:
        raise BadInput(f"{weights}: {error}") from error
    _check_types(victim_class, options, weights)
    return options


def _released_options(
    victim_class: type[Victim], checkpoint: Checkpoint, weights: str | Path
) -> dict[str, Any]:
    try:
        return victim_class.released_options(checkpoint.state)
    except _ANY as error:  # tensors of the right names may have any shape
        raise BadInput(f"{weights}: its tensors lack the shapes of {victim_class.name}") from error


def _own_options(checkpoint: Checkpoint, weights: str | Path) -> dict[str, Any]:
    options = checkpoint.metadata.get("options", {})
    if not isinstance(options, dict):
        raise BadInput(f"{weights}: the options in its header are no JSON object")
    return dict(options)


def _check_types(victim_class: type[Victim], options: dict[str, Any], weights: str | Path) -> None:
    hints = typing.get_type_hints(victim_class.__init__)
    for name, value in options.items():
        try:
            TypeAdapter(hints.get(name, Any)).validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise BadInput(f"{weights}: its option {name}={shortened(repr(value), 60)}: {reason}") from error
    for name in _LAYERS:
        counts = options.get(name, ())
        if max(counts if isinstance(counts, list) else [counts or 0], default=0) > _MOST_LAYERS:
            raise BadInput(f"{weights}: its option {name} is above {_MOST_LAYERS}")


def _agree_on_classes(
    victim_class: type[Victim], checkpoint: Checkpoint, wanted: int | None, weights: str | Path
) -> int | None:
    stored = _stored_classes(victim_class, checkpoint, weights)
    if stored is not None and wanted is not None and wanted != stored:
        raise BadInput(f"{weights}: its classifier knows {stored} identities, not {wanted}; another split?")
    return wanted if stored is None else stored


def _stored_classes(victim_class: type[Victim], checkpoint: Checkpoint, weights: str | Path) -> int | None:
    """Number of identities a file was trained on; None for a foreign file of a victim that cannot tell."""
    if _is_own(checkpoint):
        stored = _own_options(checkpoint, weights).get("num_classes")
        if stored is not None and (not isinstance(stored, int) or stored < 0):
            raise BadInput(f"{weights}: its header says {shortened(repr(stored), 60)} identities")
        return stored
    if victim_class.released is None:
        return None
    return victim_class.released.num_classes(checkpoint.state, str(weights))


def _check_options(victim_class: type[Victim], options: dict[str, Any]) -> None:
    known = [name for name in option_names(victim_class) if name != "num_classes"]
    for name in options:
        if name not in known:
            raise unknown_name(f"option of victim {victim_class.name}", name, known)
