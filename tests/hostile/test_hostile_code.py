"""Code by path runs where the user gave the path, and nowhere else: not out of a file that names it."""

from __future__ import annotations

import json

import pytest
from payloads import as_json, store
from strangers import runs

from vbench.attacks.registry import attacks
from vbench.core.errors import BadInput
from vbench.data.registry import datasets
from vbench.data.synthetic.write import MANIFEST
from vbench.gate.baseline import Baseline, Measured, stored
from vbench.records.spec import Request
from vbench.victims.registry import victims

CODE = """\
from pathlib import Path
Path(__file__).with_name("ran").touch()
from vbench.attacks.noise import Noise

class Evil(Noise):
    name = "evil"
"""

PATHS = ("../x.py:Y", "/etc/passwd:Y", "a\0b.py:Y", "\n.py:Y", "../..:Y", "a/b:Y", "a\\b:Y")
MODULES = ("a\0b:Y", "..:Y", ".x:Y", "a..b:Y", ":Y", "x:", "-:Y", "a b:Y", "x" * 300 + ":Y", "::", "a:b:c")
WORDS = ("os:system", "builtins:exec", "a\0b", "\x1b[2J", "x" * 99999, "", " ", "[", "]", "../x.py")


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A file and a module that leave a mark when they are loaded; returns the mark and both names."""
    folder = tmp_path / "evil"
    folder.mkdir()
    for name in ("evil_file.py", f"evil_{tmp_path.name}.py"):
        (folder / name).write_text(CODE)
    monkeypatch.syspath_prepend(folder)
    return folder / "ran", (f"{folder}/evil_file.py:Evil", f"evil_{tmp_path.name}:Evil")


@pytest.mark.parametrize(
    "text",
    [
        "victims: agw\nattacks: [noise, '{name}']\n",
        "victims: ['{name}']\nattacks: noise\n",
        "victims: agw\nattacks: noise\nsurrogates: ['{name}']\n",
        "victims: agw\nattacks: noise\nsurrogates: [[agw, '{name}']]\n",
    ],
)
def test_a_suite_runs_no_code_unless_told(refused, evil, tmp_path, text):
    mark, names = evil
    suite = tmp_path / "suite.yaml"
    for name in names:
        suite.write_text(text.format(name=name))
        assert "names code by path" in refused("sweep", suite, "--runs", tmp_path / "runs")
        assert not mark.exists()


def test_a_suite_runs_code_when_told(refused, evil, tmp_path):
    mark, (name, _) = evil
    suite = tmp_path / "suite.yaml"
    # Something else is wrong, so nothing is attacked; the class was looked at before that was seen.
    suite.write_text(f"victims: agw\nattacks: ['{name}[none=1]']\n")
    line = refused("sweep", suite, "--allow-code", "--runs", tmp_path / "runs")
    assert "unknown parameter" in line and mark.exists()


def baseline_of(request):
    place = {"victim": "agw", "protocol": "p", "config": {}, "metrics": {}}
    victims, attacks = [Measured(**place)], [Measured(**place, attack="noise")]
    return Baseline(request=request, seeds=(0, 1), victims=victims, attacks=attacks)


@pytest.mark.parametrize("change", ["victims", "attacks", "surrogates", "dataset"])
def test_a_baseline_runs_no_code_unless_told(refused, evil, tmp_path, change):
    mark, names = evil
    for name in names:
        request = Request(victims=("agw",), attacks=("noise",))
        value = name if change == "dataset" else (name,)
        baseline = baseline_of(request.model_copy(update={change: value}))
        path = tmp_path / "baseline.json"
        path.write_text(baseline.model_dump_json())
        line = refused("check", path)
        assert "names code by path" in line and name in line and "--allow-code" in line
        assert not mark.exists()


@pytest.mark.parametrize("index", [0, 1])
def test_a_record_runs_no_code(vbench, evil, tmp_path, index):
    mark, names = evil
    records = [as_json(record) for record in runs()]
    for record in records:
        record["config"]["victim"]["name"] = record["config"]["attack"]["name"] = names[index]
        record["victim_label"] = record["label"] = record["surrogate"] = f"{names[index]}[a=1]"
        record["config"]["dataset"]["name"] = names[index]
    folder = store(tmp_path / "runs", records)
    for style in ("markdown", "html", "json"):
        vbench("report", "--runs", folder, "--format", style, "--no-figures", "--out", tmp_path / "out")
    vbench("figure", "cmc", "--runs", folder, "--out", tmp_path / "out.svg")
    vbench("leaderboard", folder, "--out", tmp_path / "site", expect=2)
    assert not mark.exists()


@pytest.mark.parametrize("registry", [attacks, victims, datasets], ids=lambda registry: registry.kind)
@pytest.mark.parametrize("name", [*PATHS, *MODULES, *WORDS], ids=range(len(PATHS + MODULES + WORDS)))
def test_a_name_that_is_none_is_one_short_line(registry, name):
    with pytest.raises(BadInput) as caught:
        registry.load(name)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1500


def test_names_of_a_library_lead_to_its_attacks_alone():
    for name in ("torchattacks:os", "torchattacks:attack.torch.os.system", "art:os", "art:__builtins__"):
        with pytest.raises(BadInput):
            attacks.load(name)


def test_a_baseline_is_data(refused, tmp_path):
    path = tmp_path / "baseline.json"
    for text in (
        "[" * 100_000,
        "null",
        "{}",
        '{"schema_version": 1e999}',
        json.dumps({"request": {"root": 1}}),
    ):
        path.write_text(text)
        assert str(path) in refused("check", path)


@pytest.mark.parametrize(
    "drawn",
    [
        *({"ids": 10**9}, {"test_ids": 10**12}, {"size": [10**6, 10**6]}, {"size": [0, 0]}, {"ids": -1}),
        *({"layout": "../../x"}, {"layout": "/etc"}, {"seed": "x"}),
    ],
    ids=range(8),
)
def test_a_baseline_draws_no_endless_set(refused, tmp_path, drawn):
    baseline = baseline_of(Request(victims=("agw",), attacks=("noise",), dataset="sysu", layout="sysu"))
    content = json.loads(baseline.model_dump_json())
    content["drawn"] = {"layout": "sysu", "ids": 8, "test_ids": 8, "seed": 0, "size": [32, 16], **drawn}
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps(content))
    refused("check", path)
    assert not list((tmp_path / "cache").rglob("*.jpg")) and not (tmp_path / "x").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"generator": 1}', "[" * 100_000])
def test_a_manifest_is_data(tmp_path, content):
    (tmp_path / MANIFEST).write_text(content)
    try:
        _, drawn = stored(Request(victims=("agw",), attacks=("noise",), root=tmp_path), tmp_path)
    except BadInput as refused:
        assert MANIFEST in str(refused)
    else:
        assert drawn is None
