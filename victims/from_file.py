"""Build a victim from a weights file: released, converted or trained here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vbench.core.errors import BadInput, shortened
from vbench.core.files import split_entry
from vbench.core.plugins import is_own_class, plugin_line
from vbench.core.progress import say
from vbench.victims.base import Victim, missing_options, option_names, read_option
from vbench.victims.checkpoint import Checkpoint, read_checkpoint
from vbench.victims.make import at_most, check_options, make_victim
from vbench.victims.registry import VICTIMS
from vbench.victims.released import (
    OWN_LAYOUT,
    Misfit,
    ReleasedLayout,
    as_wanted,
    bare,
    is_counter,
    under_names,
)

#: Files that are loaded by mistake, besides those of another victim.
_OTHERS = {
    "a plain ImageNet ResNet": ReleasedLayout(marks=("conv1.weight", "layer4.0.conv1.weight", "fc.weight")),
    "a plain ImageNet ViT": ReleasedLayout(marks=("cls_token", "blocks.0.attn.qkv.weight", "head.weight")),
}

_SPOKEN_WITH_A_VOWEL = "aefhilmnorsx"


def refuse_other_models(victim_class: type[Victim], state: Mapping[str, Tensor], where: str) -> None:
    """Raise BadInput if a released state dict has the marks of other models and not of this one."""
    if victim_class.released is not None and victim_class.released.recognises(state):
        return
    found = models_of(state)
    if found:
        raise BadInput(
            f"{where}: this looks like {' or '.join(found)}, not like a checkpoint of {victim_class.name}"
        )


def models_of(state: Mapping[str, Tensor]) -> list[str]:
    """What a released state dict looks like: "a DDAG checkpoint (victim ddag)", or a plain backbone."""
    found = []
    for name, facts in VICTIMS.items():
        module, _, attribute = facts.target.partition(":")
        layout = getattr(import_module(module), attribute).released
        if layout is not None and _has_marks(layout, state):
            article = "an" if name[0] in _SPOKEN_WITH_A_VOWEL else "a"
            found.append(f"{article} {name.upper()} checkpoint (victim {name})")
    return found or [name for name, layout in _OTHERS.items() if _has_marks(layout, state)]


def _has_marks(layout: ReleasedLayout, state: Mapping[str, Tensor]) -> bool:
    """Whether a state has the marks of a layout, under any wrapper or prefix."""
    try:
        return under_names(layout.marks, state, "") is not None
    except BadInput:
        return True


#: Number of training identities -> data set.
_CLASSES = {395: "sysu", 713: "llcm"}

_REGDB_CLASSES = 206

_TRIAL = re.compile(r"trial_?-?(\d+)")


def released_split(path: Path, num_classes: int) -> str | None:
    """The split of a released file: "sysu", "llcm", "regdb/trial-3", or None if unknown.

    RegDB has ten splits with different training identities; all authors put its number into the file name.
    """
    if num_classes != _REGDB_CLASSES:
        return _CLASSES.get(num_classes)
    trial = _TRIAL.search(path.name)
    return f"regdb/trial-{int(trial[1])}" if trial and 1 <= int(trial[1]) <= 10 else None


def is_regdb(num_classes: int) -> bool:
    """Whether a classifier has RegDB's number of training identities."""
    return num_classes == _REGDB_CLASSES


#: How many more numbers than its file a victim may have; missing tensors are reported by name later. A file
#: of the wrong model may be small while the victim has full size.
_OWN_SLACK, _SLACK = 1_000_000, 300_000_000

#: Options that count layers, each of which takes time to build; real networks have about a hundred.
_LAYERS, _MOST_LAYERS = ("blocks", "depth"), 1000

#: An unusual number of identities, to find the tensors whose shape depends on it.
_ANY_CLASSES = 7

#: Exceptions of a network's constructor for unsuitable options.
_ANY = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class _Source:
    """A weights file read for a victim class: tensors, the ``layout`` of their names, derived facts."""

    checkpoint: Checkpoint
    where: str
    state: dict[str, Tensor]
    layout: ReleasedLayout = OWN_LAYOUT
    options: dict[str, Any] | None = None
    classes: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_own(self) -> bool:
        return "victim" in self.checkpoint.metadata


