"""Every option of a run can be given in a suite: as it is, or in an entry or list of the suite."""

from pathlib import Path

import pytest

from vbench.records.spec import OPTIONS
from vbench.sweep.suite import SHARED, Suite
from vbench.sweep.tasks import expand

#: Values that differ from the defaults, where the kind of an option does not say one.
GIVEN = {"norm": "l2", "precision": "bfloat16", "device": "cpu"}


@pytest.mark.parametrize("name", SHARED)
def test_an_option_of_a_suite_reaches_its_runs(name):
    kind, default = OPTIONS[name].kind, OPTIONS[name].default
    value = GIVEN.get(name, not default if kind is bool else 3)
    suite = Suite(victims=["agw"], attacks=["noise"], eps=[0.5], **{name: value})
    (spec,) = expand(suite, Path())
    parts = (spec, spec.group, spec.group.data)
    assert [getattr(part, name) for part in parts if hasattr(part, name)] == [value]


def test_a_suite_has_a_key_for_every_option():
    keys = {
        "victim": "victims",
        "attack": "attacks",
        "seed": "seeds",
        "surrogate": "surrogates",
        **dict.fromkeys(["dataset", "root", "layout", "size", "protocol"], "datasets"),
        **dict.fromkeys(["weights", "surrogate_weights"], "victims"),
    }
    # A suite learns what it applies, and code is allowed on the command line alone.
    left = set(OPTIONS) - {"perturbation", "allow_code"}
    assert {keys.get(name, name) for name in left} <= set(Suite.model_fields)
