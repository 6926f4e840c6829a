"""Attacks crafted on surrogates: what they see, what they cost the victim, what the record says."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from opening import opener, setup

from vbench.attacks.build import build_attack
from vbench.attacks.perturbation import Perturbation
from vbench.core.errors import BadInput
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.records.record import config_id
from vbench.records.spec import ModelSpec, RunSpec, run_specs
from vbench.reports.tables import split
from vbench.run.bench import Bench
from vbench.run.execute import Run
from vbench.run.prepare import Opener, Surrogate
from vbench.run.session import Session
from vbench.victims.agw import AGW
from vbench.victims.build import victim_label
from vbench.victims.ddag import DDAG
from vbench.victims.embed import embed
from vbench.victims.load import load_victim

EIGHT = ThreatModel("8/255")


def untrained(cls=AGW, size=(64, 32), seed=5):
    generator = torch.Generator().manual_seed(seed)
    options = {**cls.THIN, "width": 0.125, "input_size": size}
    return cls(num_classes=150, generator=generator, **options).eval()


def over(small, *members):
    victim = small.bench.victim
    stands_in = Surrogate(members, victim.input_size, victim.resize_filter).eval()
    return Bench(small.bench.dataset, stands_in, small.cache / "images", True)


@pytest.mark.slow
def test_a_victim_as_its_own_surrogate_is_white_box(small):
    attack = build_attack("metric_ifgsm")
    white, _ = Run(small.bench, attack, EIGHT).execute(quiet=True)
    transferred, _ = Run(small.bench, attack, EIGHT, source=over(small, small.bench.victim)).execute(
        quiet=True
    )
    assert transferred.adversarial == white.adversarial
    assert transferred.cost["evaluations_per_image"] == white.cost["evaluations_per_image"]
    assert transferred.id != white.id
    assert (transferred.surrogate, white.surrogate) == ("agw", "")


def test_transfer_never_differentiates_the_victim(small):
    source, seen = over(small, untrained(DDAG)), []
    hook = small.bench.victim.register_forward_pre_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    try:
        record, _ = Run(small.bench, build_attack("metric_ifgsm"), EIGHT, source=source).execute(quiet=True)
    finally:
        hook.remove()
    assert seen and not any(seen)
    assert record.config["surrogate"]["name"] == "ddag" == record.surrogate
    assert record.cost["evaluations_per_image"] == 30
    assert record.size["linf_levels"] == pytest.approx(8, abs=1e-3)


@pytest.mark.slow
def test_an_untrained_surrogate_is_weaker_than_white_box(small):
    attack = build_attack("metric_ifgsm")
    white, _ = Run(small.bench, attack, EIGHT).execute(quiet=True)
    weak, _ = Run(small.bench, attack, EIGHT, source=over(small, untrained(DDAG))).execute(quiet=True)

    def drop(record):
        pairs = zip(record.clean, record.adversarial, strict=True)
        return sum(before.map - after.map for before, after in pairs)

    assert drop(weak) < 0.5 * drop(white)


@pytest.mark.slow
def test_a_universal_perturbation_is_learnt_on_the_surrogate_once(small):
    attack = build_attack("uap[evaluations=640]")
    source = over(small, untrained(DDAG))
    run = Run(small.bench, attack, EIGHT, source=source)
    _, learnt = run.execute(quiet=True)
    assert learnt.provenance["victim"]["name"] == "ddag"
    elsewhere = dataclasses.replace(run, bench=over(small, untrained(AGW, seed=9)))
    assert run.fit_id() == elsewhere.fit_id() != Run(small.bench, attack, EIGHT).fit_id()


def test_images_are_resized_for_a_surrogate_of_another_size_with_gradients(small):
    member = untrained(AGW, size=(96, 48))
    surrogate = Surrogate([member], (64, 32), "lanczos").eval()
    image = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    output = surrogate(image, Modality.VISIBLE)
    assert output.features["layer1"].shape[2:] == (48, 24)
    (gradient,) = torch.autograd.grad(output.embedding.square().sum() + output.logits.sum(), image)
    assert gradient.abs().amax(dim=(1, 2, 3)).min() > 0
    card = surrogate.describe()
    assert (card["input_size"], card["resize"]) == ([64, 32], "bilinear, antialiased")
    assert card["members"] == [{"name": "agw", **member.describe()}]


def test_an_ensemble_is_its_members_side_by_side(small):
    members = [untrained(AGW), untrained(DDAG)]
    ensemble = Surrogate(members, (64, 32), "lanczos").eval()
    images = torch.rand(3, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = ensemble(images, Modality.INFRARED)
        alone = [member(images, Modality.INFRARED) for member in members]
    dots = found.embedding @ found.embedding.T
    expected = sum(torch.nn.functional.normalize(one.embedding) @ one.embedding.T for one in alone)
    torch.testing.assert_close(dots, expected)
    torch.testing.assert_close(found.logits, (alone[0].logits + alone[1].logits) / 2)
    assert ensemble.name == "agw+ddag" and ensemble.stages == ()
    with pytest.raises(BadInput, match="needs feature maps"):
        Run(small.bench, build_attack("fsam_uap"), EIGHT, source=over(small, *members)).check()


def test_a_feature_level_attack_cannot_transfer(small):
    with pytest.raises(BadInput, match="it cannot transfer"):
        Run(
            small.bench, build_attack("fsam_uap[level=feature]"), EIGHT, source=over(small, untrained())
        ).check()


def test_a_perturbation_of_another_size_is_resized_into_the_budget_and_said_so(small):
    delta = torch.where(torch.rand(3, 96, 48, generator=torch.Generator().manual_seed(2)) < 0.5, -1.0, 1.0)
    perturbation = Perturbation(delta * 8 / 255)
    resized = perturbation.resized((48, 24), EIGHT)
    assert resized.delta.shape == (3, 48, 24)
    assert resized.delta.abs().max() <= 8 / 255 + 1e-7
    flat = Perturbation(torch.full((3, 96, 48), 8 / 255)).resized((48, 24), EIGHT)
    torch.testing.assert_close(flat.delta, torch.full((3, 48, 24), 8 / 255))
    assert perturbation.resized((96, 48), EIGHT) is perturbation
    record, _ = Run(small.bench, build_attack("uap"), EIGHT, perturbation=perturbation).execute(quiet=True)
    assert any("from 96x48 to 48x24, bilinear" in warning for warning in record.warnings)
    assert "from 96x48 to 48x24, bilinear" in record.model_dump_json()
    with pytest.raises(BadInput, match="cannot be resized"):
        dataclasses.replace(perturbation, modules={"a": torch.ones(1)}).resized((48, 24), EIGHT)


@pytest.mark.slow
def test_the_policy_of_resizing_is_in_record_and_file(small, tmp_path):
    """Of a perturbation learnt elsewhere and brought to size, and of one learnt through a surrogate."""
    file = tmp_path / "large.safetensors"
    delta = torch.full((3, 96, 48), 8 / 255)
    settings = build_attack("uap").settings()
    Perturbation(delta, provenance={"attack": "uap", "settings": settings}).save(file)
    one = RunSpec(setup("sysu", small.root, weights=small.weights), "uap", perturbation=str(file))
    (record,) = Session(tmp_path / "runs", quiet=True).run_all([one])
    (written,) = (tmp_path / "runs" / "perturbations").glob("*.safetensors")
    kept = Perturbation.load(written)
    assert kept.delta.shape == (3, 48, 24) and record.id in written.name
    assert kept.provenance["resized"] == "from 96x48 to 48x24, bilinear, antialiased"
    source = over(small, untrained(AGW, size=(96, 48)))
    record, learnt = Run(small.bench, build_attack("uap[evaluations=64]"), EIGHT, source=source).execute(
        quiet=True
    )
    assert record.config["surrogate"]["options"]["resize"] == "bilinear, antialiased"
    learnt.save(file)
    assert Perturbation.load(file).provenance["victim"]["options"]["resize"] == "bilinear, antialiased"


def test_two_settings_of_one_checkpoint_are_two_surrogates(small):
    runs = []
    for embedding in ("neck", "pooled"):
        member = load_victim("agw", small.weights, device="cpu", embedding=embedding)
        runs.append(Run(small.bench, build_attack("noise"), EIGHT, source=over(small, member)))
    assert config_id(runs[0].config()) != config_id(runs[1].config())
    assert [run.execute(quiet=True)[0].surrogate for run in runs] == ["agw", "agw[embedding=pooled]"]


def test_a_sweep_opens_and_embeds_every_victim_once(small, tmp_path, monkeypatch):
    models = ["agw", "agw[embedding=pooled]"]
    attacks, files = ["metric_fgsm", "uap[evaluations=64]"], {"weights": small.weights}
    alone = setup("sysu", small.root, surrogates=models[1:], surrogate_weights=[small.weights], **files)
    specs = run_specs(RunSpec(alone, ""), models[:1], attacks, [0], surrogates=[alone.surrogates])
    apart = Session(tmp_path / "apart", quiet=True).run_all(specs)
    opened, embedded = [], []

    def counted(spec, *rest, **options):
        opened.append(repr(spec))
        return small.weights

    def watched(victim, pixels, modality, edits=None, what="", **rest):
        embedded.append((victim_label(victim), what))
        return embed(victim, pixels, modality, edits, what, **rest)

    monkeypatch.setattr("vbench.run.prepare.thin_weights", counted)
    monkeypatch.setattr("vbench.run.bench.embed", watched)
    monkeypatch.setattr(Opener, "open", lambda *_: small.bench.dataset)
    turns = [(ModelSpec(name),) for name in models]
    specs = run_specs(RunSpec(setup(), ""), models, attacks, [0], surrogates=turns)
    together = Session(tmp_path / "together", quiet=True).run_all(specs)
    assert len(opened) == len(set(opened)) == 2
    views = [
        "clean query images",
        "clean gallery images",
        "visible training images",
        "infrared training images",
    ]
    assert sorted(embedded) == sorted((model, view) for model in models for view in views)

    def results(records):
        return {(r.surrogate, r.victim_label, r.label): (r.id, str(r.adversarial)) for r in records}

    assert len(together) == 8
    assert results(apart).items() <= results(together).items()


def test_tables_keep_white_box_and_transfer_apart(small):
    attack = build_attack("noise")
    records = [Run(small.bench, attack, EIGHT).execute(quiet=True)[0]]
    records.append(
        Run(small.bench, attack, EIGHT, source=over(small, untrained(DDAG))).execute(quiet=True)[0]
    )
    ((_, entries),) = split(records)
    rows = [row for _, row in entries]
    assert [row.knowledge for row in rows] == ["per-image", "per-image, from ddag"]


def test_surrogates_need_weights_on_real_data_and_one_file_each(small, tmp_path):
    given = {"weights": small.weights, "surrogates": ("agw", "agw")}
    both = opener("sysu", small.root, surrogate_weights=(small.weights, small.weights), **given)
    assert both.source(small.bench, tmp_path, quiet=True).victim.name == "agw+agw"
    with pytest.raises(BadInput, match="1 --surrogate-weights for 2 surrogates"):
        opener("sysu", small.root, surrogate_weights=(small.weights,), **given)


def test_a_victim_with_weights_stays_open_beside_a_thin_surrogate(small, tmp_path, monkeypatch):
    opened, bench = [], Opener.bench

    def counted(one, *given, **more):
        opened.append(one.setup.victim)
        return bench(one, *given, **more)

    monkeypatch.setattr(Opener, "bench", counted)
    monkeypatch.setattr("vbench.run.prepare.thin_weights", lambda *_, **__: small.weights)
    monkeypatch.setenv("VBENCH_CACHE", str(tmp_path / "cache"))
    at = setup("sysu", small.root, weights=small.weights, surrogates=("agw",))
    records = Session(quiet=True).run_all([RunSpec(at, attack) for attack in ("noise", "metric_fgsm")])
    assert [record.surrogate for record in records] == ["agw", "agw"]
    assert opened == [at.victim]
