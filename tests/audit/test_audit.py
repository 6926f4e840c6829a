"""Masked victims are caught by name, and the honest twin passes the very same line."""

from __future__ import annotations

import dataclasses

import masked
import numpy as np
import pytest
import torch
from masked import Honest, workbench, write_images
from scipy.stats import binom

from vbench.audit import PROBES, attacks, audit
from vbench.audit.evidence import Evidence, Outcome
from vbench.audit.record import Audit, Verdict, render
from vbench.core.errors import BadInput
from vbench.core.threat import ThreatModel
from vbench.core.types import Side
from vbench.data.base import Dataset, Trial
from vbench.data.open import with_queries
from vbench.metrics.statistics import DECISIONS, LEAST_IDENTITIES, TAIL, chance_bound, compare
from vbench.run.bench import Bench
from vbench.victims.base import frozen

FOUR = ThreatModel("4/255")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def honest(dataset) -> Evidence:
    return Evidence(workbench(dataset, Honest), FOUR, seed=0)


def ask(name: str, evidence: Evidence):
    (probe,) = [probe for probe in PROBES if probe.name == name]
    return probe.ask(evidence)


@pytest.mark.parametrize(
    ("victim", "caught_by"),
    [
        ("Quantised", ["gradient", "gradient direction", "attack beats noise", "black box"]),
        ("Saturated", ["gradient", "attack beats noise", "black box"]),
        (
            "Detached",
            ["gradient", "gradient direction", "many steps beat one", "growing budget", "black box"],
        ),
        ("Indexed", ["gradient", "attack and batch"]),
        ("Shattered", ["gradient direction", "attack beats noise", "black box"]),
        ("Noisy", ["same batch twice", "batch and order"]),
        ("DropsOut", ["same batch twice", "frozen"]),
        ("BatchStatistics", ["batch and order"]),
        ("Counts", ["frozen"]),
        ("WritesToInput", ["frozen"]),
    ],
)
def test_a_masked_victim_is_caught_and_its_honest_twin_is_not(dataset, honest, victim, caught_by):
    evidence = Evidence(workbench(dataset, getattr(masked, victim)), FOUR, seed=0)
    for name in caught_by:
        found = ask(name, evidence)
        assert found.verdict is Verdict.FAIL, (name, found.measured)
        assert found.means and found.advice
        twin = ask(name, honest)
        assert twin.verdict is Verdict.PASS, (name, twin.measured)


def test_an_honest_victim_passes_every_line_and_nothing_about_it_changes(dataset):
    bench = workbench(dataset, Honest)
    before = {name: value.clone() for name, value in bench.victim.state_dict().items()}
    found = audit(bench, FOUR, seed=0, queries_in_protocol=masked.IDENTITIES, quiet=True)
    assert {check.name: check.verdict for check in found.checks} == {
        probe.name: Verdict.PASS for probe in PROBES
    }
    assert found.holds and "the evaluation holds (14 pass, 0 warn, 0 fail)" in render(found)
    assert all(torch.equal(value, before[name]) for name, value in bench.victim.state_dict().items())
    assert Audit.model_validate_json(render(found, "json")) == found
    again = audit(bench, FOUR, seed=0, queries_in_protocol=masked.IDENTITIES, quiet=True)
    assert again.checks == found.checks and again.id == found.id


def test_no_more_decisions_are_made_than_the_level_is_shared_among(dataset):
    evidence = Evidence(workbench(dataset, Honest), FOUR, seed=0)
    for probe in PROBES:
        probe.ask(evidence)
    assert evidence.decisions == DECISIONS


def test_without_gradients_every_line_still_answers(dataset):
    found = audit(workbench(dataset, masked.Detached), FOUR, 0, masked.IDENTITIES, quiet=True)
    assert not found.holds
    verdicts = {check.name: check.verdict for check in found.checks}
    assert len(verdicts) == len(PROBES)
    assert verdicts["same batch twice"] is verdicts["saved as PNG"] is verdicts["budget"] is Verdict.PASS
    text = render(found)
    assert "the evaluation does not hold" in text and "does not require grad" in " ".join(text.split())


def test_pixels_that_are_read_by_nothing_are_not_masked(dataset):
    found = ask("gradient", Evidence(workbench(dataset, masked.Crops), FOUR, seed=0))
    assert found.verdict is Verdict.PASS
    height, width = masked.SIZE
    assert found.figures["unread_values"] == pytest.approx(1 - (height - 4) * (width - 2) / (height * width))


