"""Protocol ids: the grammar, round trips, refusals."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbench.core.errors import BadInput
from vbench.data.protocols import all_protocols, default_protocol, parse_protocol

GRAMMAR = re.compile(
    r"sysu/(all|indoor)/(single|multi)/ir2vis/(seed10|randperm10)"
    r"|sysu/(all|indoor)/single/vis2ir/seed10"
    r"|regdb/(vis2ir|ir2vis)/trial-([1-9]|10)"
    r"|llcm/(ir2vis|vis2ir)/seed10"
)

words = ["sysu", "regdb", "llcm", "all", "indoor", "single", "multi", "ir2vis", "vis2ir"]
words += ["seed10", "randperm10", "trial-0", "trial-1", "trial-10", "trial-11"]
parts = st.sampled_from(words)


@given(
    st.one_of(
        st.lists(parts, max_size=6).map("/".join),
        st.text(max_size=40),
        st.from_regex(GRAMMAR, fullmatch=True),
    )
)
def test_exactly_the_grammar_parses_and_round_trips(text):
    if GRAMMAR.fullmatch(text):
        assert str(parse_protocol(text)) == text
        assert text in all_protocols(text.split("/")[0])
    else:
        with pytest.raises(BadInput) as refusal:
            parse_protocol(text)
        assert len(str(refusal.value).splitlines()) == 1


def test_all_of_them_are_listed_once():
    assert len(all_protocols()) == len(set(all_protocols())) == 10 + 20 + 2
    assert all(GRAMMAR.fullmatch(text) for text in all_protocols())
    assert [len(all_protocols(layout)) for layout in ("sysu", "regdb", "llcm")] == [10, 20, 2]


def test_parts_are_typed():
    sysu = parse_protocol("sysu/indoor/multi/ir2vis/randperm10")
    assert (sysu.layout, sysu.mode, sysu.shots_per_camera, sysu.galleries) == (
        "sysu",
        "indoor",
        10,
        "randperm10",
    )
    assert parse_protocol("regdb/ir2vis/trial-10").trial == 10
    assert not parse_protocol("sysu/all/single/vis2ir/seed10").standard
    assert sysu.standard


def test_a_typo_gets_the_nearest_id():
    with pytest.raises(BadInput, match="did you mean 'sysu/all/single/ir2vis/seed10'"):
        parse_protocol("sysu/all/singel/ir2vis/seed10")


@pytest.mark.parametrize("layout", ["sysu", "regdb", "llcm"])
def test_defaults_belong_to_their_layout(layout):
    assert default_protocol(layout) in all_protocols(layout)


def test_an_unknown_layout_gets_the_nearest_name():
    with pytest.raises(BadInput, match="did you mean 'regdb'"):
        default_protocol("regbd")
