"""Batteries: which image of each query is kept, what members keep of their own, what record and table say."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from tiny import SIZE, TinyVictim

from vbench.attacks import Battery
from vbench.attacks.build import build_attack, label
from vbench.attacks.noise import Noise
from vbench.attacks.uap import UAP
from vbench.core.errors import BadInput, VbenchError
from vbench.core.threat import ThreatModel
from vbench.core.types import Side
from vbench.data import open_dataset
from vbench.data.base import Trial
from vbench.data.synthetic import write_dataset
from vbench.records.record import Record
from vbench.reports.frame import frame
from vbench.reports.tables import report, split
from vbench.run.bench import Bench
from vbench.run.execute import Run
from vbench.victims.embed import to_images

EIGHT = ThreatModel("8/255")
SPECS = ("noise", "uap[evaluations=64,batch=16]", "pgd[steps=2]", "square[queries=4]", "sma[steps=3]")


class Greedy(Noise):
    name = "greedy"

    def craft(self, victim, images, modality, context):
        return 1 - images


class Nothing(Noise):
    name = "nothing"

    def craft(self, victim, images, modality, context):
        return images


class Broken(Noise):
    name = "broken"

    def craft(self, victim, images, modality, context):
        return images * float("nan")


def battery(*attacks):
    """A battery of attacks or of their texts."""
    built = tuple(build_attack(one) if isinstance(one, str) else one for one in attacks)

    @dataclass(frozen=True)
    class Some(Battery):
        """What a test is about."""

        name: ClassVar[str] = "some"
        summary: ClassVar[str] = "a battery for tests"

        def attacks(self):
            return built

    return Some()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Three trials that order the queries differently and lack other identities in their galleries."""
    root = tmp_path_factory.mktemp("battery") / "data"
    write_dataset("sysu", root, ids=8, seed=3, size=SIZE, test_ids=6, quiet=True)
    found = open_dataset("sysu", root)
    pids = np.array([found.gallery[position].pid for position in found.trials[0].gallery])
    order = np.arange(len(found.query))
    trials = [
        Trial(str(number), query, found.trials[number].gallery[~np.isin(pids, np.unique(pids)[gone])])
        for number, (query, gone) in enumerate([(order, []), (order[::-1].copy(), [0]), (order, [0, 2])])
    ]
    return dataclasses.replace(found, trials=tuple(trials))


@pytest.fixture
def bench(dataset):
    return Bench(dataset, TinyVictim().eval(), None, quiet=True)


def run(bench, attack, threat=EIGHT, **more):
    return Run(bench, attack, threat, ignore_gates=True, **more).execute(quiet=True)[0]


def arrays(record, *names):
    return [record.per_query[name].unpack() for name in names]


def test_the_kept_images_are_those_of_a_literal_search(bench):
    record = run(bench, battery(*SPECS))
    alone = [run(bench, build_attack(spec)) for spec in SPECS]
    ranks, precisions, members = arrays(record, "adversarial_rank", "adversarial_ap", "member")
    own = [arrays(one, "adversarial_rank", "adversarial_ap") for one in alone]
    won, lost = [0] * len(SPECS), [0] * len(SPECS)
    unmatched = 0
    for image in range(len(bench.dataset.query)):
        columns = [list(trial.query).index(image) for trial in bench.dataset.trials]
        scores = [0.0] * len(SPECS)
        matched = False
        for turn, column in enumerate(columns):
            for which, (_, values) in enumerate(own):
                if not np.isnan(values[turn, column]):
                    matched = True
                    scores[which] += float(values[turn, column]) / np.sum(~np.isnan(values[turn]))
        kept = {int(members[turn, column]) for turn, column in enumerate(columns)}
        assert len(kept) == 1, "one image serves every trial"
        (winner,) = kept
        assert scores[winner] <= min(scores) + 1e-6
        assert all(score > scores[winner] - 1e-6 for score in scores[:winner])
        for turn, column in enumerate(columns):
            assert ranks[turn, column] == own[winner][0][turn, column]
            np.testing.assert_equal(precisions[turn, column], own[winner][1][turn, column])
            before = record.per_query["clean_rank"].unpack()[turn, column]
            lost[winner] += before == 1 and ranks[turn, column] > 1
        won[winner] += matched
        unmatched += not matched
    assert unmatched == 0 and (ranks == 0).any()
    assert [member.won for member in record.members] == pytest.approx([n / sum(won) for n in won])
    assert [member.won_lost for member in record.members] == pytest.approx([n / sum(lost) for n in lost])
    assert sum(n > 0 for n in won) > 1, "or nothing was chosen"
    for member, one in zip(record.members, alone, strict=True):
        assert (member.label, member.trials, member.asr) == (one.label, one.adversarial, one.asr)
        assert record.mean("adversarial", "map") <= one.mean("adversarial", "map") + 1e-12


