"""Budgets and their enforcement, on the 8-bit grid."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vbench.core.errors import BadInput, VbenchError
from vbench.core.threat import ThreatModel, parse_budget, show_budget

SHAPE = (3, 3, 4, 4)


def grid(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, SHAPE, generator=generator).float() / 255


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8/255", Fraction(8, 255)),
        ("0.03", Fraction(3, 100)),
        ("1", Fraction(1)),
        (" 4 / 255", Fraction(4, 255)),
    ],
)
def test_budgets_are_exact(text, value):
    assert parse_budget(text) == value


@pytest.mark.parametrize("text", ["-1", "0", "1/0", "nan", "inf", "", "eight", "8/0255x"])
def test_impossible_budgets_are_refused(text):
    with pytest.raises(BadInput, match="eps"):
        parse_budget(text)


def test_only_l_inf_has_a_usual_budget():
    assert ThreatModel() == ThreatModel("8/255")
    with pytest.raises(BadInput, match="norm l2 has no usual budget: give eps"):
        ThreatModel(norm="l2")


def test_levels_given_as_a_budget_get_a_hint():
    with pytest.raises(BadInput, match=r"did you mean 8/255\?"):
        ThreatModel("8")


def test_a_float_of_eight_levels_is_eight_levels():
    assert ThreatModel(8 / 255).levels == 8
    assert ThreatModel("0.0313").levels == 7


def test_below_one_level_is_refused_only_with_8_bits():
    with pytest.raises(BadInput, match="below one 8-bit level"):
        ThreatModel("0.001")
    assert ThreatModel("0.001", quantize=False).epsilon == pytest.approx(0.001)


@pytest.mark.parametrize("levels", [1, 8, 64, 255])
def test_budget_text_round_trips(levels):
    assert show_budget(parse_budget(f"{levels}/255")) in (f"{levels}/255",)


@given(st.integers(1, 64), st.integers(0, 2**31), st.floats(0.001, 3))
def test_enforced_images_are_in_budget_in_range_and_8_bit(levels, seed, strength):
    threat = ThreatModel(f"{levels}/255")
    clean = grid(seed)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed + 1)) * strength
    shown = threat.enforce(clean, clean + noise)
    threat.check(clean, shown)
    change = (shown.double() * 255).round() - (clean.double() * 255).round()
    assert change.abs().max() <= levels
    assert torch.equal(shown, (shown * 255).round() / 255)
    assert torch.equal(threat.enforce(clean, shown), shown)


@given(st.floats(0.05, 3), st.integers(0, 2**31))
def test_l2_budget_survives_rounding(eps, seed):
    threat = ThreatModel(str(eps), norm="l2")
    clean = grid(seed)
    shown = threat.enforce(clean, torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed + 1)))
    threat.check(clean, shown)
    assert (shown - clean).flatten(1).norm(dim=1).max() <= eps + 1e-5


def test_values_at_the_ends_of_the_budget_are_kept_exactly():
    threat = ThreatModel("8/255")
    clean = torch.full(SHAPE, 100 / 255)
    assert torch.equal(threat.enforce(clean, clean + 1), torch.full(SHAPE, 108 / 255))
    assert torch.equal(threat.enforce(clean, clean - 1), torch.full(SHAPE, 92 / 255))


@pytest.mark.parametrize(
    ("change", "reason"), [(9 / 255, "budget broken"), (2.0, r"leave \[0, 1\]"), (0.4 / 255, "8-bit grid")]
)
def test_check_notices_each_way_to_break_the_rules(change, reason):
    clean = torch.full(SHAPE, 100 / 255)
    with pytest.raises(VbenchError, match=reason):
        ThreatModel("8/255").check(clean, clean + change)


def test_non_finite_and_misshapen_images_are_refused():
    clean = grid(0)
    broken = clean.clone()
    broken[0, 0, 0, 0] = torch.nan
    with pytest.raises(VbenchError, match="1 non-finite"):
        ThreatModel("8/255").enforce(clean, broken)
    with pytest.raises(VbenchError, match="shape"):
        ThreatModel("8/255").enforce(clean, clean[:1])
