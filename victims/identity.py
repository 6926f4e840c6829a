"""What names a victim's code in a record's configuration."""

from __future__ import annotations

import re
from typing import Any

from vbench.core.live_code import assigned_by
from vbench.core.plugins import is_own_class
from vbench.core.source import code_card, digest_of
from vbench.victims.base import Victim

#: What the benchmark reads of a victim beside what it returns.
_DECLARED = ("similarity", "resize_filter", "input_size", "stages", "forks")


def victim_code(victim: Any) -> dict[str, Any]:
    """What names a victim's code in a configuration.

    "structure" is a hash over its layers and settings, left out for one of vbench's own that is as its
    options make it: a version says what that is. Victims inside it (members of a surrogate, a victim that is
    wrapped) are named with their own.
    """
    inner = [one for one in victim.modules() if one is not victim and isinstance(one, Victim)]
    card = code_card(victim)
    if not is_own_class(type(victim)) or not (inner or _as_built(victim)):
        card["structure"] = digest_of(_structure(victim))
    members = [{"name": one.name, **victim_code(one)} for one in inner]
    return {**card, "members": members} if members else card


def _as_built(victim: Any) -> bool:
    """Whether a victim of vbench's own has the layers and settings that its constructor makes."""
    try:
        built = type(victim)(**victim.describe())
    except Exception:  # options that somebody changed may suit no constructor
        return False
    return _structure(built) == _structure(victim)


def _structure(victim: Any) -> list[Any]:
    """The layers of a victim with what they say of themselves, and the plain settings of its own modules."""
    found: list[Any] = [[name, repr(getattr(victim, name, None))] for name in _DECLARED]
    for place, module in victim.named_modules():
        said = re.sub(r" at 0x[0-9a-f]+", "", module.extra_repr())
        found.append([place, type(module).__qualname__, said])
        if not type(module).__module__.startswith("torch."):
            found += [[place, name, repr(value)] for name, value in _settings_of(module)]
    return found


def _settings_of(module: Any) -> list[tuple[str, Any]]:
    functions = [one for base in type(module).__mro__ for one in vars(base).values()]
    changed = set().union(*map(assigned_by, functions))
    plain = (bool, int, float, str, tuple)
    return [
        (name, value)
        for name, value in sorted(vars(module).items())
        if isinstance(value, plain) and not name.startswith("_") and name not in {"training", *changed}
    ]
