"""What a run can be told: every field of a spec can be given by name, and arrives."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from vbench.core.errors import BadInput
from vbench.records.spec import OPTIONS, DataSpec, ModelSpec, RunSpec, Setup, request_of, spec_of

#: Those that hold other specs, and the name of a data set in a suite.
PARTS = {"group", "data", "surrogates", "label"}
TYPED = {str: "typed", int: 3, Path: Path("a/file")} | {list[str]: ["steps=2"]}


def typed(name):
    option = OPTIONS[name]
    if name == "size":
        return "48x24"
    value = not option.default if option.kind is bool else TYPED[option.kind]
    return [value] if name.startswith("surrogate") else value


def flat(spec):
    found = {"surrogate": spec.group.surrogates and spec.group.surrogates[0].victim}
    found["surrogate_weights"] = spec.group.surrogates and spec.group.surrogates[0].weights
    for part in (spec.group, spec.group.data, spec.group.victim, spec):
        found |= {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    return found


def test_every_field_is_an_option():
    fields = {
        field.name for part in (RunSpec, Setup, DataSpec, ModelSpec) for field in dataclasses.fields(part)
    }
    assert set(OPTIONS) - {"surrogate", "surrogate_weights"} == fields - PARTS


def test_every_option_arrives_in_the_spec():
    plain, told = flat(spec_of({})), flat(spec_of({name: typed(name) for name in OPTIONS}))
    assert [name for name in OPTIONS if plain[name] == told[name]] == []
    assert (told["size"], told["settings"], told["root"]) == ((48, 24), (("steps", "2"),), "a/file")


def test_a_request_makes_the_specs_of_the_same_options():
    given = {name: typed(name) for name in OPTIONS if name not in ("victim", "attack", "protocol", "seed")}
    given |= {"norm": "l2", "side": "gallery", "eps": "1"}
    known = request_of({**given, "victim": ["agw"], "attack": ["pgd"], "surrogate": ["deen"]})
    (spec,) = known.specs([7], device="cpu", perturbation=Path("learnt"), batch_size=3, allow_code=True)
    wanted = spec_of({**given, "victim": "agw", "attack": "pgd", "seed": 7, "device": "cpu"})
    wanted = dataclasses.replace(wanted, perturbation="learnt")
    told = flat(wanted) | {"surrogate": "deen", "group": spec.group, "surrogates": spec.group.surrogates}
    assert flat(spec) == told


def test_one_checkpoint_for_each_surrogate():
    with pytest.raises(BadInput, match="1 --surrogate-weights for 2 surrogates"):
        spec_of({"surrogate": ["agw", "deen"], "surrogate_weights": ["a"]})
