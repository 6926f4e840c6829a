"""Runs that were lost: a row less each, with the reason, while the others go on."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field

from vbench.attacks.base import Attack
from vbench.attacks.build import label
from vbench.core.errors import VbenchError
from vbench.core.plugins import reason
from vbench.core.processes import processes
from vbench.records.record import Failure

#: What loses a run; an interrupt ends all of them.
LOSES_A_RUN = (Exception, SystemExit)


@dataclass
class Failures:
    """The runs that were lost, in order."""

    lost: list[Failure] = field(default_factory=list)
    _first: BaseException | None = None

    def add(self, victim: str, attack: Attack, seed: int, error: BaseException) -> Failure:
        """Note a lost run. Raises the error again where it is no single run's.

        That is what the system refuses (a plugin's error was made one of ours where it ran) and, where
        several processes share the runs, anything: they end together.
        """
        if isinstance(error, OSError) or processes() > 1:
            raise error
        found = Failure(victim, _named(attack), seed, reason(error))
        self.lost.append(found)
        self._first = self._first or _light(error)
        return found

    def refuse_if_all(self, done: Sequence[object]) -> None:
        """Raise the first error, as one of ours, if nothing was done at all."""
        if self._first is None or done:
            return
        if isinstance(self._first, VbenchError):
            raise self._first
        raise VbenchError(reason(self._first)) from self._first


def _named(attack: Attack) -> str:
    try:
        return label(attack)
    except Exception:  # a plugin's class may fail at anything
        return str(attack.name)


def _light(error: BaseException) -> BaseException:
    """The error without the local variables of its frames, which may hold all memory of a device."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    return error
