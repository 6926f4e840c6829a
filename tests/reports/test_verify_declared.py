"""The file of declarations says what the classes say, for any settings."""

from __future__ import annotations

import json
import subprocess
import sys
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vbench.attacks import declare as of_attacks
from vbench.attacks.build import label
from vbench.attacks.registry import ATTACKS, attacks
from vbench.core.errors import BadInput
from vbench.core.settings import build
from vbench.reports.verify.configuration import declared_attack, of_library, victim_label
from vbench.victims import build as of_instance
from vbench.victims import registry as of_victims
from vbench.victims.registry import VICTIMS, victims


@pytest.mark.parametrize("kind", [of_attacks, of_victims], ids=["attacks", "victims"])
def test_the_file_is_what_the_classes_declare(kind):
    assert json.loads(kind.FILE.read_text()) == kind.declarations(), "run: make catalogue"


def _strategy(schema: dict) -> st.SearchStrategy:
    if "anyOf" in schema:
        return st.one_of(*(_strategy(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return {
        "boolean": st.booleans(),
        "integer": st.integers(-3, 40),
        "number": st.sampled_from([-1.0, 0.0, 0.05, 0.5, 1.0, 2.5]) | st.integers(0, 3),
        "string": st.sampled_from(["layer2", "all", "stem,layer1", "none"]),
        "array": st.lists(st.sampled_from(["stem", "layer1"]), min_size=1, max_size=2),
        "null": st.none(),
    }.get(schema.get("type"), st.none())


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_label_knowledge_and_refusals_are_those_of_the_class(data):
    name = data.draw(st.sampled_from(sorted(ATTACKS)))
    declared, cls = declared_attack(name), attacks.load(name)
    schemas = declared.facts["schemas"]
    chosen = data.draw(st.lists(st.sampled_from(sorted(schemas) or ["none"]), max_size=4, unique=True))
    given_settings = {one: data.draw(_strategy(schemas[one])) for one in chosen if one in schemas}
    try:
        made = build(
            cls, name, {k: tuple(v) if isinstance(v, list) else v for k, v in given_settings.items()}
        )
    except BadInput:
        # What the class refuses for one field, the file does too; combinations of fields are the class's.
        fields = {
            one: value for one, value in given_settings.items() if _alone(cls, name, one, value) is None
        }
        assert not fields or declared.problems(fields)
        return
    stored = json.loads(json.dumps(made.settings()))
    assert declared.problems(stored) == []
    assert declared.label(stored) == label(made)
    assert declared.knowledge(stored) == sorted(made.knowledge)
    assert declared.tampers(stored) == bool(getattr(made, "tampers", False))
    assert declared.facts["universal"] == made.universal


def _alone(cls, name, field, value):
    """The attack with one setting, None where that alone is refused by its type."""
    adapter = typing.get_type_hints(cls, include_extras=True)[field]
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(adapter).validate_python(tuple(value) if isinstance(value, list) else value)
    except ValidationError:
        return None
    return name


def test_a_setting_that_does_not_exist_is_named():
    assert declared_attack("sma").problems({"stpes": 3}) == ["settings.stpes: sma has no such setting"]


@pytest.mark.parametrize("name", victims.names())
def test_victims_are_called_as_they_call_themselves(name):
    cls, facts = victims.load(name), VICTIMS[name]
    for option, value in (("flip", True), ("flip", False)):
        if option not in facts.options:
            continue
        made = cls(**{**cls.THIN, "num_classes": 4, option: value})
        described = json.loads(json.dumps(made.describe()))
        assert victim_label({"name": name, "options": described}) == of_instance.victim_label(made)
        assert set(described) <= {*facts.options}


def test_whose_attack_a_name_is():
    assert declared_attack("torchattacks:PGD") is None and of_library("torchattacks:PGD")
    assert declared_attack("mine") is None and not of_library("mine") and not of_library("other:PGD")
    assert declared_attack("noise").blind and declared_attack("square").black_box
    assert not declared_attack("ensemble").blind


def test_verification_loads_no_torch():
    code = (
        "import sys, vbench.reports.verify, vbench.reports.leaderboard\n"
        "assert not {'torch', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