@pytest.mark.parametrize(("dead", "verdict"), [(1, Verdict.PASS), (20, Verdict.WARN), (80, Verdict.FAIL)])
def test_zeros_count_by_the_share_of_the_attack_that_they_take(dataset, dead, verdict):
    class Holes(Honest):
        def see(self, images):
            hole = torch.zeros_like(images, dtype=torch.bool)
            hole.flatten(1)[:, :dead] = True
            return torch.where(hole, images.detach(), images)

    found = ask("gradient", Evidence(workbench(dataset, Holes), FOUR, seed=0))
    assert found.verdict is verdict, found.measured
    assert found.figures["blind_values"] == pytest.approx(dead / (3 * masked.SIZE[0] * masked.SIZE[1]))


def test_batches_are_judged_by_the_rounding_of_the_victims_own_precision(dataset):
    for victim, verdict in ((Honest, Verdict.PASS), (masked.BatchStatistics, Verdict.FAIL)):
        bench = Bench(dataset, victim().eval(), None, quiet=True)
        found = ask("batch and order", Evidence(bench, FOUR, seed=0))
        assert found.verdict is verdict, found.measured
        assert 1e-8 < found.figures["rounding"] < 1e-4


class Fabricated(Evidence):
    """Outcomes as given, by attack or by budget, in place of measured ones."""

    def __init__(self, bench: Bench, outcomes: dict[str, float]) -> None:
        super().__init__(bench, FOUR, seed=0)
        self._given = outcomes

    def attacked(self, spec, eps=None, batch=64):
        share = self._given[eps or (spec if batch == 64 else f"{spec} in {batch}")]
        count = len(self.ids)
        hits = (np.arange(count) < round(share * count)).astype(float)[None]
        clean = self.bench.clean[Side.QUERY].embeddings
        return Outcome(hits, clean, np.array(self.bench.pixels[Side.QUERY]))


def rungs(*shares: float) -> dict[str, float]:
    return dict(zip([f"{levels}/255" for levels in attacks.RUNGS], shares, strict=True))


MANY, IN_13 = attacks.MANY_STEPS, f"{attacks.MANY_STEPS} in 13"


@pytest.mark.parametrize(
    ("probe", "outcomes", "verdict", "says"),
    [
        ("growing budget", rungs(0.6, 0.4, 0.2, 0.05, 0.025), Verdict.PASS, "chance 2.5"),
        ("growing budget", rungs(0.6, 0.5, 0.4, 0.4, 0.4), Verdict.WARN, "not down to chance"),
        ("growing budget", rungs(0.2, 0.1, 0.025, 0.8, 0.025), Verdict.FAIL, "rises from 16 to 32"),
        ("growing budget", rungs(1, 1, 1, 1, 1), Verdict.FAIL, "does not fall beyond noise"),
        ("many steps beat one", {"metric_fgsm": 0.1, MANY: 0.6}, Verdict.FAIL, "10.0"),
        ("many steps beat one", {"metric_fgsm": 0.6, MANY: 0.1}, Verdict.PASS, "60.0"),
        ("many steps beat one", {"metric_fgsm": 0.5, MANY: 0.5}, Verdict.WARN, "beyond noise"),
        ("more steps", {MANY: 0.1, attacks.MORE_STEPS: 0.6}, Verdict.FAIL, "+50.0"),
        ("more steps", {MANY: 0.1, attacks.MORE_STEPS: 0.15}, Verdict.PASS, "+5.0"),
        ("more restarts", {MANY: 0.1, attacks.RESTARTS: 0.6}, Verdict.FAIL, "+50.0"),
        (
            "attack and batch",
            {MANY: 0.1, IN_13: 0.6},
            Verdict.FAIL,
            "+50.0",
        ),
        (
            "attack and batch",
            {MANY: 0.6, IN_13: 0.1},
            Verdict.FAIL,
            "-50.0",
        ),
        (
            "attack beats noise",
            {attacks.NOISE: 0.6, MANY: 0.1},
            Verdict.FAIL,
            "0.000 and 0.000",
        ),
    ],
)
def test_outcomes_are_read_as_documented(honest, probe, outcomes, verdict, says):
    found = ask(probe, Fabricated(honest.bench, outcomes))
    assert found.verdict is verdict, found.measured
    assert says in found.measured


