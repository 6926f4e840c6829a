"""A gate as JUnit XML, which every CI service can show: a suite a victim or attack, a case a figure."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from vbench.gate.check import Gate, Row, Verdict
from vbench.printable import lines
from vbench.reports.gate import explained, heading


def to_junit(gate: Gate) -> str:
    """The XML text. A figure that moved is a failure, a run that failed an error."""
    suites = ET.Element("testsuites", name="vbench check", **_counts(gate.rows, sum(gate.seconds.values())))
    for subject in gate.baseline.subjects:
        rows = [row for row in gate.rows if row.subject is subject]
        name = _clean(f"{subject} ({subject.protocol})")
        seconds = gate.seconds.get(subject.key, 0.0)
        suite = ET.SubElement(suites, "testsuite", name=name, **_counts(rows, seconds))
        for row in rows:
            _case(suite, name, row)
        if subject is gate.baseline.victims[0] and gate.causes:
            ET.SubElement(suite, "system-out").text = _clean("\n".join(gate.causes))
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _case(suite: ET.Element, where: str, row: Row) -> None:
    case = ET.SubElement(suite, "testcase", classname=where, name=_clean(heading(row)), time="0")
    text = _clean(explained(row))
    if row.verdict is Verdict.FAILED:
        ET.SubElement(case, "error", message=text, type=row.verdict.value)
    elif row.verdict.red:
        ET.SubElement(case, "failure", message=text, type=row.word).text = text
    else:
        ET.SubElement(case, "system-out").text = text


def _counts(rows: Sequence[Row], seconds: float) -> dict[str, str]:
    errors = sum(row.verdict is Verdict.FAILED for row in rows)
    failures = sum(row.verdict.red for row in rows) - errors
    return {
        "tests": str(len(rows)),
        "failures": str(failures),
        "errors": str(errors),
        "skipped": "0",
        "time": f"{seconds:.2f}",
    }


def _clean(text: str) -> str:
    """Text that XML 1.0 can hold: some characters it cannot, not even escaped."""
    return lines(text)
