"""Checkpoints of ``vbench paper``: ``--weights agw=FILE``, for each victim or for each of RegDB's splits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from vbench.core.errors import BadInput
from vbench.core.progress import say
from vbench.data.protocols import SYNTHETIC, parse_protocol
from vbench.sweep.paper.suite import Suite
from vbench.victims.build import victim_names
from vbench.victims.registry import victims

#: Replaced by the number of the RegDB split that the checkpoint was trained on.
TRIAL = "{trial}"

_NAMED = re.compile(r"(?P<victim>[^\[\]=]+(?:\[[^\]]*\])?)=(?P<file>.+)")


class Checkpoints:
    """Files by victim, from "agw=FILE" texts, or from one FILE if there is one victim."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._named: dict[str, str] = {}
        self._plain: list[str] = []
        for text in texts:
            found = _NAMED.fullmatch(text)
            # A victim by path is module:Class or file.py:Class.
            if found and (_name(found["victim"]) in victims.names() or ":" in found["victim"]):
                self._named[found["victim"]] = found["file"]
            else:
                self._plain.append(text)

    @property
    def victims(self) -> list[str]:
        """The victims named with a file, in order."""
        return list(self._named)

    def check(self, wanted: Sequence[str]) -> None:
        """Raise :class:`BadInput` for a file of another victim, or one whose victim is not clear."""
        for name in self._named:
            if name not in wanted:
                raise BadInput(
                    f"--weights {name}=...: '{name}' is not among the victims: {', '.join(wanted)}"
                )
        if self._plain and (len(wanted) > 1 or len(self._plain) > 1 or self._named):
            raise BadInput(
                f"--weights {self._plain[0]}: name its victim, as in --weights {wanted[0]}={self._plain[0]}"
            )

    def of(self, victim: str, protocol: str) -> Path | None:
        """The file of a victim under a protocol; None if none was given.

        Raises :class:`BadInput` for ``{trial}`` under a protocol that is no split of RegDB.
        """
        text = self._named.get(victim, self._plain[0] if self._plain else None)
        if text is None:
            return None
        if TRIAL in text:
            trial = parse_protocol(protocol).trial
            if trial is None:
                raise BadInput(f"--weights {text}: {protocol} has no trial number for {TRIAL}")
            text = text.replace(TRIAL, str(trial))
        return Path(text)


def _name(victim: str) -> str:
    return victim.partition("[")[0]


def victims_of(
    suites: Sequence[Suite],
    asked: Sequence[str],
    checkpoints: Checkpoints,
    dataset: str,
    quiet: bool = False,
) -> dict[str, list[str]]:
    """Suite -> victims. If ``asked`` is given, every suite has those.

    Otherwise a suite has the paper's victims; if checkpoints are named, those of them with one, or, if there
    are none, all victims with one. On real data a note names the victims that are left out.
    """
    if asked:
        return {suite.name: victim_names(asked) for suite in suites}
    found: dict[str, list[str]] = {}
    for suite in suites:
        named = checkpoints.victims
        own = [victim for victim in suite.victims if victim in named]
        found[suite.name] = own or named or list(suite.victims)
        left = [victim for victim in suite.victims if victim not in found[suite.name]]
        if left and dataset != SYNTHETIC:
            hint = f"name {'its' if len(left) == 1 else 'their'} checkpoint with --weights {left[0]}=FILE"
            say(f"note: {suite.name} leaves out {', '.join(left)}: {hint}", quiet)
    return found