def victim_from_file(victim_class: type[Victim], options: dict[str, Any], weights: str | Path) -> Victim:
    """Build a victim with the given options and those from its weights file, and load the weights.

    Choices made while reading the file are printed on standard error. Raises BadInput as
    :func:`vbench.victims.load.build_victim` does.
    """
    source = _source(victim_class, read_checkpoint(Path(weights)), str(weights))
    wanted = options.get("num_classes")
    _refuse_other_number(source, wanted)
    is_known = source.classes is not None or wanted is not None
    if "num_classes" in option_names(victim_class) and source.classes is not None:
        options = {**options, "num_classes": source.classes}
    options = {**(source.options or {}), **options}
    if "num_classes" in missing_options(victim_class, options):
        options["num_classes"] = _ANY_CLASSES
    victim = _build_bounded(victim_class, options, source)
    try:
        state, notes = _translated(victim, source)
    except Misfit as error:
        classes = _classes_that_fit(victim, options, source)
        if classes is None or is_known or "num_classes" not in option_names(victim_class):
            raise _explained(victim_class, error, source, classes, wanted) from error
        victim = _build_bounded(victim_class, {**options, "num_classes": classes}, source)
        state, notes = _translated(victim, source)
    victim.load_state_dict(state)
    victim.weights_metadata = _metadata(source, notes, split_entry(weights)[0], victim.num_classes)
    for note in notes:
        say(f"note: {weights}: {note}")
    return victim


def _source(victim_class: type[Victim], checkpoint: Checkpoint, where: str) -> _Source:
    source = _Source(checkpoint, where, checkpoint.state, notes=checkpoint.notes)
    layout = victim_class.released
    if source.is_own:
        options = _stored_options(victim_class, checkpoint, where)
        return replace(source, options=options, classes=_stored_classes(checkpoint, where))
    if layout is None:
        return source
    inside = under_names(layout.marks, checkpoint.state, where)
    plain = inside[0] if inside else bare(checkpoint.state)
    renamed = {layout.released_name(name): tensor for name, tensor in plain.items()}
    is_plain = not inside and layout.recognises(renamed)
    if layout.marks and not inside and not is_plain:
        refuse_other_models(victim_class, checkpoint.state, where)
    shown = renamed if is_plain else plain
    takes_classes = "num_classes" in option_names(victim_class)
    return replace(
        source,
        state=plain if is_plain else checkpoint.state,
        layout=OWN_LAYOUT if is_plain else layout,
        options=_released_options(victim_class, shown, where),
        classes=layout.num_classes(shown, where) if takes_classes else None,
    )


