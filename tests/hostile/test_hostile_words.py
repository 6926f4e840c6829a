"""What somebody types, or writes into a file: a value in its range, or one short line; nothing else."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strangers import runs
from test_hostile_shapes import PLENTY

from vbench.attacks.build import build_attack
from vbench.core.errors import BadInput
from vbench.core.settings import from_text, parse, parse_size, read_settings
from vbench.core.threat import ThreatModel, parse_budget, show_budget
from vbench.data.protocols import all_protocols, parse_protocol
from vbench.records.files import read_keep
from vbench.reports.select import pick_metrics, select
from vbench.sweep.tasks import parse_shard
from vbench.victims.build import read_victim

RECORDS = runs()
NAMES = ("pgd", "uap", "fsam_uap", "ensemble", "square", "torchattacks:PGD", "nothing", "")
TEXTS = st.text(max_size=12) | st.text("0123456789/.eE+-_ naif", max_size=12)
HUGE = ("1e999999999", "1E-999999999", "9" * 10**6, "1/" + "9" * 10**6, "x" * 10**6, "0" * 10**6 + "1")

_IDS = st.sampled_from(all_protocols()).map(lambda text: text[:-1]) | st.text("sysuregdblcm/-10", max_size=20)
_KEYS = ("victim", "attack", "eps", "seed", "side", "level", "synthetic", "weights", "odd")
_SETTINGS = ("steps", "step_size", "batch", "level", "stages", "preset", "momentum", "odd", "")
_VALUES = ("20", "none", "true", "8/255", "1/0", "strong", "layer1,stem", "-1", "nan")


def short(refused):
    text = str(refused.value if hasattr(refused, "value") else refused)
    assert text and "\n" not in text and len(text) < 3000


def meant(text):
    """What a budget says, by nothing but its digits; None where it says nothing finite."""
    found = re.fullmatch(r"\+?(\d+)/(\d+)|\+?(\d*)\.?(\d*)(?:[eE]([+-]?\d+))?", text.replace(" ", ""), re.A)
    if not found or not any(found.groups()):
        return None
    if found[1]:
        return Fraction(int(found[1]), int(found[2])) if int(found[2]) else None
    digits = (found[3] or "") + (found[4] or "")
    return Fraction(int(digits or 0)) * Fraction(10) ** (int(found[5] or 0) - len(found[4] or ""))


@settings(PLENTY, max_examples=300)
@given(TEXTS, st.sampled_from(["linf", "l2"]))
@example("8/255", "linf")
@example("0.03", "linf")
@example("8", "linf")
@example("8", "l2")
@example("-1", "linf")
@example("-0", "l2")
@example("1/0", "linf")
@example("0/0", "l2")
@example("nan", "linf")
@example("inf", "l2")
@example("-inf", "linf")
@example("1_0", "linf")
@example("٣/٢٥٥", "linf")
@example("3e-2", "linf")
@example("1e99", "l2")
@example("1e-99", "linf")
def test_a_budget_is_what_its_digits_say_or_refused(text, norm):
    try:
        value = parse_budget(text, norm)
    except BadInput as refused:
        short(refused)
        stated = meant(text) if "_" not in text else None
        outside = stated is None or stated <= 0 or stated > (1 if norm == "linf" else 10_000)
        assert outside or len(text) > 8 or "e" in text.lower()
        return
    assert value == meant(text)
    assert 0 < value <= (1 if norm == "linf" else 10_000)
    assert math.isfinite(float(value)) and float(value) > 0 and show_budget(value)
    assert ThreatModel(text, norm, quantize=False).card()["eps_value"] == float(value)


@settings(PLENTY, max_examples=100)
@given(st.fractions(0, 1), st.integers(1, 255))
def test_fractions_stay_exact(value, levels):
    if value:
        assert parse_budget(f"{value.numerator}/{value.denominator}") == value == parse_budget(value)
    assert parse_budget(f"{levels}/255") * 255 == levels


@pytest.mark.parametrize("text", HUGE, ids=range(len(HUGE)))
def test_nothing_huge_takes_time(text):
    for read in (
        lambda: parse_budget(text, "l2"),
        lambda: parse_protocol(text),
        lambda: select(RECORDS, f"eps={text}"),
        lambda: select(RECORDS, f"{text}=1"),
        lambda: parse_size(f"{text}x1"),
        lambda: parse_shard(f"{text}/{text}"),
        lambda: pick_metrics(text),
        lambda: read_keep(text),
        lambda: read_victim(text),
        lambda: build_attack(text),
        lambda: build_attack(f"pgd[{text}=1]"),
    ):
        with pytest.raises(BadInput) as refused:
            read()
        assert "\n" not in str(refused.value)


@settings(PLENTY, max_examples=200)
@given(
    TEXTS
    | st.sampled_from(all_protocols()).map(lambda text: text[:-1])
    | st.text("sysuregdblcm/-10", max_size=20)
)
def test_a_protocol_is_known_or_refused(text):
    try:
        assert str(parse_protocol(text)) == text
    except BadInput as refused:
        assert text not in all_protocols() and "did you mean" in str(refused)


@settings(PLENTY, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(_KEYS),
            TEXTS | st.sampled_from(["agw", "uap", "8/255", "0.031373", "query", "yes", "0"]),
        ).map("=".join)
        | TEXTS,
        max_size=4,
    ).map(" ".join)
)
def test_a_selection_selects_or_is_refused(text):
    try:
        found = select(RECORDS, text)
    except BadInput as refused:
        assert str(refused)
        return
    assert found and all(one in RECORDS for one in found)


@settings(PLENTY, max_examples=300)
@given(
    st.sampled_from(NAMES),
    st.lists(
        st.tuples(
            st.sampled_from(_SETTINGS),
            TEXTS | st.sampled_from(_VALUES),
        ).map("=".join)
        | TEXTS,
        max_size=3,
    ).map(",".join),
    st.sampled_from(["[{}]", "[{}", "{}]", "{}", "[[{}]]"]),
)
def test_an_attack_is_built_or_refused(name, inside, brackets):
    text = name + brackets.format(inside)
    # A class by path is the user's own, and so is what its module does.
    if ":" in text and not text.startswith("torchattacks:"):
        return
    try:
        attack = build_attack(text)
    except BadInput as refused:
        assert str(refused)
        return
    assert attack.name.startswith(name)


@settings(PLENTY, max_examples=60)
@given(st.sampled_from(["agw", "ddag", "pmt", "x"]), TEXTS, TEXTS)
def test_a_victim_is_read_or_refused(name, option, value):
    for text in (
        f"{name}[{option}={value}]",
        f"{name}[width={value}]",
        f"{name}[input_size={value}]",
        option,
    ):
        if ":" in text.partition("[")[0]:
            continue
        try:
            read_victim(text)
        except BadInput as refused:
            assert str(refused)


@settings(PLENTY, max_examples=200)
@given(TEXTS)
def test_other_words_are_read_or_refused(text):
    from_text(text)
    for read in (parse_size, parse_shard, pick_metrics, read_keep, lambda one: parse(one, "attack")):
        try:
            read(text)
        except BadInput as refused:
            assert str(refused)
    try:
        read_settings([text])
    except BadInput as refused:
        short(refused)
