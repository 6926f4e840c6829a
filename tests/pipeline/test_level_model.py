"""``level=model``: the attacker trains the victim; what is kept, the mandatory controls, the verdict."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import SIZE, TinyVictim, make_training

from vbench.attacks.build import build_attack, label
from vbench.attacks.fsam_uap.model import schedule_of
from vbench.core.errors import BadInput
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.data import open_dataset
from vbench.data.synthetic import write_dataset
from vbench.records.record import TrialMetrics, loses
from vbench.records.store import RunStore
from vbench.reports.tables import report
from vbench.reports.verify import verify
from vbench.run.bench import Bench
from vbench.run.controls import judged
from vbench.run.execute import Run
from vbench.run.session import Recorder
from vbench.victims.agw import AGW
from vbench.victims.checkpoint import sha256_of

EIGHT = ThreatModel("8/255")
SPEC = "fsam_uap[preset=paper,level=model,epochs=2,batch=16]"


def fit(victim, spec=SPEC):
    generator = torch.Generator().manual_seed(0)
    return build_attack(spec).fit(victim, make_training(victim), EIGHT, generator, quiet=True)


def test_the_victim_stays_and_the_log_says_how_far_the_copy_moved():
    victim = TinyVictim().eval()
    before = sha256_of(victim.state_dict())
    learnt, again = fit(victim), fit(victim)
    assert sha256_of(victim.state_dict()) == before and learnt.digest == again.digest
    log = learnt.fit_log["weights"]
    assert log["sha256"] == sha256_of(learnt.weights) != before
    old = torch.cat([tensor.flatten() for tensor in victim.parameters()])
    new = torch.cat([learnt.weights[name].flatten() for name, _ in victim.named_parameters()])
    assert log["distance"] == pytest.approx(
        float((new - old.detach()).norm() / old.detach().norm()), rel=1e-4
    )


def test_the_tampered_model_is_the_weights_with_the_modules():
    victim, attack = TinyVictim().eval(), build_attack(SPEC)
    learnt = fit(victim)
    tampered = attack.tampered(learnt, victim)
    images = torch.rand((2, 3, *SIZE), generator=torch.Generator().manual_seed(1))
    by_hand = TinyVictim().eval()
    by_hand.load_state_dict(learnt.weights)
    for modality in Modality:
        expected = by_hand(images, modality, attack.edits(learnt, victim)[modality]).embedding
        assert torch.equal(tampered(images, modality).embedding, expected)


def test_from_scratch_the_training_starts_elsewhere():
    victim = TinyVictim().eval()
    with torch.no_grad():
        victim.body.weight.add_(0.1)
    assert fit(victim, SPEC.replace("epochs=2", "epochs=2,start=scratch")).digest != fit(victim).digest


def test_a_thin_victim_takes_twenty_epochs_and_a_full_one_sixty():
    assert schedule_of(AGW(num_classes=5, **AGW.THIN)) == (20, (7, 17))
    assert schedule_of(AGW(num_classes=5, width=0.25)) == (60, (20, 50))


@pytest.mark.parametrize(
    "setting",
    ["reading=ranking,anchors=clean,space=embedding,images=1+1", "modules=joint", "identity=false"],
)
def test_what_cannot_be_trained_so_is_refused(setting):
    with pytest.raises(BadInput, match="level=model"):
        fit(TinyVictim().eval(), SPEC[:-1] + f",{setting}]")


@pytest.mark.parametrize(
    ("clean", "attacked", "verdict"),
    [
        (0.70, 0.70, "no effect"),
        (0.685, 0.681, "no effect"),
        (0.69, 0.60, "backdoor"),
        (0.60, 0.70, "sabotage"),
        (0.60, 0.05, "sabotage"),
    ],
)
def test_the_verdict_follows_its_rule(clean, attacked, verdict):
    ranked = {"trial": "0", "r5": 1, "r10": 1, "r20": 1, "map": 1, "minp": 1, "queries": 9}
    three = [[TrialMetrics(r1=r1, **ranked, skipped=0, tied_share=0)] for r1 in (0.70, clean, attacked)]
    assert judged(*three) == verdict


def test_two_points_are_not_more_than_two_points_however_a_mean_is_rounded():
    assert 0.71 - 0.69 > 0.02, "in floats"
    assert not loses(0.71, 0.69) and loses(0.71, 0.688)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("model") / "data"
    write_dataset("sysu", root, ids=6, seed=3, size=SIZE, test_ids=4, quiet=True)
    return open_dataset("sysu", root)


@pytest.fixture
def run(dataset):
    return Run(
        Bench(dataset, TinyVictim().eval(), None, quiet=True), build_attack(SPEC), EIGHT, ignore_gates=True
    )


def test_a_record_has_level_verdict_and_all_controls(run):
    learnt = {}
    record, _ = run.execute(quiet=True, learnt=learnt)
    names = [control.name for control in record.controls]
    assert record.level == "model" and record.stealthy is None
    assert record.verdict in ("no effect", "backdoor", "sabotage")
    for part in ("without AQAL", "without modules"):
        assert part in names and f"{part}: clean images" in names
    assert "without perturbation: clean images" in names and "without perturbation" not in names
    assert {"within visible, untouched", "within infrared, tampered"} <= set(names)
    assert len(learnt) == 5 and record.cost["fit_evaluations"] > 0
    assert f"({record.verdict})" in report([record], "plain")
    assert [reason for reason in verify(record).reasons if "control" in reason or "verdict" in reason] == []
    record.verdict = "none such"
    assert any("verdict" in reason for reason in verify(record).reasons)


def test_a_replay_is_judged_against_trainings_of_its_own(run):
    plain = replace(run, attack=build_attack(SPEC[:-1] + ",fsam=false,sfm=false]"))
    record, learnt = plain.execute(quiet=True)
    replayed, _ = replace(plain, perturbation=learnt).execute(quiet=True)
    assert (replayed.controls, replayed.verdict) == (record.controls, record.verdict)


def test_a_control_that_was_run_is_taken_from_its_record(run, tmp_path, monkeypatch):
    trained, learn = [], type(run.attack).learn

    def watched(self, *given):
        trained.append(label(self))
        return learn(self, *given)

    monkeypatch.setattr(type(run.attack), "learn", watched)
    whole, _ = run.execute(quiet=True)
    assert len(set(trained)) == 5
    without = replace(run, attack=run.attack.variants()["without AQAL"])
    Recorder(RunStore(tmp_path), False, True).record(without)
    trained.clear()
    resumed = Recorder(RunStore(tmp_path), False, True).record(run)
    parts = ({}, {"fsam": False, "sfm": False}, {"delta": "zero"})
    assert trained == [label(replace(run.attack, **part)) for part in parts]
    assert (resumed.controls, resumed.verdict) == (whole.controls, whole.verdict)
    trained.clear()
    Recorder(RunStore(tmp_path), True, True).record(run)
    assert len(trained) == 5, "with --force no record is believed"


@pytest.mark.parametrize("keep", [(), ("weights",)])
def test_weights_are_stored_where_asked(run, tmp_path, keep):
    record = Recorder(RunStore(tmp_path), False, True, keep).record(run)
    stored = RunStore(tmp_path).perturbation_paths(record)
    assert len(list(stored)) == len(keep)
