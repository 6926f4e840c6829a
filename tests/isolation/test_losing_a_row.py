"""Whoever misbehaves loses its own rows: the others are finished, shown and stored."""

from __future__ import annotations

import re
import warnings

import misbehaving
import pytest
from misbehaving import per_image
from tiny import TinyVictim

from vbench import evaluate
from vbench.attacks import Battery
from vbench.attacks.build import build_attack
from vbench.attacks.noise import Noise
from vbench.core.errors import BadInput, VbenchError
from vbench.records.store import RunStore


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def where(dataset):
    return {"dataset": dataset, "ignore_gates": True}


def raising(name="raises"):
    return per_image(name, misbehaving.FAILING["raises"][0])


@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_other_rows_are_in_the_result(where, order):
    attacks = [Noise(kind="sign"), build_attack("metric_fgsm")]
    attacks.insert(order, raising())
    with pytest.warns(
        UserWarning, match="2 of 6 runs are lost, see .failures; tiny, raises, seed 0"
    ) as warned:
        found = evaluate(TinyVictim(), attacks, seed=[0, 1], **where)
    assert len(warned) == 1
    assert [record.label for record in found] == ["noise[kind=sign]"] * 2 + ["metric_fgsm"] * 2
    assert [(one.victim, one.attack, one.seed) for one in found.failures] == [
        ("tiny", "raises", 0),
        ("tiny", "raises", 1),
    ]
    reason = found.failures[0].reason
    assert re.fullmatch(
        r"attack 'raises': .*misbehaving.py, line \d+: ValueError: no such thing at all", reason
    )
    assert "lost:\n  tiny, raises, seed 0: attack 'raises'" in str(found)
    assert "lost: tiny, raises, seed 1: attack &#x27;raises&#x27;" in found._repr_html_()


def test_no_row_at_all_is_an_error_with_the_first_reason(where):
    with pytest.raises(VbenchError, match=r"attack 'first': .*: ValueError") as caught:
        evaluate(TinyVictim(), [raising("first"), raising("second")], **where)
    assert not isinstance(caught.value, BadInput)


def test_one_victim_of_several(where):
    bad = misbehaving.victim(misbehaving.VICTIMS["raises"][0])
    alone = evaluate(TinyVictim(), ["noise", "metric_fgsm"], **where)
    assert alone.failures == ()
    for victims in ([bad, TinyVictim()], [TinyVictim(), bad]):
        with pytest.warns(UserWarning, match="2 of 4 runs are lost"):
            found = evaluate(victims, ["noise", "metric_fgsm"], **where)
        assert [one.victim for one in found.failures] == ["made", "made"]
        assert [record.adversarial for record in found] == [record.adversarial for record in alone]


def test_a_victim_that_cannot_be_copied_is_refused_before_any_work(where, tmp_path):
    closed = TinyVictim()
    closed.source = (one for one in ())
    with pytest.raises(BadInput, match="cannot be copied"):
        evaluate([TinyVictim(), closed], "noise", runs=tmp_path / "runs", **where)
    assert not (tmp_path / "runs").exists() or not RunStore(tmp_path / "runs").read_all().records


def test_what_is_done_stays_when_somebody_interrupts(where, tmp_path):
    def stop(victim, images, modality, context):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(
            TinyVictim(), ["noise", per_image("stop", stop), "metric_fgsm"], runs=tmp_path / "runs", **where
        )
    assert [record.label for record in RunStore(tmp_path / "runs").read_all().records] == ["noise"]


def test_a_battery_loses_its_row_by_the_name_of_its_member(where):
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Both(Battery):
        """Two members, one of which raises."""

        name = "both"
        summary = "a battery"

        def attacks(self):
            return Noise(), raising("member")

    with pytest.warns(UserWarning, match="tiny, both, seed 0: attack 'member': .*: ValueError"):
        found = evaluate(TinyVictim(), [Both(), "noise"], **where)
    assert [record.label for record in found] == ["noise"]


def test_bad_input_in_the_middle_of_the_work_is_work_that_failed(where):
    def refuse(victim, images, modality, context):
        raise BadInput("cannot work with this")

    with pytest.raises(VbenchError, match="cannot work with this") as caught:
        evaluate(TinyVictim(), per_image("refuses", refuse), **where)
    assert caught.value.exit_code == 1


def test_a_callers_victim_is_left_alone(where):
    victim = TinyVictim().train()
    state = {name: value.clone() for name, value in victim.state_dict().items()}
    attributes = set(vars(victim))
    misbehaving.REACHED.clear()
    evaluate(victim, list(misbehaving.HARMLESS), precision="bfloat16", **where)
    assert victim.training and set(vars(victim)) == attributes
    assert all(bool((state[name] == value).all()) for name, value in victim.state_dict().items())


def test_nothing_is_said_without_a_failure(where):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert evaluate(TinyVictim(), "noise", **where).failures == ()
