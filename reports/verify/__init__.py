"""Verifies a record from its content alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from vbench.records.record import Record
from vbench.reports.verify import configuration, declared, results
from vbench.reports.verify.verdict import Mark, Verdict, parse

__all__ = ["Mark", "Verdict", "parse", "verify"]


_Check = Callable[[Record], Iterator[str]]

_FIRST: Sequence[_Check] = (
    configuration.check_protocol,
    configuration.check_date,
    configuration.check_threat,
)

_SECOND: Sequence[_Check] = (
    configuration.check_size,
    declared.check_attack,
    declared.check_victim,
    results.check_trial_lists,
)

_THIRD: Sequence[_Check] = (
    results.check_trials,
    results.check_success_rate,
    results.check_intervals,
    results.check_controls,
    results.check_members,
    results.check_cost,
)

_OF_QUERIES = (results.recompute_metrics, results.recompute_interval, results.recompute_winners)

_MOST_TIES = 0.01


def verify(record: Record, file_name: str | None = None) -> Verdict:
    """Check a record from its content alone; docs/leaderboard.md says what this can and cannot show.

    ``file_name``: name of the record's own file, None for a line of an archive. The verdict has reasons if
    the record contradicts itself, breaks its budget or does not match its hash. Never raises, whatever an
    untrusted record holds.
    """
    try:
        return _verdict(record, file_name)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        return Verdict([f"record: cannot be checked ({type(error).__name__}: {str(error)[:120]})"])


def _verdict(record: Record, file_name: str | None) -> Verdict:
    reasons = configuration.problems(record.config) or list(configuration.check_id(record, file_name))
    for checks in (_FIRST, _SECOND, _THIRD):
        if reasons:
            return Verdict(reasons)
        reasons = [reason for check in checks for reason in check(record)]
    marks = declared.marks(record)
    found = results.unpack(record) if not reasons else None
    if isinstance(found, list):
        reasons = found
    elif found is None:
        marks.append(Mark.TOTALS_ONLY)
    else:
        reasons = list(results.check_queries(record, found))
        if not reasons:
            reasons = [reason for check in _OF_QUERIES for reason in check(record, found)]
    reasons = reasons or list(configuration.check_digest(record))
    if any(trial.tied_share > _MOST_TIES for trial in record.adversarial):
        marks.append(Mark.TIES)
    return Verdict(reasons, marks)
