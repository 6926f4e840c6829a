"""Builds attacks from text, such as ``pgd[steps=20]``, ``sma`` or ``./mine.py:Mine[a=3]``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from vbench.attacks.registry import attacks
from vbench.core.errors import BadInput, unknown_name
from vbench.core.settings import build, parse
from vbench.core.source import code_card

#: Added by ``all`` to the registered attacks: variants with another threat model.
_ALSO = ("fsam_uap[level=feature]",)


def expand(specs: Sequence[Any]) -> list[Any]:
    """Replace ``all`` by every known attack, at every level it has; keeps order, drops repeats.

    Batteries are left out: they repeat other attacks and support one side only. Values that are not text are
    kept.
    """
    known = {entry.name: entry for entry in attacks.entries() if not entry.problem}
    single = [name for name, entry in known.items() if entry.traits != "battery"]
    expanded: list[Any] = []
    for spec in specs:
        expanded += [*single, *_ALSO] if isinstance(spec, str) and spec == "all" else [_known(spec)]
    return list(dict.fromkeys(expanded))


def build_attack(spec: Any, extra: Mapping[str, Any] | None = None) -> Any:
    """Build the attack that a text names, with ``extra`` settings on top; attack objects pass through.

    The setting ``preset`` is reserved: it means the settings of that name in the class's ``PRESETS``, which
    explicit settings override. Raises :class:`BadInput` for unknown names, parameters and presets (nearest
    name) and for values that do not fit.
    """
    if not isinstance(spec, str):
        return _taken(spec, extra)
    name, settings = parse(spec, "attack")
    cls = attacks.load(name)
    owner = getattr(cls, "name", name)
    values: dict[str, Any] = {**settings, **(extra or {})}
    chosen = values.pop("preset", None)
    if chosen is not None:
        values = {**_preset(cls, owner, chosen), **values}
    return build(cls, owner, values)


def _known(attack: Any) -> Any:
    if not isinstance(attack, str):
        from vbench.attacks.base import Attack

        if not isinstance(attack, Attack):
            raise BadInput(f"an attack is a text such as pgd[steps=20] or an Attack, not {_kind(attack)}")
        attacks.check(type(attack), type(attack).__qualname__, getattr(attack, "name", None))
    return attack


def _taken(attack: Any, extra: Mapping[str, Any] | None) -> Any:
    _known(attack)
    return build(type(attack), attack.name, {**vars(attack), **extra}) if extra else attack


def _kind(thing: Any) -> str:
    return f"the class {thing.__name__}; call it" if isinstance(thing, type) else type(thing).__name__


def presets(cls: type) -> Mapping[str, Mapping[str, Any]]:
    """The presets that an attack class declares; most have none."""
    return getattr(cls, "PRESETS", {})


def _preset(cls: type, owner: str, chosen: Any) -> Mapping[str, Any]:
    known = presets(cls)
    if not isinstance(chosen, str):
        raise BadInput(f"attack '{owner}': preset is a name, not {_kind(chosen)}")
    if not known:
        raise BadInput(f"attack '{owner}' has no presets")
    if chosen not in known:
        raise unknown_name(f"preset of {owner}", chosen, known)
    return known[chosen]


def preset_threat(spec: Any, extra: Mapping[str, Any] | None = None) -> Mapping[str, str]:
    """The side and budget of the preset that a text names, as fields of the threat model."""
    if not isinstance(spec, str):
        return {}
    name, settings = parse(spec, "attack")
    chosen = {**settings, **(extra or {})}.get("preset")
    return getattr(attacks.load(name), "PRESET_THREATS", {}).get(chosen, {})


def label(attack: Any) -> str:
    """The shortest text that names an attack and its settings: preset and non-default settings."""
    cls = type(attack)
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    named = {name: vars(build(cls, attack.name, dict(given))) for name, given in presets(cls).items()}
    return label_of(attack.name, {name: getattr(attack, name) for name in defaults}, defaults, named)


def label_of(
    name: str,
    settings: Mapping[str, Any],
    defaults: Mapping[str, Any],
    presets: Mapping[str, Mapping[str, Any]],
) -> str:
    """:func:`label` from plain values; ``presets`` and ``settings`` hold every preset and every default."""
    best = _changes(settings, defaults)
    for preset, values in presets.items():
        best = min(
            best, [f"preset={preset}", *_changes(settings, {key: values[key] for key in defaults})], key=len
        )
    return f"{name}[{','.join(best)}]" if best else name


def _changes(settings: Mapping[str, Any], reference: Mapping[str, Any]) -> list[str]:
    """The settings that differ from ``reference``, as text, in its order."""
    changed = []
    for name, usual in reference.items():
        value = settings[name]
        if value != usual:
            shown = ",".join(value) if isinstance(value, (tuple, list)) else value
            changed.append(f"{name}={str(shown).lower() if isinstance(value, bool) else shown}")
    return changed


def attack_card(attack: Any) -> dict[str, Any]:
    """What names an attack in a configuration: its name, settings, code, and those of its members."""
    from vbench.attacks.base import Battery

    members = attack.members() if isinstance(attack, Battery) else ()
    card = {"name": attack.name, "settings": _plain(attack), **code_card(attack)}
    return {**card, "members": [attack_card(member) for member in members]} if members else card


def _plain(attack: Any) -> dict[str, Any]:
    settings = attack.settings()
    for name, value in settings.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"attack '{attack.name}': setting '{name}' is {type(value).__name__}, which a record cannot "
                "hold; use numbers, text or tuples of them"
            ) from error
    return settings
