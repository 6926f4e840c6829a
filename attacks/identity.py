"""What names an attack in a record's configuration."""

from __future__ import annotations

import json
from typing import Any

from vbench.attacks.base import Battery
from vbench.core.errors import BadInput
from vbench.core.source import code_card


def attack_card(attack: Any) -> dict[str, Any]:
    """What names an attack in a configuration: its name, settings, code, and those of its members."""
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
