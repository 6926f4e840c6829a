"""Baselines of strangers: what they hold is text in XML, in markdown and on the terminal."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from payloads import PAYLOADS, unseen

from vbench.cli.output import put
from vbench.gate.baseline import METRICS, Baseline, Measured
from vbench.gate.compare import Gate, Row, Verdict
from vbench.gate.report import render, render_baseline, render_update, summary, to_junit
from vbench.metrics.statistics import Spread
from vbench.records.spec import Request


def gate(text: str) -> Gate:
    """A red gate of a baseline with a text wherever one may stand."""
    before, now = (Spread.of(values, 0.01) for values in ([0.5, 0.6], [0.1, 0.2]))
    place = {"victim": text, "protocol": text, "config": {text: text}}
    clean = Measured(**place, metrics={"r1": before})
    attack = Measured(**place, attack=text, metrics={"drop_r1": before})
    baseline = Baseline(
        created=text,
        request=Request(victims=(text,), attacks=(text,), dataset=text),
        seeds=(0, 1),
        victims=[clean],
        attacks=[attack],
        environment={text: text},
    )
    rows = [
        Row(clean, Verdict.DOWN, METRICS["r1"], before, now, 0.1),
        Row(attack, Verdict.FAILED, note=text),
        Row(attack, Verdict.CHANGED, note=text),
    ]
    return Gate(baseline, (0, 1), rows, [f"{text}: {text} -> {text}"], {attack.key: 1.0})


@pytest.mark.parametrize("payload", PAYLOADS)
def test_junit_is_well_formed_and_says_it_as_text(payload):
    root = ET.fromstring(to_junit(gate(PAYLOADS[payload])))
    tags = {element.tag for element in root.iter()}
    assert tags <= {"testsuites", "testsuite", "testcase", "failure", "error", "system-out"}
    known = {"name", "tests", "failures", "errors", "skipped", "time", "classname", "message", "type"}
    assert {name for element in root.iter() for name in element.attrib} <= known
    assert root.get("failures") == "2" and root.get("errors") == "1"
    if payload == "html":
        assert PAYLOADS[payload] in root.find(".//error").get("message")
    assert unseen(to_junit(gate(PAYLOADS[payload]))) == set()


@pytest.mark.parametrize("payload", PAYLOADS)
def test_the_summary_is_markdown_of_ours_alone(payload):
    text = summary(gate(PAYLOADS[payload]))
    bare = text.replace("<details><summary>", "").replace("</summary>", "").replace("</details>", "")
    assert not re.search(r"(?<!\\)<[A-Za-z/!?]|(?<!\\)`|\]\(|\]\[", bare)
    assert {line[:2] for line in text.splitlines()} <= {"", "##", "| ", "|:", "- ", "No", "<d", "</"}
    assert unseen(text) == set()


@pytest.mark.parametrize("payload", PAYLOADS)
def test_the_terminal_shows_it_as_it_is(payload, capsys):
    found = gate(PAYLOADS[payload])
    put(render(found, every=True))
    put(render_baseline(found.baseline))
    put(render_update(found.baseline, found.baseline))
    printed = capsys.readouterr()
    assert unseen(printed.out + printed.err) == set() and "red: 3 of 3 figures moved" in printed.out
