"""Names to classes: hints, one-offs by path, refusals, and no heavy import for listing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from plugin_code.writing import attack as write_attack
from setuptools.config.setupcfg import read_configuration

from vbench.attacks.build import build_attack, expand, label
from vbench.attacks.registry import attacks
from vbench.core.errors import BadInput
from vbench.core.registry import Registry
from vbench.core.settings import parse
from vbench.data.registry import datasets
from vbench.victims.registry import victims

ROOT = Path(__file__).parents[2]


def test_listing_and_help_do_not_import_torch():
    code = "import sys; from vbench.cli import app; app(['list'], standalone_mode=False)"
    code += "; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "fsam_uap" in out and out.strip().endswith("False")


@pytest.mark.parametrize("registry", [attacks, victims], ids=["attacks", "victims"])
def test_every_built_in_loads(registry):
    for name in registry.names():
        assert registry.load(name).name == name


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(BadInput, match="did you mean 'metric_fgsm'"):
        attacks.load("metric_fgms")


def test_a_name_cannot_be_taken_twice():
    registry = Registry("attack", "vbench.attacks.base:Attack", [])
    registry.register("mine")(attacks.load("noise"))
    assert registry.load("mine") is attacks.load("noise")
    with pytest.raises(BadInput, match="registered already"):
        registry.register("mine")(attacks.load("pgd"))


def test_a_file_without_a_class_is_answered_with_its_classes(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "raise SystemExit\nclass A(vbench.PerImageAttack): ...\nclass B(Victim): ...\nclass C: ...\n"
    )
    for registry, found in ((attacks, "A"), (victims, "B"), (datasets, "ClassName")):
        with pytest.raises(BadInput, match=f"names a file; name its class too: {file}:{found}$"):
            registry.check_name(str(file))


def test_an_attack_in_a_file_works_like_a_built_in(tmp_path):
    assert build_attack(f"{write_attack(tmp_path)}[amount=0.5]").amount == 0.5
    with pytest.raises(BadInput, match="has no 'Darker'"):
        build_attack(f"{tmp_path / 'mine.py'}:Darker")
    with pytest.raises(BadInput, match="no such file"):
        build_attack(f"{tmp_path / 'none.py'}:Darker")
    with pytest.raises(BadInput, match="no such module"):
        build_attack("no_such_package.mine:Darker")
    with pytest.raises(BadInput, match="not a subclass"):
        build_attack("vbench.core.threat:ThreatModel")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pgd[step=3]", "did you mean 'steps'"),
        ("pgd[steps=zero]", "valid integer"),
        ("pgd[steps=0]", "greater than or equal to 1"),
        ("pgd[steps=3", "not closed"),
        ("pgd[steps]", "must look like"),
        ("noise[kind=brown]", "'uniform' or 'sign'"),
        ("fsam_uap[mask_start=1]", "less than 1"),
        ("sma[nesterov=true]", "give momentum"),
        ("sma[smoothing=4]", "must be odd"),
        ("metric_ifgsm[nesterov=true]", "unknown parameter"),
        ("odfa[restarts=0]", "restarts"),
        ("odfa[diversity=1.5]", "diversity"),
        ("odfa[diversity_rate=1]", "diversity_rate"),
        ("fna[steps=0]", "steps"),
        ("torchattacks:PDG", "did you mean 'PGD'"),
        ("art:FastGradientMetod", "did you mean 'FastGradientMethod'"),
        ("torchattacks:PGD[step=3]", "did you mean 'steps'"),
        ("torchattacks:PGD[eps=1]", "unknown parameter of torchattacks:PGD"),
        ("torchattacks:PGD[steps=many]", "valid integer|valid number"),
    ],
)
def test_bad_settings_say_what_is_wrong(spec, message):
    with pytest.raises(BadInput, match=message):
        build_attack(spec)


def test_label_names_what_is_not_default_and_reads_back():
    attack = build_attack("fsam_uap[level=feature,stages=stem,layer1,step_size=2/255,sfm=false]")
    assert attack.stages == ("stem", "layer1") and attack.sfm is False
    assert build_attack(label(attack)) == attack
    assert label(build_attack("pgd")) == "pgd"
    assert parse("a[b=c,d,e=f]", "attack") == ("a", {"b": "c,d", "e": "f"})


def test_all_names_every_attack_once_and_both_levels():
    specs = expand(["pgd", "all"])
    assert set(attacks.names()) - set(specs) == {"ensemble"}, "a battery repeats attacks that are there"
    assert "fsam_uap[level=feature]" in specs
    assert len(specs) == len(set(specs))


def test_every_package_folder_is_listed_in_setup_cfg():
    options = read_configuration(ROOT / "setup.cfg")["options"]
    folders = {
        "benchmark": "vbench",
        "attacks": "vbench.attacks",
        "victims": "vbench.victims",
        "reports": "vbench.reports",
    }
    found = {
        ".".join([package, *init.parent.relative_to(ROOT / folder).parts])
        for folder, package in folders.items()
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert found == set(options["packages"])
    assert options["package_dir"] == {package: folder for folder, package in folders.items()}
