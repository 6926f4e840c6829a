"""What is wrong with a plugin's class, told before any work: what it lacks, and names it may not have."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from vbench.errors import shortened

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
#: Characters that are left out or read as another when names are compared.
_ALIKE = str.maketrans({"0": "o", "1": "l", "i": "l", "_": None, "-": None, ".": None})


def class_problem(cls: type, base: type) -> str:
    """What a subclass of ``base`` lacks to be used, and what to do; empty for nothing."""
    missing = [name for name in dir(base) if getattr(getattr(cls, name, None), "__isabstractmethod__", False)]
    missing = sorted({*missing, *getattr(cls, "__abstractmethods__", ())})
    if missing:
        return f"{cls.__qualname__} lacks {', '.join(missing)}; write {'it' if len(missing) == 1 else 'them'}"
    if not isinstance(getattr(cls, "name", None), str):
        return f'{cls.__qualname__} has no name; write name = "..." in the class'
    if not dataclasses.is_dataclass(base):
        return ""
    loose = [name for name, value in vars(cls).items() if isinstance(value, dataclasses.Field)]
    if loose:
        return f"'{loose[0]}' is no setting yet; write @dataclass(frozen=True) above class {cls.__qualname__}"
    if not isinstance(getattr(cls, "universal", None), bool):
        return f"derive {cls.__qualname__} from PerImageAttack, UniversalAttack or Battery"
    return ""


def name_problem(name: object, kind: str, own: Iterable[str]) -> str:
    """Why a plugin may not have a name, and what to do; empty where it may. ``own``: names of vbench's."""
    text = shortened(str(name))
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return f"the name '{text}' cannot be typed everywhere; use letters a-z, digits, '_', '-' and '.'"
    for taken in own:
        if _skeleton(name) == _skeleton(taken):
            looks = "is" if name == taken else f"looks like '{taken}', which is"
            return f"'{text}' {looks} vbench's own; give the {kind} another name"
    return ""


def _skeleton(name: str) -> str:
    return name.casefold().translate(_ALIKE)
