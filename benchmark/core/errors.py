"""vbench's two exceptions, and helpers that word their messages."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Sequence

from vbench.core.text import one_line

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


def unknown_name(kind: str, name: str, known: Iterable[str], meant: Sequence[str] = ()) -> BadInput:
    """Build the error for a name that is not known, with the nearest one, or ``meant``, as a hint.

    >>> print(unknown_name("attack", "PDG", ["pgd", "fgsm"]))
    unknown attack 'PDG'; did you mean 'pgd'? known: fgsm, pgd
    """
    names, name = sorted(known), shortened(str(name))
    lower = {one.lower(): one for one in reversed(names)}
    near = [lower[one] for one in difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)]
    hints = [f"'{one}'" for one in meant or near]
    hint = f"did you mean {' or '.join(hints)}? " if hints else ""
    return BadInput(f"unknown {kind} '{name}'; {hint}known: {', '.join(names) or 'none'}")


def shortened(text: str, most: int = 200) -> str:
    """Untrusted text for a message: in one line, non-printable characters escaped, cut to ``most``."""
    return one_line(text if len(text) <= most else f"{text[:most]}...")


_REMEDIES = {
    errno.ENOSPC: "free some space and give the same command again",
    errno.EDQUOT: "free some space and give the same command again",
    errno.EACCES: "give a folder that you may write to",
    errno.EPERM: "give a folder that you may write to",
    errno.EROFS: "give a folder that you may write to",
}


def refused(error: OSError) -> str:
    """The operating system's error text and, where one is known, a remedy; for the end of a message.

    >>> print(refused(OSError(errno.ENOSPC, "No space left on device")))
    No space left on device; free some space and give the same command again
    """
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{error.strerror or error}{f'; {remedy}' if remedy else ''}"
