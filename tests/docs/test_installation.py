"""Nobody is told to install vbench by name, and who has the other software of that name is told so."""

from __future__ import annotations

import re
from configparser import ConfigParser

import pytest
from packaging.requirements import Requirement
from pages import PAGES, ROOT
from pipeline.conftest import vbench  # noqa: F401

SOURCES = [
    path for part in ("benchmark", "attacks", "victims", "reports") for path in (ROOT / part).rglob("*.py")
]
TESTS = [path for path in (ROOT / "tests").rglob("*.py") if path.name != "test_installation.py"]
OTHERS = [ROOT / "Makefile", *(ROOT / ".github").rglob("*.yml"), *(ROOT / "tests").rglob("*.sh")]
#: What stands behind "pip install" and its like, as far as the command can go in code, a shell or a sentence.
INSTALL = re.compile(r"\b(?:pipx?|uv|conda|poetry)\s+(?:pip\s+)?(?:install|add)\b([^`\n#;|)]*)")
#: A path, a wheel, or what a shell fills in.
NO_NAME = re.compile(r"^\.|/|\.whl$|^[%$*]")


def installed(text: str) -> list[str]:
    """What is installed by name in a text; what a program fills in is not seen."""
    shown = re.sub(r"\{[^{}]*\}", "", text)
    words = [word.strip("\"'").rstrip("\"'.,\\") for rest in INSTALL.findall(shown) for word in rest.split()]
    return [word for word in words if word and not word.startswith("-") and not NO_NAME.search(word)]


def dependencies() -> set[str]:
    """The distributions that vbench needs, for itself or for an extra, by name; and installers."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    lines = [line for text in listed for line in text.splitlines() if line and not line.startswith("#")]
    return {Requirement(line).name for line in lines} | {"pip", "uv"}


def test_only_dependencies_are_installed_by_name():
    for path in (*PAGES, *OTHERS, *SOURCES, *TESTS):
        text = path.read_text(encoding="utf-8")
        assert {Requirement(word).name for word in installed(text)} <= dependencies(), path
        assert re.findall(r"\binstall (?:vbench|vireid-bench)\b(?! again)|\bvbench\[[a-z]+\]", text) == [], (
            path
        )


def test_an_installation_by_name_is_seen():
    assert installed("run `pip install 'vbench[ray]'`, then go on") == ["vbench[ray]"]
    assert installed("- run: pip install --upgrade vbench  # the newest") == ["vbench"]
    assert installed('pip install -e ".[dev]" ./vbench dist/vbench-0.1.whl') == []


@pytest.mark.parametrize(
    ("files", "told"), [("vbench/__init__.py,,\n", True), ("__editable__.pth,,\n", False)]
)
def test_other_software_of_the_name_is_named_at_start(vbench, tmp_path, monkeypatch, files, told):  # noqa: F811
    folder = tmp_path / "site" / "vbench-0.1.5.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: vbench\nVersion: 0.1.5\n")
    (folder / "RECORD").write_text(files)
    monkeypatch.syspath_prepend(tmp_path / "site")
    said = vbench("list", "attacks").stderr
    assert (
        said.startswith(f"vbench: other software is installed under this name, vbench 0.1.5 in {tmp_path}")
        == told
    )
    assert said.count("\n") == told
