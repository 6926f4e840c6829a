"""Relations that any honest implementation must satisfy, on a victim trained a moment ago."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vbench.attacks.build import build_attack
from vbench.core.errors import VbenchError
from vbench.core.threat import ThreatModel
from vbench.core.types import Side
from vbench.records.record import Record
from vbench.records.store import RunStore
from vbench.run.bench import Bench
from vbench.run.execute import Run
from vbench.run.session import Recorder

UAP = "uap[evaluations=960,batch=16]"


@pytest.fixture(scope="module")
def results(small) -> dict[tuple[str, str], Record]:
    """Records by attack and eps."""
    specs = ["noise", "fgsm", "pgd", "metric_fgsm", "metric_ifgsm", "odfa", UAP]
    wanted = [(spec, "8/255") for spec in specs]
    wanted += [(spec, eps) for spec in ("metric_ifgsm", UAP) for eps in ("2/255", "32/255")]
    return {
        (spec, eps): Run(small.bench, build_attack(spec), ThreatModel(eps)).execute(quiet=True)[0]
        for spec, eps in wanted
    }


def damage(record: Record) -> float:
    return record.mean("clean", "map") - record.mean("adversarial", "map")


def test_the_clean_victim_is_far_above_chance(small, results):
    clean = results["noise", "8/255"].mean("clean", "r1")
    assert clean > 3 * small.bench.chance["r1"]


#: Damage is in mAP; two points cover the noise of a few hundred query-trial pairs.
SLACK = 0.02


@pytest.mark.parametrize(
    ("weaker", "stronger"),
    [
        ("noise", "fgsm"),
        ("fgsm", "pgd"),
        ("noise", "metric_fgsm"),
        ("metric_fgsm", "metric_ifgsm"),
        ("noise", "odfa"),
        ("noise", UAP),
        (UAP, "metric_ifgsm"),
    ],
)
def test_order_of_damage(results, weaker, stronger):
    assert damage(results[weaker, "8/255"]) <= damage(results[stronger, "8/255"]) + SLACK


def test_the_universal_attack_beats_noise_on_identities_it_never_saw(results):
    assert damage(results[UAP, "8/255"]) > damage(results["noise", "8/255"]) + SLACK


@pytest.mark.parametrize("spec", ["metric_ifgsm", UAP])
def test_more_budget_never_helps_the_victim(results, spec):
    small, medium, large = (damage(results[spec, eps]) for eps in ("2/255", "8/255", "32/255"))
    assert small <= medium + SLACK
    assert medium <= large + SLACK
    assert large > small + SLACK


def test_records_hold_the_queries_they_report(results):
    for record in results.values():
        ranks = record.per_query["adversarial_rank"].unpack()
        assert ranks.shape == (10, len(record.per_query["clean_rank"].unpack()[0]))
        hit = np.array([(row[row > 0] == 1).mean() for row in ranks])
        assert hit.mean() == pytest.approx(record.mean("adversarial", "r1"))
        precision = record.per_query["adversarial_ap"].unpack()
        assert np.nanmean(precision, axis=1).mean() == pytest.approx(
            record.mean("adversarial", "map"), abs=1e-6
        )
        low, high = record.drop_interval["r1"]
        drop = record.mean("clean", "r1") - record.mean("adversarial", "r1")
        assert low - 1e-9 <= drop <= high + 1e-9


def test_records_tell_the_size_and_the_cost(results):
    metric, uap = results["metric_ifgsm", "8/255"], results[UAP, "8/255"]
    assert metric.size["linf_levels"] == pytest.approx(8, abs=1e-3)
    assert metric.cost["evaluations_per_image"] == 30
    assert results["fgsm", "8/255"].cost["evaluations_per_image"] == 1
    assert results["noise", "8/255"].cost["evaluations_per_image"] == 0
    assert uap.cost["fit_evaluations"] == 960
    assert uap.cost["evaluations_per_image"] == 0
    assert uap.universal and uap.knowledge == ["training"]
    assert 25 < metric.size["psnr_db"] < 45 and 0 < metric.size["ssim"] < 1


def test_test_identities_are_not_training_identities(small):
    dataset = small.bench.dataset
    trained = {sample.pid for sample in (*dataset.train_visible, *dataset.train_infrared)}
    tested = {sample.pid for sample in (*dataset.query, *dataset.gallery)}
    assert not trained & tested


def test_same_seed_gives_the_same_record(small):
    run = Run(small.bench, build_attack("uap[evaluations=160,batch=16]"), ThreatModel("8/255"))
    first, second, other = (one.execute(quiet=True)[0] for one in (run, run, replace(run, seed=1)))
    assert first.per_query == second.per_query
    assert first.adversarial == second.adversarial
    assert other.id != first.id
    assert other.per_query != first.per_query


@pytest.mark.parametrize("side", ["query", "gallery", "both"])
def test_only_the_attacked_side_is_changed(small, side):
    threat = ThreatModel("8/255", side=side)
    record, _ = Run(small.bench, build_attack("metric_ifgsm"), threat).execute(quiet=True)
    expected = {"query": len(small.bench.dataset.query), "gallery": len(small.bench.dataset.gallery)}
    images = sum(expected.values()) if side == "both" else expected[side]
    assert record.cost["attack_evaluations"] == 30 * images
    assert damage(record) > 0.1


def test_universal_attacks_share_one_perturbation_on_both_sides(small):
    fits = []

    class Watched(type(build_attack(UAP))):
        def learn(self, *arguments):
            fits.append(arguments)
            return super().learn(*arguments)

    attack = Watched(evaluations=160, batch=16)
    records, learnt, fits_by_id = {}, {}, {}
    for side in ("query", "gallery", "both"):
        run = Run(small.bench, attack, ThreatModel("8/255", side=side))
        records[side], learnt[side] = run.execute(quiet=True, learnt=fits_by_id)
    assert len(fits) == 1
    assert records["both"].cost["fit_evaluations"] == 160
    both = Run(small.bench, attack, ThreatModel("8/255", side="both")).execute(quiet=True)
    assert both[1].digest == learnt["query"].digest
    assert both[0].adversarial == records["both"].adversarial
    bench, shown = small.bench, {}
    for side in Side:
        if side is not Side.BOTH:
            pixels = torch.from_numpy(np.array(bench.pixels[side])).permute(0, 3, 1, 2).float() / 255
            seen = ThreatModel("8/255").enforce(pixels, learnt["query"].apply(pixels))
            with torch.no_grad():
                shown[side] = bench.victim(seen, bench.modality(side)).embedding
    expected = [found.mAP for found in bench.rank(shown)]
    assert [trial.map for trial in records["both"].adversarial] == pytest.approx(expected, abs=1e-4)


def test_feature_level_is_shown_with_its_controls(small):
    spec = "fsam_uap[level=feature,evaluations=240,batch=12,module_steps=1,stages=stem,layer2,hinge=soft]"
    record, learnt = Run(small.bench, build_attack(spec), ThreatModel("8/255")).execute(quiet=True)
    assert record.level == "feature"
    assert [control.name for control in record.controls] == [
        "modules, d = 0",
        "random modules, d = 0",
        "random modules + d",
        "d alone (pixel level)",
        "modules on the other side, d = 0",
    ]
    still = record.controls[0].trials
    loss = record.mean("clean", "r1") - sum(trial.r1 for trial in still) / len(still)
    assert record.stealthy == (loss <= 0.02)
    again, _ = Run(small.bench, build_attack(spec), ThreatModel("8/255"), perturbation=learnt).execute(
        quiet=True
    )
    assert again.adversarial == record.adversarial
    pixel = Run(small.bench, build_attack(spec.replace("feature", "pixel")), ThreatModel("8/255")).execute(
        quiet=True
    )[0]
    assert pixel.adversarial == record.controls[3].trials


def test_an_untrained_victim_is_stopped_at_the_gate(small, tmp_path):
    from vbench.victims.agw import AGW

    raw = AGW(num_classes=150, **{**AGW.THIN, "width": 0.125})
    with pytest.MonkeyPatch.context() as patch:
        # Embeddings of an untrained network still see colour and shape; constant ones know nothing.
        patch.setattr(raw.neck, "weight", raw.neck.weight)
        raw.neck.weight.data.zero_()
        raw.neck.bias.data.fill_(1.0)
        bench = Bench(small.bench.dataset, raw.eval(), small.cache, quiet=True)
        run = Run(bench, build_attack("noise"), ThreatModel("8/255"))
        with pytest.raises(VbenchError, match="chance level") as failed:
            run.execute(quiet=True)
        recorder, anyway = Recorder(RunStore(tmp_path), quiet=True), replace(run, ignore_gates=True)
        record = recorder.record(anyway)
        with pytest.raises(VbenchError, match="chance level") as failed_again:
            recorder.record(run)
        assert failed.value.exit_code == failed_again.value.exit_code == 1
        assert recorder.record(anyway) == record
    assert any("tie" in warning for warning in record.warnings)


def test_an_attack_that_yields_nan_fails_by_name(small):
    from vbench.attacks.noise import Noise

    class Broken(Noise):
        name = "broken"

        def craft(self, victim, images, modality, context):
            return images * float("nan")

    with pytest.raises(VbenchError, match=r"'broken' yields non-finite"):
        Run(small.bench, Broken(), ThreatModel("8/255")).execute(quiet=True)


def test_an_attack_that_oversteps_is_held_to_the_budget(small):
    from vbench.attacks.noise import Noise

    class Greedy(Noise):
        name = "greedy"

        def craft(self, victim, images, modality, context):
            return 1 - images

    record, _ = Run(small.bench, Greedy(), ThreatModel("8/255")).execute(quiet=True)
    assert record.size["linf_levels"] == pytest.approx(8, abs=1e-3)


def test_the_original_metric_attack_breaks_the_gallery_it_knows_the_queries_of(small):
    threat = ThreatModel("5/255", side="gallery")
    found = {
        spec: Run(small.bench, build_attack(spec), threat).execute(quiet=True)[0]
        for spec in ("noise", "metric_ifgsm[preset=original]")
    }
    rank1 = {spec: record.mean("adversarial", "r1") for spec, record in found.items()}
    assert rank1["metric_ifgsm[preset=original]"] < 0.5 * rank1["noise"]
    assert found["metric_ifgsm[preset=original]"].knowledge == ["gallery"]


def test_black_box_queries_are_counted(small):
    record, _ = Run(small.bench, build_attack("square[queries=3]"), ThreatModel("8/255")).execute(quiet=True)
    assert record.cost["queries_per_image"] == 3
    assert record.cost["evaluations_per_image"] == 0
