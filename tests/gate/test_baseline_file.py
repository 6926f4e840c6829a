"""Baselines as files: read back as written, refused in one line when somebody edited them badly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gate.conftest import FOLDER
from hypothesis import given, settings
from hypothesis import strategies as st

from vbench.core.errors import BadInput
from vbench.gate.baseline import read_baseline, resolved, stored, write_baseline
from vbench.records.spec import Request

GOOD = json.loads((FOLDER / "baseline.json").read_text())


def written(tmp_path: Path, change) -> Path:
    content = json.loads(json.dumps(GOOD))
    change(content)
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps(content))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as stopped:
        read_baseline(path)
    text = str(stopped.value)
    assert "\n" not in text and str(path) in text
    return text


def test_written_and_read_back_it_is_the_same(baseline, tmp_path):
    write_baseline(tmp_path / "b.json", baseline)
    assert read_baseline(tmp_path / "b.json") == baseline
    # Options that were added since have their default.
    request = {"queries": None} | GOOD["request"]
    assert json.loads((tmp_path / "b.json").read_text()) == GOOD | {"request": request}


def first(content):
    return content["attacks"][0]["metrics"]["drop_r1"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(schema_version=2), "made by a newer vbench (schema 2"),
        (lambda c: c.update(mine=1), "mine: Extra inputs"),
        (lambda c: c.pop("request"), "request: Field required"),
        (lambda c: c.update(seeds=[0]), "seeds: "),
        (lambda c: c.update(seeds=[0] * 20), "seed is given twice"),
        (lambda c: c.update(seeds=[0, 1, 2]), "20 values for 3 seeds"),
        (lambda c: c.update(false_alarm=0), "false_alarm: "),
        (lambda c: c.update(false_alarm=float("nan")), "false_alarm: "),
        (lambda c: c.update(attacks=[]), "attacks: "),
        (lambda c: c["attacks"].append(c["attacks"][0]), "there twice"),
        (lambda c: first(c).update(mean=0.9), "mean is 0.9, and that of the values is"),
        (lambda c: first(c).update(sd=-1), "attacks.0.metrics.drop_r1.sd: "),
        (lambda c: first(c).update(sd=0.1, dof=0), "degrees of freedom"),
        (lambda c: first(c)["values"].append(0.1), "n is 20, and there are 21 values"),
        (lambda c: first(c).update(values=["x"] * 20), "drop_r1.values.0: "),
        (
            lambda c: c["attacks"][0]["metrics"].update(strength=first(c)),
            "unknown metrics strength; known: ",
        ),
        (lambda c: c["request"].update(victims=[]), "request.victims: "),
        (lambda c: c["request"].update(victim="agw"), "request.victim: Extra inputs"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, said):
    assert said in refusal(written(tmp_path, change))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\x00", b"[" * 100_000, b"[]", b"null", b"3"])
def test_what_is_no_baseline_at_all(tmp_path, content):
    path = tmp_path / "b.json"
    path.write_bytes(content)
    refusal(path)


def test_a_missing_file_and_a_folder(tmp_path):
    assert "make one with vbench baseline" in refusal(tmp_path / "none.json")
    refusal(tmp_path)


def test_many_problems_are_still_one_line(tmp_path):
    text = refusal(
        written(tmp_path, lambda c: [one.update(metrics=1) for one in c["attacks"]] and c.update(x=1))
    )
    assert text.count("metrics") == len(GOOD["attacks"])


def leaf_paths(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaf_paths(inner, (*path, key))
    elif isinstance(value, list):
        for position, inner in enumerate(value[:2]):
            yield from leaf_paths(inner, (*path, position))
    else:
        yield path


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from(list(leaf_paths(GOOD))),
    st.one_of(
        st.none(), st.text(max_size=5), st.floats(), st.integers(), st.lists(st.integers(), max_size=2)
    ),
)
def test_no_edit_of_a_field_ends_in_anything_but_a_line(tmp_path_factory, path, value):
    def change(content):
        for part in path[:-1]:
            content = content[part]
        content[path[-1]] = value

    file = written(tmp_path_factory.mktemp("edited"), change)
    try:
        read_baseline(file)
    except BadInput as error:
        assert "\n" not in str(error)


def test_relative_paths_are_kept_relative_to_the_file(tmp_path, monkeypatch):
    """Written from one folder into another, the request finds its files from a third."""
    (tmp_path / "work").mkdir()
    (tmp_path / "gates").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    request = Request(victims=("agw",), attacks=("pgd",), weights=Path("w.safetensors"))
    kept, drawn = stored(request, Path("../gates"))
    assert (kept.weights, drawn) == (Path("../work/w.safetensors"), None)
    absolute, _ = stored(request.model_copy(update={"weights": tmp_path / "w"}), Path("../gates"))
    assert absolute.weights == tmp_path / "w"
    monkeypatch.chdir("/")

    class Kept:
        request, drawn = kept, None

    found = resolved(Kept, tmp_path / "gates", None, None)
    assert found.weights.resolve() == tmp_path / "work" / "w.safetensors"
    assert resolved(Kept, tmp_path / "gates", None, Path("mine")).weights == Path("mine")


def test_a_drawn_set_is_kept_as_its_parameters(quick):
    kept, drawn = stored(Request(victims=("agw",), attacks=("pgd",), dataset="sysu", root=quick.root), Path())
    assert kept.root is None
    assert (drawn.layout, drawn.ids, drawn.test_ids, drawn.seed, drawn.size) == ("sysu", 6, 6, 3, (32, 16))
