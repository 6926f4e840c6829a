"""CONTRIBUTING says that an attack, a victim or a data set is one file: each is added to a copy of vbench."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

from floors import FOLDERS, ROOT, upward

#: Where each file is shown, and the folder that it belongs in.
NEW = {
    "toward_mirror": ("docs/your-attack.md", "attacks"),
    "identity_only": ("CONTRIBUTING.md", "victims"),
    "named_files": ("docs/your-dataset.md", "data"),
}
#: The catalogues made anew, then the tests that every built-in class must pass, for the new ones.
STEPS = """
import runpy, sys
import pytest
for module in ("data.registry", "attacks.declare", "victims.registry"):
    runpy.run_module(f"vbench.{module}", run_name="__main__")
for name in [name for name in sys.modules if name.partition(".")[0] == "vbench"]:
    del sys.modules[name]
files = ("attacks/test_every_attack.py", "victims/test_every_victim.py", "data/test_every_dataset.py")
chosen = "shapes or edits or options or losses_are or catalogue_agrees"
chosen = f"toward_mirror or named or identity_only and ({chosen})"
options = ["-p", "no:cacheprovider", "-n", "0", "-vv", "-k", chosen]
sys.exit(pytest.main([*options, *(f"tests/{file}" for file in files)]))
"""


def shown(page: str, name: str) -> str:
    """The file ``name`` that a page shows, with the version that a built-in class declares."""
    code = re.search(rf"```python\n( *# {name}\.py\n.*?)```", (ROOT / page).read_text(), re.DOTALL)[1]
    if code.startswith("  "):
        code = re.sub(r"^  ", "", code, flags=re.MULTILINE)
    return code if "version = 1" in code else code.replace("    name = ", "    version = 1\n    name = ", 1)


def test_one_file_and_make_catalogue_add_an_attack_a_victim_a_data_set(tmp_path):
    for package, folder in FOLDERS.items():
        target = tmp_path / package.replace(".", "/")
        shutil.copytree(ROOT / folder, target, ignore=shutil.ignore_patterns("__pycache__"))
    for name, (page, room) in NEW.items():
        (tmp_path / "vbench" / room / f"{name}.py").write_text(shown(page, name))
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    ended = subprocess.run(
        [sys.executable, "-c", STEPS],
        cwd=ROOT,
        env={**plain, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for folder, added in (("attacks", "toward_mirror"), ("victims", "identity_only"), ("data", "named")):
        before, after = (
            json.loads((root / "catalogue.json").read_text())
            for root in (
                ROOT / FOLDERS.get(f"vbench.{folder}", f"benchmark/{folder}"),
                tmp_path / "vbench" / folder,
            )
        )
        assert after.keys() - before.keys() == {added}
        assert len(re.findall(rf"\[{added}.*PASSED", ended.stdout)) >= 3, ended.stdout


def test_an_import_that_points_up_is_found(tmp_path):
    """What ``make lint`` refuses: at the top of a file, inside a function, and for type checking alone."""
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    assert upward(tmp_path) == []
    planted = {
        "benchmark/core/text.py": "from vbench.data.base import Sample",
        "victims/agw.py": "def late():\n    import vbench.attacks.steps",
        "reports/rows.py": "if TYPE_CHECKING:\n    from vbench.run.session import Session",
    }
    for file, code in planted.items():
        with (tmp_path / file).open("a") as opened:
            opened.write(f"\n{code}\n")
    found = upward(tmp_path)
    assert len(found) == len(planted)
    assert all(any(file in line for line in found) for file in planted), found
