"""What is no Python file must travel in the wheel all the same."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_wheel_holds_every_template_and_table(tmp_path):
    copy = tmp_path / "copy"
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for folder in ("benchmark", "attacks", "victims", "reports"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy / file)
    # What a wheel is packed from; packing itself needs a package more on old Pythons.
    built = tmp_path / "built"
    command = [sys.executable, "-c", "import setuptools; setuptools.setup()", "build", "--build-lib", built]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    held = {path.relative_to(built).as_posix() for path in built.rglob("*")}
    reports = ROOT / "reports"
    data = [
        path.relative_to(reports)
        for path in reports.rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    ]
    assert len(data) > 5
    assert {f"vbench/reports/{path.as_posix()}" for path in data} <= held