def test_an_attack_that_moves_embeddings_but_not_the_ranking_is_a_warning(honest):
    class SameRanking(Evidence):
        def attacked(self, spec, eps=None, batch=64):
            return dataclasses.replace(honest.attacked(spec, eps, batch), hits=honest.clean)

    found = ask("attack beats noise", SameRanking(honest.bench, FOUR, seed=0))
    assert found.verdict is Verdict.WARN and "no difference of Rank-1" in found.measured


def test_a_black_box_that_does_nothing_is_no_support(honest):
    given = dict.fromkeys((*attacks.WHITE_BOX, attacks.NOISE, attacks.BLACK_BOX), 0.5)
    found = ask("black box", Fabricated(honest.bench, given))
    assert found.verdict is Verdict.WARN and "no stronger than noise" in found.measured


def test_images_between_levels_do_not_survive_being_saved(dataset, honest):
    unrounded = Evidence(honest.bench, dataclasses.replace(FOUR, quantize=False), seed=0)
    found = ask("saved as PNG", unrounded)
    assert found.verdict is Verdict.FAIL and found.figures["drift"] > 0
    assert ask("saved as PNG", honest).figures["changed_values"] == 0


def test_saving_is_lossless_through_the_loader_of_data_sets(honest):
    pixels = np.random.default_rng(0).integers(0, 256, (3, *masked.SIZE, 3), dtype=np.uint8)
    assert (attacks.saved_and_read(honest, pixels) == pixels).all()


def test_one_level_over_the_budget_is_caught(dataset):
    class Lax(ThreatModel):
        def enforce(self, clean, adversarial):
            return (super().enforce(clean, adversarial) + 1 / 255).clamp(0, 1)

        def check(self, clean, adversarial):
            pass

    bench = workbench(dataset, Honest)
    for threat, verdict in ((Lax("4/255"), Verdict.FAIL), (FOUR, Verdict.PASS)):
        evidence = Evidence(bench, threat, seed=0)
        evidence.attacked(attacks.NOISE)
        found = ask("budget", evidence)
        assert found.verdict is verdict
        assert found.figures[f"{attacks.NOISE} at 4"] == (5 if verdict is Verdict.FAIL else 4)


def test_what_is_shown_is_what_the_victim_ranks_by(honest):
    outcome = honest.attacked(attacks.STRONG)
    images = torch.from_numpy(outcome.shown).permute(0, 3, 1, 2).double() / 255
    with frozen(honest.victim), torch.no_grad():
        again = honest.victim(images, honest.bench.modality(Side.QUERY)).embedding
    torch.testing.assert_close(again.float(), outcome.embeddings)


def test_fewer_queries_keep_their_ranks(dataset):
    order = np.random.default_rng(1).permutation(masked.IDENTITIES)
    gallery = np.arange(len(dataset.gallery))
    two = dataclasses.replace(
        dataset, trials=(Trial("a", order, gallery), Trial("b", order[::-1].copy(), gallery))
    )
    full = Evidence(workbench(two, Honest), FOUR, seed=0).clean
    fewer = with_queries(two, 13)
    part = Evidence(workbench(fewer, Honest), FOUR, seed=0).clean
    rows = [two.query.index(sample) for sample in fewer.query]
    assert len(rows) == 13 and (full[:, rows] == part).all()
    assert with_queries(two, 1000) is two
    with pytest.raises(BadInput, match="at least 1"):
        with_queries(two, 0)


def test_too_few_identities_are_refused(dataset):
    bench = workbench(with_queries(dataset, 10), Honest)
    with pytest.raises(BadInput, match="10 queries of 10 identities are too few for a significant result"):
        audit(bench, FOUR, 0, masked.IDENTITIES, quiet=True)
    few, enough = (
        compare(np.ones(count), np.zeros(count), np.arange(count), seed=0)
        for count in (LEAST_IDENTITIES - 1, LEAST_IDENTITIES)
    )
    assert not few.lower and enough.lower


def test_chance_is_a_binomial_over_queries():
    bound = chance_bound(0.02, 96)
    hits = round(bound * 96)
    above, at_least = (1 - sum(binom.pmf(k, 96, 0.02) for k in range(top)) for top in (hits + 1, hits))
    assert above <= TAIL < at_least


def test_trials_are_the_same_queries_again_and_gaps_are_left_out():
    first, second = np.ones((10, 12)), np.zeros((10, 12))
    second[:, 1:] = 1
    first[3:, 5] = second[3:, 5] = np.nan
    first[:, 7] = second[:, 7] = np.nan
    found = compare(first, second, np.arange(12), seed=0)
    assert found.difference == pytest.approx(-1 / 11)
    assert not found.lower, "ten trials of one query are one query"