def _translated(victim: Victim, source: _Source) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The file's tensors under the victim's names, and notes on how they were found."""
    own = victim.state_dict()
    if source.is_own:
        return source.layout.translate(source.state, own, source.where), source.notes
    wanted = [source.layout.released_name(name) for name in own]
    state, note = as_wanted(wanted, source.state, source.where)
    return source.layout.translate(state, own, source.where), (*source.notes, *filter(None, [note]))


def _classes_that_fit(victim: Victim, options: dict[str, Any], source: _Source) -> int | None:
    """The number of identities with which all tensors would have the shapes in the file, if there is one.

    Every differing size must be the number this victim was built for, and the same number in the file.
    """
    own, built_for = victim.state_dict(), options.get("num_classes", victim.num_classes)
    wanted = {source.layout.released_name(name): tensor for name, tensor in own.items()}
    state, _ = as_wanted(wanted, source.state, source.where)
    found = set()
    for name, tensor in wanted.items():
        stored = state.get(name)
        if stored is None and not is_counter(name):
            return None
        if stored is None or stored.shape == tensor.shape:
            continue
        pairs = [pair for pair in zip(tensor.shape, stored.shape, strict=False) if pair[0] != pair[1]]
        if stored.ndim != tensor.ndim or any(ours != built_for for ours, _ in pairs):
            return None
        found |= {theirs for _, theirs in pairs}
    return found.pop() if len(found) == 1 else None


def _refuse_other_number(source: _Source, wanted: int | None) -> None:
    if source.classes is not None and wanted not in (None, source.classes):
        raise BadInput(
            f"{source.where}: its classifier knows {source.classes} identities, not {wanted}; another split?"
        )


def _explained(
    victim_class: type[Victim], error: Misfit, source: _Source, classes: int | None, wanted: int | None
) -> BadInput:
    """The error for tensors that do not fit, with the likely cause if it is known."""
    if not source.is_own:
        refuse_other_models(victim_class, source.checkpoint.state, source.where)
    if classes is not None and wanted is not None and source.classes is None:
        return BadInput(
            f"{source.where}: its classifier knows {classes} identities, not {wanted}; another split?"
        )
    if classes is not None and "num_classes" not in option_names(victim_class):
        return BadInput(
            f"{error}; it knows {classes} identities: give the class an option num_classes for it"
        )
    if source.layout is OWN_LAYOUT and not source.is_own and source.options is not None:
        return BadInput(
            f"{error}; a plain state dict does not tell options such as width: give those it was made with"
        )
    return error


def _build_bounded(victim_class: type[Victim], options: dict[str, Any], source: _Source) -> Victim:
    """Build a victim with options from an untrusted file, but none larger than the file could fill."""
    state = source.checkpoint.state
    if source.options is None:
        return make_victim(victim_class, options)
    # Tensors may share storage.
    stored = {tensor.untyped_storage().data_ptr(): tensor for tensor in state.values()}
    held = sum(tensor.untyped_storage().nbytes() // tensor.element_size() for tensor in stored.values())
    most = 2 * held + (_OWN_SLACK if source.is_own else _SLACK)
    try:
        with at_most(most):
            if source.is_own and not is_own_class(victim_class):
                _refuse_larger(victim_class, options, most)
            return victim_class(**options)
    except BadInput as error:
        raise BadInput(f"{source.where}: {error}") from error
    except _ANY as error:
        own = is_own_class(victim_class)
        reason = shortened(str(error)) if own else plugin_line(error, victim_class)
        raise BadInput(
            f"{source.where}: what it says of itself, with {held:,} numbers in {len(state)} tensors, "
            f"makes no {victim_class.name} ({reason})"
        ) from error


def _refuse_larger(victim_class: type[Victim], options: dict[str, Any], most: int) -> None:
    """Raise ValueError where a plugin's victim would have more numbers than ``most``.

    Built-in victims are checked while they are built, see :func:`vbench.victims.make.at_most`.
    """
    try:
        with torch.device("meta"):
            wanted = sum(tensor.numel() for tensor in victim_class(**options).parameters())
    except Exception:  # not every constructor works on the meta device; then it is built normally
        return
    if wanted > most:
        raise ValueError(f"a network of {wanted:,} numbers")


def _metadata(source: _Source, notes: tuple[str, ...], path: Path, num_classes: int) -> dict[str, Any]:
    found = dict(source.checkpoint.metadata)
    if source.is_own:
        return found
    split = released_split(path, num_classes)
    return {**found, **({"split": split} if split else {}), **({"notes": list(notes)} if notes else {})}


def _stored_options(victim_class: type[Victim], checkpoint: Checkpoint, where: str) -> dict[str, Any]:
    stored = checkpoint.metadata["victim"]
    if stored != victim_class.name:
        named = shortened(str(stored))
        raise BadInput(f"{where}: weights of victim '{named}', not of '{victim_class.name}'")
    options = _own_options(checkpoint, where)
    options.pop("num_classes", None)
    try:
        check_options(victim_class, options)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from error
    _check_types(victim_class, options, where)
    return options


def _released_options(victim_class: type[Victim], state: dict[str, Tensor], where: str) -> dict[str, Any]:
    try:
        return victim_class.released_options(state)
    except _ANY as error:  # tensors of the right names may have any shape
        raise BadInput(f"{where}: its tensors lack the shapes of {victim_class.name}") from error


def _own_options(checkpoint: Checkpoint, where: str) -> dict[str, Any]:
    options = checkpoint.metadata.get("options", {})
    if not isinstance(options, dict):
        raise BadInput(f"{where}: the options in its header are no JSON object")
    return dict(options)


def _check_types(victim_class: type[Victim], options: dict[str, Any], where: str) -> None:
    for name, value in options.items():
        read_option(victim_class, name, value, f"{where}: its option")
    for name in _LAYERS:
        counts = options.get(name, ())
        if max(counts if isinstance(counts, list) else [counts or 0], default=0) > _MOST_LAYERS:
            raise BadInput(f"{where}: its option {name} is above {_MOST_LAYERS}")


def _stored_classes(checkpoint: Checkpoint, where: str) -> int | None:
    """Number of training identities in the metadata of one of our files."""
    stored = _own_options(checkpoint, where).get("num_classes")
    if stored is not None and (not isinstance(stored, int) or stored < 0):
        raise BadInput(f"{where}: its header says {shortened(repr(stored), 60)} identities")
    return stored
