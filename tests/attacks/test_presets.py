"""Presets of attacks: settings by name, overridden by settings that are given."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections import defaultdict
from pathlib import Path
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from vbench.attacks.build import build_attack, combinations, label, preset_threat
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
    attack = build_attack("metric_ifgsm[steps=none,reach=1.25]")
    assert attack.schedule(ThreatModel("0.001", quantize=False)) == (1, pytest.approx(0.00125))


def test_steps_share_a_length_or_are_a_share_of_the_budget():
    threat = ThreatModel("10/255")
    assert build_attack("sma[preset=v1]").schedule(threat) == (15, 3 * threat.epsilon / 15)
    assert build_attack("pgd[preset=v1,steps=20]").schedule(threat) == (20, pytest.approx(threat.epsilon / 4))


@pytest.mark.parametrize("extra", [{"steps": "3"}, {}])
def test_given_settings_override_the_preset(extra):
    spec = "metric_ifgsm[preset=original]" if extra else "metric_ifgsm[steps=3,preset=original]"
    attack = build_attack(spec, extra)
    assert (attack.steps, attack.step_size, attack.guides) == (3, 1 / 255, "gallery")
    assert build_attack("metric_ifgsm", {**extra, "steps": "3", "preset": "original"}) == attack


def test_unknown_presets_are_refused_with_those_that_are_known():
    with pytest.raises(BadInput, match=r"did you mean 'original'\? known: best, original, paper, query, v1"):
        build_attack("metric_ifgsm[preset=orignal]")
    with pytest.raises(BadInput, match=r"unknown effort of pgd 'public'; .*published, standard"):
        build_attack("pgd[effort=public]")
    with pytest.raises(BadInput, match="attack 'torchattacks:PGD' has no presets"):
        build_attack("torchattacks:PGD[preset=original]")


@pytest.mark.parametrize("name", attacks.names())
def test_every_preset_builds_and_no_parameter_takes_a_reserved_name(name):
    cls = attacks.load(name)
    assert not {"preset", "effort"} & {field.name for field in dataclasses.fields(cls)}
    for text, given in combinations(cls).items():
        attack = build_attack(f"{name}[{text}]")
        assert attack == cls(**given)
        assert build_attack(label(attack)) == attack


@pytest.mark.parametrize("name", [name for name in attacks.names() if name != "ensemble"])
def test_defaults_are_a_preset_at_the_standard_effort(name):
    cls = attacks.load(name)
    assert set(cls.EFFORTS) == {"standard", "published"}
    assert build_attack(f"{name}[effort=standard]") == cls()
    if "best" in cls.PRESETS:
        assert cls() in [build_attack(f"{name}[preset={preset}]") for preset in ("paper", "best")]


#: Settings that version 1 had as constants, or not at all: what it did without them.
SINCE = {
    "fgsm": {"start": 0, "step": 1},
    "pgd": {"start": 0, "reach": None},
    "mifgsm": {"start": 0, "reach": None},
    "metric_fgsm": {"start": 0.5, "step": 1, "average": "raw"},
    "metric_ifgsm": {"start": 0.5, "reach": 1.25, "average": "raw"},
    "metric_mifgsm": {"start": 0.5, "reach": 1.25, "average": "raw"},
    "odfa": {"start": None, "reach": 1.25},
    "sma": {"start": 1, "reach": 3},
    "fna": {"start": 0, "reach": 3, "average": "raw"},
    "lta": {"start": 0, "reach": 3},
    "uap": {"distance": "squared", "margin": None, "weighting": "equal"},
    "mis_ranking": {"distance": "squared", "log": False, "classes": False},
    "fsam_uap": {
        "start": "victim",
        "perturbations": "shared",
        "focus": None,
        "masks": "shared",
        "rectify": False,
        "delta": "adversarial",
        "optimizer": "own",
        "sgd_rate": 0.1,
        "warmup": 0.16666666666666666,
        "reduction": "mean",
        "labels": "predicted",
        "epochs": None,
        "images": "1+1",
    },
}
#: The step loop's options, which pgd and mifgsm did not have.
OFF = {"restarts": 1, "diversity": 0, "diversity_rate": 0.9, "smoothing": 0, "nesterov": False}
VERSION_1 = json.loads(Path(__file__).with_name("version_1.json").read_text())


@pytest.mark.parametrize("name", sorted(VERSION_1))
def test_v1_has_the_settings_of_version_1(name):
    then = VERSION_1[name]["defaults"]
    now = build_attack(f"{name}[preset=v1]").settings()
    if name == "ensemble":
        assert now == {"members": "five"}
        return
    assert {key: now[key] for key in then} == then
    new = {key: value for key, value in now.items() if key not in then}
    assert new == {**{key: value for key, value in OFF.items() if key in new}, **SINCE.get(name, {})}


def test_the_five_are_what_version_1_ran():
    members = build_attack("ensemble[members=five]").attacks()
    for member, then in zip(members, VERSION_1["ensemble"]["members"], strict=True):
        assert member.name == then["name"]
        assert {key: member.settings()[key] for key in then["settings"]} == then["settings"]
        queries = ",queries=200" if member.name == "square" else ""
        assert member == build_attack(f"{member.name}[preset=v1{queries}]")


def test_the_other_members_are_those_that_the_search_chose():
    chosen = defaultdict(list)
    for line in csv.DictReader((Path(__file__).parents[2] / "docs" / "battery.csv").open()):
        chosen[line["knowledge"]].append(build_attack(line["member"]))
    assert set(chosen) == {"black_box", "own", "training", "gallery"}
    for level, found in chosen.items():
        members = build_attack(f"ensemble[members={level}]").attacks()
        assert list(members[: len(found)]) == found
        assert level == "gallery" or len(members) == len(found)


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        (
            "metric_ifgsm[guides=gallery,steps=none,step_size=1/255,start=0.5]",
            "metric_ifgsm[preset=original]",
        ),
        ("metric_ifgsm[preset=original,restarts=2]", "metric_ifgsm[preset=original,restarts=2]"),
        ("metric_ifgsm[guides=gallery]", "metric_ifgsm[guides=gallery]"),
        ("metric_ifgsm[preset=paper,effort=published]", "metric_ifgsm[preset=query]"),
        ("metric_ifgsm[preset=v1,effort=published]", "metric_ifgsm[preset=v1,steps=None]"),
        (
            "metric_ifgsm[preset=v1,effort=standard,restarts=2]",
            "metric_ifgsm[reach=1.25,restarts=2,average=raw]",
        ),
        ("square[effort=published]", "square[queries=10000]"),
        ("uap[effort=published,evaluations=12800]", "uap"),
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
    assert "published" in shown and "steps=none" in shown
    plain = CliRunner().invoke(app, ["describe", "attack", "torchattacks:PGD"]).stdout
    assert "effort" not in plain and "preset" not in plain
