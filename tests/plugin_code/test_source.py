"""Whose code it was: everything that decides what a plugin does is in its identity, and nothing else."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import pytest
import torch
from plugin_code.writing import attack, installed, write
from tiny import TinyVictim

from vbench.attacks.base import Battery, PerImageAttack
from vbench.attacks.build import attack_card, build_attack
from vbench.attacks.classification import PGD
from vbench.attacks.noise import Noise
from vbench.attacks.registry import attacks
from vbench.core.errors import BadInput
from vbench.core.plugins import one_version
from vbench.core.source import code_card
from vbench.victims.build import victim_code
from vbench.victims.registry import victims


def source(spec: str) -> str:
    card = code_card(attacks.load(spec))
    assert set(card) == {"source"}
    return card["source"]


@pytest.mark.parametrize("registry", [attacks, victims], ids=["attacks", "victims"])
def test_every_built_in_declares_its_own_version(registry):
    for name in registry.names():
        cls = registry.load(name)
        assert vars(cls)["version"] >= 1 and code_card(cls) == {"version": cls.version}


def test_the_adapter_of_a_library_names_the_library():
    card = attack_card(build_attack("torchattacks:PGD"))
    assert card["version"] == 1 and card["library"].startswith("torchattacks ") and "source" not in card


def test_members_of_a_battery_are_named_with_their_versions():
    members = attack_card(build_attack("ensemble[members=five]"))["members"]
    assert [(one["name"], one["version"]) for one in members[1:3]] == [("uap", 2), ("pgd", 2)]


def test_an_edit_is_another_source_and_undone_the_same(tmp_path):
    before = source(attack(tmp_path))
    edited = source(attack(tmp_path, "return images - self.amount"))
    assert edited != before and source(attack(tmp_path)) == before


def test_the_place_of_a_file_does_not_matter(tmp_path):
    assert source(attack(tmp_path / "a")) == source(attack(tmp_path / "b"))


def test_two_classes_of_one_file_differ(tmp_path):
    name = attack(tmp_path)
    (tmp_path / "mine.py").write_text((tmp_path / "mine.py").read_text() + "\nclass Other(Mine):\n    pass\n")
    assert source(name) != source(name.replace("Mine", "Other"))


HELPED = {
    "import helper": "return helper.move(images)",
    "import helper as h": "return h.move(images)",
    "from helper import move": "return move(images)",
    "from helper import *": "return move(images)",
    "from . import helper": "return helper.move(images)",
    "from .helper import move": "return move(images)",
    "import deep.helper": "return deep.helper.move(images)",
    "from deep import helper": "return helper.move(images)",
    "import between": "return between.helper.move(images)",
    "import importlib": "return importlib.import_module('helper').move(images)",
    "": "import helper; return helper.move(images)",
    "import os": "from deep.helper import move; return move(images)",
}


@pytest.mark.parametrize("imports", HELPED)
def test_a_helper_is_part_of_it_however_it_is_imported(tmp_path, imports):
    for folder in (tmp_path, tmp_path / "deep"):
        write(folder, "helper.py", "def move(images):\n    return images + 0.1\n")
    write(tmp_path / "deep", "__init__.py", "")
    write(tmp_path, "between.py", "import helper\n")
    name, path, modules = attack(tmp_path, HELPED[imports], imports), list(sys.path), set(sys.modules)
    before, images = source(name), torch.zeros(1)
    assert attacks.load(name)().craft(None, images, None, None) == pytest.approx(0.1)
    assert sys.path == path and "helper" not in sys.modules and "deep" not in set(sys.modules) - modules
    for folder in (tmp_path, tmp_path / "deep"):
        write(folder, "helper.py", "def move(images):\n    return images + 0.2\n")
    assert source(name) != before
    assert attacks.load(name)().craft(None, images, None, None) == pytest.approx(0.2), (
        "what is named is what runs"
    )


def test_helpers_of_one_name_do_not_meet(tmp_path):
    for number in (1, 2):
        write(tmp_path / str(number), "helper.py", f"AMOUNT = {number}\n")
        attack(tmp_path / str(number), "return images + helper.AMOUNT", "import helper")
    made = [attacks.load(f"{tmp_path / str(number)}/mine.py:Mine")() for number in (1, 2, 1)]
    assert [one.craft(None, 0, None, None) for one in made] == [1, 2, 1]
    assert len({code_card(one)["source"] for one in made}) == 2


def test_a_file_that_nothing_imports_is_no_part_of_it(tmp_path):
    before = source(attack(tmp_path))
    write(tmp_path, "helper.py", "AMOUNT = 2\n")
    assert source(attack(tmp_path)) == before


def test_within_one_command_a_plugin_stays_as_it_is(tmp_path):
    name = attack(tmp_path)
    with one_version():
        first, before = attacks.load(name), source(name)
        attack(tmp_path, "broken(")
        assert attacks.load(name) is first and source(name) == before
    attack(tmp_path, "return images")
    assert source(name) != before


def test_a_module_that_changed_after_it_was_imported_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    attack(tmp_path, name="late_mine")
    module = importlib.import_module("late_mine")
    attack(tmp_path, "return images - self.amount", name="late_mine")
    with pytest.raises(BadInput, match=r"late_mine.py has changed since it was imported.*start Python again"):
        code_card(module.Mine)
    attack(tmp_path, name="late_mine")
    before = code_card(module.Mine)
    attack(tmp_path, "return images * 2", name="late_mine")
    with pytest.raises(BadInput, match="has changed since it was imported"):
        code_card(module.Mine)
    attack(tmp_path, name="late_mine")
    assert code_card(module.Mine) == before


def test_a_constant_that_somebody_overwrote_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    attack(tmp_path, "return images + STEP", "STEP = 0.1", name="with_step")
    module = importlib.import_module("with_step")
    before = code_card(module.Mine)
    monkeypatch.setattr(module, "STEP", 0.2)
    assert code_card(module.Mine) != before


@pytest.mark.slow
def test_an_installed_plugin_is_hashed_with_its_own_distribution_alone(tmp_path, monkeypatch):
    helper = "AMOUNT = 1\n"
    attack(
        tmp_path / "text",
        "return images + AMOUNT * OTHER",
        "from my_helper import AMOUNT\nfrom others_lib import OTHER",
    )
    text = (tmp_path / "text" / "mine.py").read_text()
    installed(tmp_path, "attacks", {"mine": "my_plugin:Mine"}, {"my_plugin.py": text, "my_helper.py": helper})
    installed(tmp_path, "nothing", {}, {"others_lib.py": "OTHER = 1\n"}, "others-lib")
    monkeypatch.syspath_prepend(tmp_path)
    assert source("mine")
    code = (
        "from vbench.attacks.registry import attacks; from vbench.core.source import code_card;"
        "print(code_card(attacks.load('mine')))"
    )

    def seen() -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": str(tmp_path)},
        )
        return done.stdout

    before = seen()
    (tmp_path / "others_lib.py").write_text("OTHER = 2\n")
    assert seen() == before, "another distribution is told by its version, not by its source"
    (tmp_path / "my_helper.py").write_text("AMOUNT = 2\n")
    assert seen() != before


@dataclass(frozen=True)
class Scaled(PerImageAttack):
    name: ClassVar[str] = "scaled"
    summary: ClassVar[str] = "an attack of this file"

    def craft(self, victim, images, modality, context):
        return images


def made_with(scale: float) -> type:
    class Local(Scaled):
        name = "local"

        def craft(self, victim, images, modality, context):
            return images * scale

    return Local


def test_what_a_class_closes_over_counts():
    assert code_card(made_with(1.0)) == code_card(made_with(1.0)) != code_card(made_with(2.0))


def test_a_class_without_a_file_is_told_by_its_bytecode(monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))  # as in a notebook

    def defined(craft: str, helper: str = "return images") -> type:
        code = (
            "from vbench.attacks import PerImageAttack\n"
            f"def helper(images):\n    {helper}\n"
            "class Mine(PerImageAttack):\n    name = 'mine'\n"
            f"    def craft(self, victim, images, modality, context):\n        {craft}\n"
        )
        names = {"__name__": "__main__"}
        exec(code, names)
        return names["Mine"]

    usual = code_card(defined("return helper(images)"))
    assert usual == code_card(defined("return helper(images)"))
    assert usual != code_card(defined("return helper(images) + 1"))
    assert usual != code_card(defined("return helper(images)", "return images + 1"))
    assert usual != code_card(defined("return {1: helper}[1](images)"))


def test_a_class_that_says_it_is_vbench_s_is_not():
    class Noise2(Noise):
        pass

    Noise2.__module__, Noise2.__qualname__, Noise2.__name__ = "vbench.attacks.noise", "Noise", "Noise"
    assert "version" not in code_card(Noise2) and "version" not in code_card(type("Noise", (Noise,), {}))


def test_a_subclass_inherits_no_version():
    assert set(code_card(Scaled)) == {"source"}

    class Under(PGD):
        name = "under"

    assert set(code_card(Under)) == {"source"}


def test_the_version_of_what_a_plugin_builds_on_counts(tmp_path, monkeypatch):
    write(
        tmp_path,
        "mine.py",
        "from vbench.attacks.classification import PGD\nclass Mine(PGD):\n    name = 'mine'\n",
    )
    uses = attack(
        tmp_path,
        "return PGD().craft(victim, images, modality, context)",
        "from vbench.attacks.classification import PGD",
        "uses",
    )
    names = (f"{tmp_path}/mine.py:Mine", uses)
    before = [source(name) for name in names]
    monkeypatch.setattr(PGD, "version", PGD.version + 1)
    assert all(source(name) != old for name, old in zip(names, before, strict=True))


def test_code_put_into_a_class_of_vbench_adds_a_source(monkeypatch):
    assert "source" not in code_card(PGD())
    monkeypatch.setattr(PGD, "craft", lambda self, victim, images, modality, context: images)
    card = code_card(PGD())
    assert card["version"] == PGD.version and card["source"]


def test_a_counter_is_no_part_of_it():
    class Counting(Scaled):
        name = "counting"
        calls = 0

        def craft(self, victim, images, modality, context):
            Counting.calls += 1
            return images

    before = code_card(Counting())
    Counting().craft(None, 1, None, None)
    assert Counting.calls == 1 and code_card(Counting()) == before


def test_a_setting_that_no_record_can_hold_is_refused():
    @dataclass(frozen=True)
    class Odd(Scaled):
        how: object = None

    with pytest.raises(BadInput, match="setting 'how' is function, which a record cannot hold"):
        attack_card(Odd(how=made_with))


def test_a_plugin_battery_names_its_members_code():
    class Both(Battery):
        name = "both"
        summary = "two"

        def attacks(self):
            return (PGD(), Scaled())

    first, second = attack_card(Both())["members"]
    assert (
        first["version"] == PGD.version
        and "version" not in second
        and second["source"] == code_card(Scaled)["source"]
    )


CHANGES = {
    "forward": lambda victim: setattr(victim, "forward", lambda *given: None),
    "a method of a layer": lambda victim: setattr(victim.body, "forward", lambda x: x),
    "a hook": lambda victim: victim.body.register_forward_hook(lambda module, given, out: out * 2),
    "a hook before": lambda victim: victim.body.register_forward_pre_hook(lambda module, given: given),
    "another layer": lambda victim: setattr(victim, "dropout", torch.nn.Identity()),
    "a setting of a layer": lambda victim: setattr(victim.body, "stride", (2, 2)),
    "the similarity": lambda victim: setattr(victim, "similarity", "euclidean"),
    "the filter": lambda victim: setattr(victim, "resize_filter", "bilinear"),
    "an attribute": lambda victim: setattr(victim, "temperature", 2.0),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_was_changed_in_a_victim_is_another_one(what):
    victim, same = TinyVictim(), TinyVictim()
    before = victim_code(victim)
    assert victim_code(same) == before
    CHANGES[what](victim)
    assert victim_code(victim) != before


def test_a_built_in_victim_is_the_same_however_it_was_made():
    cls = victims.load("agw")
    first, second = (cls(num_classes=4, **{**cls.THIN, "width": 0.125}) for _ in range(2))
    assert victim_code(first) == victim_code(second.eval()) == {"version": 1}
    second.forward = lambda *given: None
    assert victim_code(second)["source"] and victim_code(second)["version"] == 1


def test_a_victim_inside_another_is_named():
    class Around(TinyVictim):
        name = "around"

        def __init__(self) -> None:
            super().__init__()
            self.inner = TinyVictim()

    (member,) = victim_code(Around())["members"]
    assert member == {"name": "tiny", **victim_code(TinyVictim())}


def test_edited_code_is_a_run_of_its_own(tmp_path):
    from vbench.core.plugin_modules import modules_of

    cls = attacks.load(
        attack(
            tmp_path,
            "return images + helper.A",
            "import helper" if (tmp_path / "helper.py").write_text("A = 1\n") else "",
        )
    )
    assert {name for name, _ in modules_of([cls]).sources.values()} == {"mine", "helper"}
