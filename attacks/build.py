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

#: Reserved settings, and the attribute of the class that says what their names mean.
RESERVED = {"preset": "PRESETS", "effort": "EFFORTS"}


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

    The settings ``preset`` and ``effort`` are reserved: they mean the settings of that name in the class's
    ``PRESETS`` (what the attack does) and ``EFFORTS`` (what it costs). An effort overrides a preset, and
    explicit settings override both. Raises :class:`BadInput` for unknown names, parameters, presets and
    efforts (nearest name) and for values that do not fit.
    """
    if not isinstance(spec, str):
        return _taken(spec, extra)
    name, settings = parse(spec, "attack")
    cls = attacks.load(name)
    owner = getattr(cls, "name", name)
    values: dict[str, Any] = {**settings, **(extra or {})}
    chosen: dict[str, Any] = {}
    for word in RESERVED:
        if word in values:
            chosen |= _named(cls, owner, word, values.pop(word))
    return build(cls, owner, {**chosen, **values})


def _known(attack: Any) -> Any:
    if not isinstance(attack, str):
        from vbench.attacks.base import Attack

        if not isinstance(attack, Attack):
            raise BadInput(f"an attack is a text such as pgd[steps=20] or an Attack, not {_kind(attack)}")
        attacks.check(type(attack), type(attack).__qualname__, getattr(attack, "name", None))
        return attack
    return attacks.canonical(attack)


def _taken(attack: Any, extra: Mapping[str, Any] | None) -> Any:
    _known(attack)
    return build(type(attack), attack.name, {**vars(attack), **extra}) if extra else attack


def _kind(thing: Any) -> str:
    return f"the class {thing.__name__}; call it" if isinstance(thing, type) else type(thing).__name__


def presets(cls: type) -> Mapping[str, Mapping[str, Any]]:
    """The presets that an attack class declares."""
    return getattr(cls, RESERVED["preset"], {})


def combinations(cls: type) -> dict[str, dict[str, Any]]:
    """The settings of every effort, preset and pair of both, by the text that names it, pairs last."""
    found = {}
    for preset, settings in {"": {}, **presets(cls)}.items():
        for effort, cost in {"": {}, **getattr(cls, RESERVED["effort"], {})}.items():
            named = {"preset": preset, "effort": effort}
            found[",".join(f"{word}={name}" for word, name in named.items() if name)] = {**settings, **cost}
    del found[""]
    return dict(sorted(found.items(), key=lambda one: one[0].count(",")))


def _named(cls: type, owner: str, word: str, chosen: Any) -> Mapping[str, Any]:
    known: Mapping[str, Mapping[str, Any]] = getattr(cls, RESERVED[word], {})
    if not isinstance(chosen, str):
        raise BadInput(f"attack '{owner}': {word} is a name, not {_kind(chosen)}")
    if not known:
        raise BadInput(f"attack '{owner}' has no {word}s")
    if chosen not in known:
        raise unknown_name(f"{word} of {owner}", chosen, known)
    return known[chosen]


def preset_threat(spec: Any, extra: Mapping[str, Any] | None = None) -> Mapping[str, str]:
    """The side and budget of the preset that a text names, as fields of the threat model."""
    if not isinstance(spec, str):
        return {}
    name, settings = parse(spec, "attack")
    chosen = {**settings, **(extra or {})}.get("preset")
    return getattr(attacks.load(name), "PRESET_THREATS", {}).get(chosen, {})


def label(attack: Any) -> str:
    """The shortest text that names an attack and its settings: preset, effort and non-default settings."""
    cls = type(attack)
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    return label_of(attack.name, vars(attack), defaults, named_settings(cls, attack.name))


def named_settings(cls: type, owner: str) -> dict[str, dict[str, Any]]:
    """What each text of :func:`combinations` changes, in built values; texts that change nothing new are left
    out."""
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    found: dict[str, dict[str, Any]] = {}
    for text, given in combinations(cls).items():
        built = vars(build(cls, owner, dict(given)))
        changed = {name: built[name] for name, usual in defaults.items() if built[name] != usual}
        if changed and changed not in found.values():
            found[text] = changed
    return found


def label_of(
    name: str,
    settings: Mapping[str, Any],
    defaults: Mapping[str, Any],
    named: Mapping[str, Mapping[str, Any]],
) -> str:
    """:func:`label` from plain values; ``named``: what the texts of :func:`named_settings` change."""
    choices = [_changes(settings, defaults)]
    for text, changed in named.items():
        choices.append([*text.split(","), *_changes(settings, {**defaults, **changed})])
    best = min(choices, key=len)
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


def costs(attack: Any) -> dict[str, int]:
    """Gradients and queries an image, and gradients a fit, from the settings of an attack that is no battery.

    A fit counted in passes over the training images costs what :meth:`UniversalAttack.fit_cost` says instead.

    0 where it does not say, as attacks of a plugin may.
    """
    given = {name: value for name, value in attack.settings().items() if isinstance(value, int)}
    if attack.universal:
        return {"gradients": 0, "queries": 0, "fits": given.get("evaluations", 0)}
    # The class states its cost with default settings.
    gradients = (given.get("steps") or attack.gradients_per_image) * given.get("restarts", 1)
    return {"gradients": gradients, "queries": given.get("queries", attack.forwards_per_image), "fits": 0}


def attack_card(attack: Any) -> dict[str, Any]:
    """What names an attack in a configuration: its name, settings, code, and those of its members."""
    from vbench.attacks.base import Battery

    members = attack.attacks() if isinstance(attack, Battery) else ()
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
