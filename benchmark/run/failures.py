"""Failed runs of a series: each is noted with its reason, and the others continue."""

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

#: Exceptions that make a single run fail; KeyboardInterrupt ends the series.
LOSES_A_RUN = (Exception, SystemExit)


@dataclass
class Failures:
    """The runs that failed, in order."""

    lost: list[Failure] = field(default_factory=list)
    _first: BaseException | None = None

    def add(self, victim: str, attack: Attack, seed: int, error: BaseException) -> Failure:
        """Note a failed run; raises the error again if the series cannot continue.

        That is an OSError (one of a plugin's was turned into a :class:`VbenchError` where it ran) and, with
        several processes, any error: they must end together.
        """
        if isinstance(error, OSError) or processes() > 1:
            raise error
        found = Failure(victim, _label(attack), seed, reason(error))
        self.lost.append(found)
        self._first = self._first or _without_locals(error)
        return found

    def refuse_if_all(self, done: Sequence[object]) -> None:
        """Raise the first error, as a :class:`VbenchError`, if no run succeeded."""
        if self._first is None or done:
            return
        if isinstance(self._first, VbenchError):
            raise self._first
        raise VbenchError(reason(self._first)) from self._first


def _label(attack: Attack) -> str:
    try:
        return label(attack)
    except Exception:  # any code of a plugin may fail
        return str(attack.name)


def _without_locals(error: BaseException) -> BaseException:
    """The error without the local variables of its frames, which may keep much GPU memory alive."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    return error
