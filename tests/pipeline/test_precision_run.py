"""Precision in a whole run: its record, its table, and the trial that chooses it."""

from __future__ import annotations

import pytest
import torch
from opening import opener

from vbench.attacks.build import build_attack
from vbench.core.threat import ThreatModel
from vbench.reports.frame import frame
from vbench.reports.tables import report
from vbench.run import prepare
from vbench.run.execute import Run
from vbench.run.prepare import Trial, choose_precision, measure
from vbench.victims.precision import PLAIN, Precision, precision_of

EIGHT = ThreatModel("8/255")


def fresh(small, **precision):
    made = opener("sysu", small.root, weights=small.weights, **precision)
    return made.bench(small.bench.dataset, small.cache, quiet=True)


def test_bfloat16_is_another_record_with_the_same_ranking(small):
    attack = build_attack("metric_ifgsm[steps=2]")
    plain, _ = Run(fresh(small), attack, EIGHT).execute(quiet=True)
    mixed, _ = Run(fresh(small, precision="bfloat16", channels_last=True), attack, EIGHT).execute(quiet=True)
    own = {"parameters": "float32", "float32": {"matmul": "ieee", "convolution": "ieee"}}
    expected = {"dtype": "float32", "autocast": False, "channels_last": False, **own}
    assert plain.config["victim"]["precision"] == expected
    expected = {"dtype": "bfloat16", "autocast": True, "channels_last": True, **own}
    assert mixed.config["victim"]["precision"] == expected
    assert mixed.id != plain.id
    assert mixed.config["victim"]["weights"] == plain.config["victim"]["weights"]
    assert (plain.environment["precision"], mixed.environment["precision"]) == (
        "float32",
        "bfloat16, channels-last",
    )
    assert mixed.mean("clean", "r1") == pytest.approx(plain.mean("clean", "r1"), abs=0.03)
    table = report([plain, mixed], "markdown")
    assert "agw (bfloat16, channels-last)" in table and "mean ± sd" not in table
    assert (frame([plain, mixed])["peak_memory"] > 0).all()


def test_a_surrogate_says_the_precision_of_its_member(small, tmp_path):
    weights = {"weights": small.weights, "surrogate_weights": (small.weights,)}
    made, cards = opener("sysu", small.root, surrogates=("agw",), **weights), []
    for precision in ("float32", "bfloat16"):
        member = fresh(small, precision=precision)
        source = made.source(small.bench, tmp_path, quiet=True, opened=lambda _, one=member: one)
        cards.append(source.victim_card())
        assert cards[-1]["precision"] == member.victim_card()["precision"]
    alone = made.source(small.bench, tmp_path, quiet=True)
    assert cards[0] == alone.victim_card() != cards[1], "in float32 it stays the same surrogate"


def test_default_on_a_cpu_is_the_plain_victim(small):
    bench = fresh(small)
    assert precision_of(bench.victim) == PLAIN
    assert (
        Run(bench, build_attack("noise"), EIGHT).config()
        == Run(small.bench, build_attack("noise"), EIGHT).config()
    )


def test_what_is_left_open_is_tried_once_and_kept(small, tmp_path, monkeypatch, capsys):
    bench, tried = fresh(small), []
    options = [PLAIN, Precision("bfloat16"), Precision("float32", True)]
    monkeypatch.setattr(prepare, "candidates", lambda *_: options)

    def measured(bench, precision):
        tried.append(precision)
        return Trial(precision, 0.1 if precision == options[1] else 1.0, 70.0)

    monkeypatch.setattr(prepare, "measure", measured)
    for _ in range(2):
        choose_precision(bench, "auto", None, tmp_path)
        assert precision_of(bench.victim) == options[1]
    assert tried == options
    said = "agw computes in bfloat16: 10.00 times as fast as float32, clean Rank-1 70.0 -> 70.0"
    assert capsys.readouterr().err.strip() == said


def test_a_trial_ranks_the_clean_images(small):
    found = measure(fresh(small), PLAIN)
    ranks = [trial.rank(1) for trial in small.bench.clean_trials]
    assert found.rank1 == pytest.approx(100 * sum(ranks) / len(ranks))
    assert found.seconds > 0


def test_no_memory_for_a_trial_is_no_error(small, tmp_path, monkeypatch, capsys):
    bench = fresh(small)
    monkeypatch.setattr(prepare, "candidates", lambda *_: [PLAIN, Precision("bfloat16")])

    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(prepare, "measure", full)
    choose_precision(bench, "auto", None, tmp_path)
    assert precision_of(bench.victim) == PLAIN
    assert "agw: no memory to try precisions in; float32" in capsys.readouterr().err
