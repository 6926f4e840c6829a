"""The fault table is true: every test it names exists, and every kind of fault has a quick one."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from faults.table import FAULTS, KINDS

TESTS = Path(__file__).parents[1]


@cache
def functions(path: str) -> dict[str, bool]:
    """Test functions of a file, and whether they are marked slow."""
    nodes = ast.parse((TESTS / path).read_text()).body
    found = [node for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return {node.name: any("slow" in ast.unparse(one) for one in node.decorator_list) for node in found}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind}: {fault.done[:40]}")
def test_the_tests_of_a_fault_exist(fault):
    assert fault.kind in KINDS and fault.tests
    for test in fault.tests:
        path, _, name = test.partition("::")
        assert name in functions(path), test


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_quick_case(kind):
    named = [test.partition("::") for fault in FAULTS if fault.kind == kind for test in fault.tests]
    assert any(not functions(path)[name] for path, _, name in named)


def test_the_table_knows_every_test_beside_it():
    named = {test for fault in FAULTS for test in fault.tests}
    here = {path.name for path in Path(__file__).parent.glob("test_*.py")} - {Path(__file__).name}
    assert {f"faults/{name}::{test}" for name in here for test in functions(f"faults/{name}")} <= named
