"""The two ways vbench refuses to go on, and the nearest-name hint they share."""

from __future__ import annotations

import difflib
import errno
import sys
from collections.abc import Iterable
from pathlib import Path
from traceback import walk_tb

from vbench.printable import one_line

#: Exit code of a command that was stopped from the keyboard.
INTERRUPTED = 130


class VbenchError(Exception):
    """A failure that is explained in one line; the command line prints it without a traceback.

    ``exit_code`` is 1: the input was fine and the work failed (an attack returned NaN, a disk is full).
    """

    exit_code = 1


class BadInput(VbenchError):
    """The caller asked for something that cannot be done; the message says what, where and what to do.

    ``exit_code`` is 2.
    """

    exit_code = 2


def unknown_name(kind: str, name: str, known: Iterable[str]) -> BadInput:
    """Build the error for a name that is not known, with the nearest one as a hint.

    >>> print(unknown_name("attack", "pdg", ["pgd", "fgsm"]))
    unknown attack 'pdg'; did you mean 'pgd'? known: fgsm, pgd
    """
    names, name = sorted(known), shortened(str(name))
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return BadInput(f"unknown {kind} '{name}'; {hint}known: {', '.join(names) or 'none'}")


def shortened(text: str, most: int = 200) -> str:
    """A text that somebody else chose, in one line and cut to what one can read."""
    return one_line(text if len(text) <= most else f"{text[:most]}...")


#: Whose lines say nothing about where an error in somebody's attack or victim is to be mended.
_NOT_THEIRS = frozenset({"vbench", "torch", "numpy"}) | sys.stdlib_module_names


def told(error: BaseException) -> str:
    """An error in one line: what it says, and in which file and line of an attack's or a victim's code."""
    if isinstance(error, VbenchError):
        return shortened(str(error), 500)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    own = [
        f" ({Path(frame.f_code.co_filename).name}, line {line})"
        for frame, line in walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).split(".")[0] not in _NOT_THEIRS
    ]
    return shortened(" ".join(text.split()), 400) + (own[-1] if own else "")


_REMEDIES = {
    errno.ENOSPC: "free some space and give the same command again",
    errno.EDQUOT: "free some space and give the same command again",
    errno.EACCES: "give a folder that you may write to",
    errno.EPERM: "give a folder that you may write to",
    errno.EROFS: "give a folder that you may write to",
}


def refused(error: OSError) -> str:
    """What the system refused and, where it is known, what helps; for the end of a line.

    >>> print(refused(OSError(errno.ENOSPC, "No space left on device")))
    No space left on device; free some space and give the same command again
    """
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{error.strerror or error}{f'; {remedy}' if remedy else ''}"
