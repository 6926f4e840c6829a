"""What is wrong with the target of an entry point, without importing it."""

from __future__ import annotations

import sys

import pytest

from vbench.core.plugin_modules import problem_of

GOOD = """
import json as reader
from torch import nn
from .near import other

class Mine:
    class Inside: ...

given = nn
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "judged_package"
    folder.mkdir()
    (folder / "__init__.py").touch()
    for name, text in {
        "good": GOOD,
        "unclosed": "class Mine(",
        "lacking": "import os\nfrom no_such_package_of_mine.deep import thing\n",
        "lacking_too": "import no_such_package_of_mine\n",
        "starred": "from judged_package.good import *\n",
        "lazy": "def __getattr__(name): ...\n",
    }.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield "judged_package"
    assert not [name for name in sys.modules if name.startswith("judged_package.")], "nothing was imported"


@pytest.mark.parametrize(
    "target", ["good:Mine", "good:Mine.Inside", "good:given", "good:reader", "starred:Mine", "lazy:Anything"]
)
def test_nothing_is_wrong(package, target):
    assert problem_of(f"{package}.{target}") == ""


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("good", "'judged_package.good' is not package.module:Class"),
        ("good:", "is not package.module:Class"),
        ("absent:Mine", "there is no module 'judged_package.absent'"),
        ("unclosed:Mine", "unclosed.py, line 1: "),
        ("lacking:thing", "lacking.py, line 2: there is no module 'no_such_package_of_mine.deep'"),
        ("lacking_too:thing", "lacking_too.py, line 1: there is no module 'no_such_package_of_mine'"),
        ("good:Yours", "good.py has no 'Yours'"),
    ],
)
def test_what_is_wrong_is_said(package, target, problem):
    assert problem in problem_of(f"{package}.{target}")


def test_what_is_no_python_source_is_left_to_the_import():
    assert problem_of("math:sqrt") == ""