def test_members_pay_together(bench):
    record = run(bench, battery(*SPECS))
    cost = {member.label: member.cost for member in record.members}
    assert record.cost["evaluations_per_image"] == 5
    assert record.cost["fit_evaluations"] == 64
    assert record.cost["queries_per_image"] == 4 == cost["square[queries=4]"]["queries_per_image"]
    assert "queries_per_image" not in cost["pgd[steps=2]"]
    seconds = [one["attack_seconds"] for one in cost.values()]
    assert record.cost["attack_seconds"] == pytest.approx(sum(seconds))


def test_a_tie_goes_to_the_earlier_member_and_adds_nothing(bench):
    alone = run(bench, build_attack("sma[steps=3]"))
    twice = run(bench, battery("sma[steps=3]", "sma[steps=3]"))
    assert [member.won for member in twice.members] == [1, 0]
    assert twice.adversarial == alone.adversarial and twice.size == alone.size
    assert twice.per_query["adversarial_rank"] == alone.per_query["adversarial_rank"]


def test_the_order_of_members_decides_ties_alone(bench):
    forth, back = (run(bench, battery(*specs)) for specs in (SPECS, SPECS[::-1]))
    assert forth.mean("adversarial", "map") == pytest.approx(back.mean("adversarial", "map"), abs=1e-12)


def outcome(record):
    return record.per_query, [member.won for member in record.members], record.adversarial


def test_same_seed_same_bits(bench):
    first, again, other = (outcome(run(bench, battery(*SPECS), seed=seed)) for seed in (0, 0, 1))
    assert first == again != other


def test_the_batch_size_decides_nothing(dataset):
    bench = Bench(dataset, TinyVictim().double().eval(), None, quiet=True)
    several = battery("noise", "pgd[steps=2]", "square[queries=4]", "sma[steps=3]")
    whole = outcome(run(bench, several))
    bench.batch = 5
    assert outcome(run(bench, several)) == whole


def test_every_member_is_held_to_the_budget_and_sizes_are_those_of_kept_images(bench):
    record = run(bench, battery(Nothing(), Greedy()))
    assert 0 < record.members[1].won < 1
    assert record.size["linf_levels"] == pytest.approx(8, abs=1e-3)
    clean = to_images(bench.pixels[Side.QUERY], bench.victim)
    changed = (EIGHT.enforce(clean, 1 - clean) != clean).double().flatten(1).mean(1)
    greedy = torch.from_numpy(record.per_query["member"].unpack()[0] == 1)
    expected = torch.where(greedy, changed, 0.0).mean()
    assert record.size["changed_share"] == pytest.approx(float(expected))


def test_a_member_that_yields_nan_fails_by_name_and_the_victim_is_as_found(bench):
    bench.victim.body.weight.requires_grad_(False)
    bench.victim.norm.train()

    def state():
        victim = bench.victim
        modes = [module.training for module in victim.modules()]
        return modes, [parameter.requires_grad for parameter in victim.parameters()]

    before, weights = state(), {name: value.clone() for name, value in bench.victim.state_dict().items()}
    run(bench, battery(*SPECS))
    with pytest.raises(VbenchError, match=r"'broken' yields non-finite"):
        run(bench, battery(Noise(), Broken()))
    assert state() == before
    assert all(torch.equal(value, weights[name]) for name, value in bench.victim.state_dict().items())


def test_a_member_the_victim_has_no_use_for_is_left_out_and_said_so(bench):
    bench.victim.num_classes = 0
    record = run(bench, battery("noise", "pgd", "sma[steps=2]"))
    assert [member.label for member in record.members] == ["noise", "sma[steps=2]"]
    assert "identity classifier" in record.left_out["pgd"]
    assert any(warning.startswith("pgd is left out") for warning in record.warnings)
    assert "evaluation: worst of 2 (no pgd)" in report([record], "markdown")
    with pytest.raises(BadInput, match="'some' has no member for tiny: attack 'pgd' needs"):
        Run(bench, battery("pgd"), EIGHT).check()


@pytest.mark.parametrize("side", ["gallery", "both"])
def test_there_is_no_worst_case_per_query_on_the_gallery_side(bench, side):
    with pytest.raises(BadInput, match="use --side query"):
        Run(bench, battery("noise"), ThreatModel("8/255", side=side)).check()


