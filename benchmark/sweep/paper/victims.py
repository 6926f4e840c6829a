"""Whom each suite attacks: those asked for, or the paper's, or those there are weights for."""

from __future__ import annotations

from collections.abc import Sequence

from vbench.core.progress import say
from vbench.data.protocols import SYNTHETIC
from vbench.run.prepare import Choice
from vbench.sweep.paper.checkpoints import Checkpoints
from vbench.sweep.paper.suite import Suite
from vbench.victims.build import victim_names


def victims_of(
    suites: Sequence[Suite],
    asked: Sequence[str],
    checkpoints: Checkpoints,
    choice: Choice,
    quiet: bool = False,
) -> dict[str, list[str]]:
    """Suite -> victims. ``asked`` holds for every suite.

    Without it, a suite has the paper's victims; where checkpoints are named, those of them that have one,
    or, if none has, all that have one. What is left out is said.
    """
    if asked:
        return {suite.name: victim_names(asked) for suite in suites}
    found: dict[str, list[str]] = {}
    for suite in suites:
        named = checkpoints.victims
        own = [victim for victim in suite.victims if victim in named]
        found[suite.name] = own or named or list(suite.victims)
        left = [victim for victim in suite.victims if victim not in found[suite.name]]
        if left and choice.dataset != SYNTHETIC:
            hint = f"name {'its' if len(left) == 1 else 'their'} checkpoint with --weights {left[0]}=FILE"
            say(f"note: {suite.name} leaves out {', '.join(left)}: {hint}", quiet)
    return found
