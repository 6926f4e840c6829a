"""Presets of attacks: settings by name, overridden by settings that are given."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from vbench.attacks.build import build_attack, label, preset_threat, presets
from vbench.attacks.noise import Noise
from vbench.attacks.registry import attacks
from vbench.cli import app
from vbench.core.errors import BadInput
from vbench.core.threat import ThreatModel


def test_the_original_setting_of_metric_fgsm():
    attack = build_attack("metric_ifgsm[preset=original]")
    assert (attack.guides, attack.steps, attack.step_size) == ("gallery", None, 1 / 255)
    assert attack.knowledge == {"gallery"}
    momentum = build_attack("metric_mifgsm[preset=original]")
    assert (momentum.guides, momentum.steps, momentum.step_size) == ("gallery", None, 1 / 255)
    assert momentum.momentum == 1


@pytest.mark.parametrize(("eps", "steps"), [(1, 1), (2, 2), (5, 6), (8, 10), (16, 20), (20, 24), (32, 36)])
def test_steps_from_eps_are_the_authors_formula(eps, steps):
    attack = build_attack("metric_ifgsm[preset=original]")
    assert steps == int(min(eps + 4, 1.25 * eps))
    assert attack.schedule(ThreatModel(f"{eps}/255")) == (steps, 1 / 255)


def test_presets_bring_their_side_and_budget():
    assert preset_threat("metric_ifgsm[preset=original]") == {"side": "gallery", "eps": "5/255"}
    assert preset_threat("metric_mifgsm", {"preset": "query"}) == {"side": "query", "eps": "8/255"}
    assert preset_threat("metric_ifgsm") == preset_threat("pgd") == {}


def test_steps_from_eps_never_vanish():
    attack = build_attack("metric_ifgsm[steps=none]")
    assert attack.schedule(ThreatModel("0.001", quantize=False)) == (1, pytest.approx(0.00125))


@pytest.mark.parametrize("extra", [{"steps": "3"}, {}])
def test_given_settings_override_the_preset(extra):
    spec = "metric_ifgsm[preset=original]" if extra else "metric_ifgsm[steps=3,preset=original]"
    attack = build_attack(spec, extra)
    assert (attack.steps, attack.step_size, attack.guides) == (3, 1 / 255, "gallery")
    assert build_attack("metric_ifgsm", {**extra, "steps": "3", "preset": "original"}) == attack


def test_unknown_presets_are_refused_with_those_that_are_known():
    with pytest.raises(BadInput, match=r"did you mean 'original'\? known: original, query"):
        build_attack("metric_ifgsm[preset=orignal]")
    with pytest.raises(BadInput, match="attack 'pgd' has no presets"):
        build_attack("pgd[preset=original]")


@pytest.mark.parametrize("name", attacks.names())
def test_every_preset_builds_and_no_parameter_takes_the_reserved_name(name):
    cls = attacks.load(name)
    assert "preset" not in {field.name for field in dataclasses.fields(cls)}
    for preset in presets(cls):
        attack = build_attack(f"{name}[preset={preset}]")
        assert attack == cls(**presets(cls)[preset])
        assert build_attack(label(attack)) == attack


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("metric_ifgsm[guides=gallery,steps=none,step_size=1/255]", "metric_ifgsm[preset=original]"),
        ("metric_ifgsm[preset=original,restarts=2]", "metric_ifgsm[preset=original,restarts=2]"),
        ("metric_ifgsm[guides=gallery]", "metric_ifgsm[guides=gallery]"),
        ("metric_ifgsm[steps=none,step_size=1/255]", "metric_ifgsm[preset=query]"),
        ("metric_ifgsm[preset=original,steps=6]", "metric_ifgsm[preset=original,steps=6]"),
        ("metric_ifgsm[restarts=2,diversity=0.5]", "metric_ifgsm[restarts=2,diversity=0.5]"),
        ("metric_ifgsm", "metric_ifgsm"),
    ],
)
def test_the_label_is_the_shortest_text_that_builds_the_same(spec, shown):
    attack = build_attack(spec)
    assert label(attack) == shown
    assert build_attack(shown) == attack


@dataclasses.dataclass(frozen=True)
class Loud(Noise):
    """Noise with a preset, from outside the package."""

    name: ClassVar[str] = "loud"
    PRESETS: ClassVar = {"full": {"kind": "sign"}}


def test_an_attack_given_by_path_has_its_presets():
    spec = f"{__file__}:Loud[preset=full]"
    assert build_attack(spec).kind == "sign"
    with pytest.raises(BadInput, match="unknown preset of loud 'ful'"):
        build_attack(f"{__file__}:Loud[preset=ful]")


def test_describe_lists_presets():
    shown = CliRunner().invoke(app, ["describe", "attack", "metric_ifgsm"]).stdout
    assert "original" in shown and "guides=gallery, steps=none, step_size=1/255" in shown
    assert "side=gallery, eps=5/255" in shown and "side=query, eps=8/255" in shown
    assert "preset" not in CliRunner().invoke(app, ["describe", "attack", "pgd"]).stdout