def test_what_a_battery_cannot_hold_or_do_is_refused(bench):
    with pytest.raises(BadInput, match="'fsam_uap' does more than change pixels"):
        Run(bench, battery("noise", "fsam_uap[level=feature]"), EIGHT).check()
    with pytest.raises(BadInput, match="'some' does more"):
        Run(bench, battery(battery("noise")), EIGHT).check()
    with pytest.raises(BadInput, match="works in linf, not in l2"):
        Run(bench, build_attack("ensemble"), ThreatModel("1", "l2")).check()
    _, learnt = Run(bench, build_attack(SPECS[1]), EIGHT, ignore_gates=True).execute(quiet=True)
    with pytest.raises(BadInput, match="cannot replay"):
        Run(bench, battery("noise"), EIGHT, perturbation=learnt).check()


def test_what_was_learnt_alone_is_not_learnt_again(bench, monkeypatch):
    fits, learn = [], UAP.learn
    monkeypatch.setattr(UAP, "learn", lambda *args: fits.append(1) or learn(*args))
    known = {}
    alone, _ = Run(bench, build_attack(SPECS[1]), EIGHT, ignore_gates=True).execute(True, known)
    together = Run(bench, battery(*SPECS), EIGHT, ignore_gates=True)
    record, learnt = together.execute(True, known)
    assert len(fits) == 1 and learnt is None
    assert list(known) == together.fits()
    assert record.members[1].trials == alone.adversarial
    assert record.cost["fit_evaluations"] == 64


def test_members_transfer_from_a_surrogate(bench, dataset):
    other = TinyVictim(seed=4).eval()
    other.name = "other"
    source = Bench(dataset, other, None, quiet=True)
    record = run(bench, battery(*SPECS), source=source)
    alone = [run(bench, build_attack(spec), source=source) for spec in SPECS]
    assert [member.trials for member in record.members] == [one.adversarial for one in alone]
    assert record.members[4].trials != run(bench, build_attack(SPECS[4])).adversarial
    ((_, entries),) = split([record])
    rows = [row for _, row in entries]
    assert rows[0].knowledge == "evaluation: worst of 5, training, from other"


def test_a_record_tells_batteries_apart_and_comes_back_whole(bench):
    one, two = battery("noise", "sma[steps=2]"), battery("noise", "sma[steps=3]")
    assert Run(bench, one, EIGHT).config() != Run(bench, two, EIGHT).config()
    record = run(bench, one)
    assert record.knowledge == ["evaluation"] and not record.universal
    text = record.model_dump_json()
    assert Record.model_validate_json(text) == record
    old = json.loads(text)
    for field in ("members", "left_out"):
        del old[field]
    ((_, entries),) = split([Record.model_validate(old)])
    rows = [row for _, row in entries]
    assert [row.control for row in rows] == [False]


def test_the_table_shows_members_under_their_battery(bench):
    records = [run(bench, battery(*SPECS), seed=seed) for seed in range(2)]
    ((_, entries),) = split(records)
    rows = [row for _, row in entries]
    assert [row.control for row in rows] == [False] + [True] * 5
    assert rows[0].knowledge == "evaluation: worst of 5, training"
    assert rows[0].evaluations == "64 a fit + 5 an image + 4 queries"
    square = rows[4]
    shares = [[100 * getattr(r.members[3], name) for r in records] for name in ("won", "won_lost")]
    won, lost = (sum(pair) / 2 for pair in shares)
    assert square.attack == f"square[queries=4]: wins {won:.1f} %, of lost Rank-1 {lost:.1f} %"
    assert (square.knowledge, square.evaluations) == ("per-image", "0 an image + 4 queries")
    assert square.seeds == 2 and rows[2].knowledge == "universal, training"
    lines = report(records, "markdown").splitlines()
    assert sum("· " in line for line in lines) == 5
    table = frame(records)
    shares = [name for name in table.columns if name.startswith("won ") and "lost" not in name]
    assert table[shares].sum(axis=1).tolist() == pytest.approx([1, 1])


@pytest.mark.slow
def test_the_ensemble_is_the_fixed_list_it_is_described_as(bench):
    attack = build_attack("ensemble[members=five]")
    assert attack.settings() == {"members": "five"}
    with pytest.raises(BadInput, match="steps"):
        build_attack("ensemble[steps=3]")
    record = run(bench, attack)
    labels = [member.label for member in record.members]
    assert labels == [label(member) for member in attack.attacks()]
    assert [name.partition("[")[0] for name in labels] == ["square", "uap", "pgd", "sma", "fna"]
    cost = record.cost
    found = [cost[name] for name in ("fit_evaluations", "evaluations_per_image", "queries_per_image")]
    assert found == [pytest.approx(12800, rel=0.01), 40, 200]
    assert sum(member.won for member in record.members) == pytest.approx(1)
