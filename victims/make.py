"""Making a victim of a class and options, with one line for what does not go together."""

from __future__ import annotations

from typing import Any

from vbench.errors import BadInput, VbenchError, unknown_name
from vbench.plugins import plugin_line
from vbench.victims.base import Victim
from vbench.victims.options import missing_options, option_names


def make_victim(victim_class: type[Victim], options: dict[str, Any]) -> Victim:
    """Call the constructor; BadInput for a missing option, and for whatever the constructor raises."""
    name = getattr(victim_class, "name", victim_class.__name__)
    lacking = missing_options(victim_class, options)
    if lacking:
        raise BadInput(f"victim '{name}' needs {', '.join(lacking)}, as in {name}[{lacking[0]}=...]")
    try:
        return victim_class(**options)
    except VbenchError:
        raise
    except (Exception, SystemExit) as error:  # options of the wrong kind make it fail in any way
        raise BadInput(f"victim '{name}' cannot be built: {plugin_line(error, victim_class)}") from error


def check_options(victim_class: type[Victim], options: dict[str, Any]) -> None:
    """Raise BadInput, with the nearest name, for an option that the class does not have."""
    known = [name for name in option_names(victim_class) if name != "num_classes"]
    for name in options:
        if name not in known:
            raise unknown_name(f"option of victim {victim_class.name}", name, known)
