"""Names with settings as text: ``pgd[steps=20]``, ``deen[embedding=weighted]``."""

from __future__ import annotations

from vbench.errors import BadInput, shortened
from vbench.parameters import read_settings


def parse(spec: str, kind: str) -> tuple[str, dict[str, str]]:
    """Split ``name[a=1,b=2]`` into the name and its settings; commas inside a value are kept.

    >>> parse("fsam_uap[stages=stem,layer1,level=feature]", "attack")
    ('fsam_uap', {'stages': 'stem,layer1', 'level': 'feature'})
    """
    name, bracket, rest = spec.partition("[")
    if not bracket:
        return name, {}
    if not rest.endswith("]"):
        raise BadInput(f"{kind} '{shortened(spec)}': the settings in [...] are not closed")
    settings: list[str] = []
    for part in rest[:-1].split(","):
        if "=" in part or not settings:
            settings.append(part)
        elif part.strip():
            settings[-1] += f",{part}"
    return name, read_settings([setting for setting in settings if setting.strip()])
