"""Verify one record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from vbench.records.record import Record
from vbench.reports.verify import asked, declared, figures
from vbench.reports.verify.verdict import Mark, Verdict, parse

__all__ = ["Mark", "Verdict", "parse", "verify"]


_Check = Callable[[Record], Iterator[str]]

_FIRST: Sequence[_Check] = (asked.posed, asked.dated, asked.stated)

_SECOND: Sequence[_Check] = (asked.kept, declared.attack, declared.victim, figures.listed)

_THIRD: Sequence[_Check] = (
    figures.possible_trials,
    figures.succeeded,
    figures.stated,
    figures.controls,
    figures.members,
    figures.cost,
)

_OF_QUERIES = (figures.given_queries, figures.given_interval, figures.winners)

_TIES_WORTH_A_MARK = 0.01


def verify(record: Record, file_name: str | None = None) -> Verdict:
    """Whether a record stands, from what it holds alone; see docs/leaderboard.md for what that can show.

    ``file_name``: that of a record in a file of its own, None for a line of an archive. A record that
    contradicts itself, breaks its budget or is not what its hash says has reasons against it. Whatever a
    stranger wrote into it, this returns.
    """
    try:
        return _verdict(record, file_name)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        return Verdict([f"record: cannot be checked ({type(error).__name__}: {str(error)[:120]})"])


def _verdict(record: Record, file_name: str | None) -> Verdict:
    reasons = asked.problems(record.config) or list(asked.named(record, file_name))
    for checks in (_FIRST, _SECOND, _THIRD):
        if reasons:
            return Verdict(reasons)
        reasons = [reason for check in checks for reason in check(record)]
    marks = declared.marks(record)
    found = figures.unpack(record) if not reasons else None
    if isinstance(found, list):
        reasons = found
    elif found is None:
        marks.append(Mark.TOTALS_ONLY)
    else:
        reasons = list(figures.possible_queries(record, found))
        if not reasons:
            reasons = [reason for check in _OF_QUERIES for reason in check(record, found)]
    reasons = reasons or list(asked.sealed(record))
    if any(trial.tied_share > _TIES_WORTH_A_MARK for trial in record.adversarial):
        marks.append(Mark.TIES)
    return Verdict(reasons, marks)
