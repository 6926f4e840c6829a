"""``vbench baseline`` and ``vbench check`` as they are called."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from vbench.cli.check import baseline as baseline_command
from vbench.cli.run import run as run_command

NOISE = ("--victim", "agw", "--attack", "noise")
OTHERS = ("--attack", "metric_ifgsm[steps=2]", "--attack", "uap[evaluations=24,batch=6]")


@pytest.fixture
def making(quick):
    """Arguments that make a baseline of a quick victim."""
    where = ("--dataset", "sysu", "--root", quick.root, "--weights", quick.weights())
    return ["baseline", *NOISE, *OTHERS, *where, "--ignore-gates", "--quiet"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("made") / "baseline.json"


@pytest.fixture
def file(tmp_path, making, vbench, kept):
    """A baseline of five seeds, made once and copied: it names no place but the weights', which stay."""
    if not kept.exists():
        vbench(*making, "--seeds", 5, "--out", kept)
    return Path(shutil.copy(kept, tmp_path / "baseline.json"))


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def weaker_now(content):
    """As if the attack had once been much stronger."""
    spread = content["attacks"][1]["metrics"]["drop_map"]
    spread["values"] = [value + 0.5 for value in spread["values"]]
    spread["mean"] += 0.5


def test_made_checked_green_and_read_by_nobody_else(file, making, vbench, tmp_path):
    made = vbench(*making, "--seeds", 5, "--out", tmp_path / "other.json")
    assert "allowed" in made.stdout and f"vbench check {tmp_path / 'other.json'}" in made.stdout
    done = vbench("check", file, "--quiet")
    # Victim 2, noise 7, metric_ifgsm 7, uap 8.
    assert (
        done.stdout.splitlines()[-1]
        == "green: 24 figures within bounds, 24 of them to the last bit (5 seeds)"
    )
    assert not (tmp_path / "runs").exists()


def test_other_seeds_and_fewer(file, vbench):
    done = vbench("check", file, "--seeds", 2, "--first-seed", 50, "--quiet")
    assert "(2 seeds)" in done.stdout and done.stdout.startswith("green: 24 figures")


def test_red_exits_with_one_and_says_what_moved(file, vbench, tmp_path):
    edit(file, weaker_now)
    junit, summary = tmp_path / "out" / "gate.xml", tmp_path / "out" / "summary.md"
    summary.parent.mkdir()
    summary.write_text("before\n")
    done = vbench("check", file, "--quiet", "--junit", junit, "--summary", summary, expect=1)
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("agw, metric_ifgsm")]
    assert "drop in mAP" in row and row.endswith("weaker")
    assert done.stdout.splitlines()[-1] == "red: 1 of 24 figures moved (5 seeds): agw, metric_ifgsm[steps=2]"
    assert ET.parse(junit).getroot().get("failures") == "1"
    assert summary.read_text().startswith("before\n### vbench check: red: 1 of 24")


@pytest.mark.slow
def test_update_rewrites_what_moved_and_shows_the_difference(file, vbench):
    good = json.loads(file.read_text())
    same = vbench("check", file, "--quiet", "--update")
    assert "left as it is" in same.stdout and json.loads(file.read_text()) == good
    edit(file, weaker_now)
    done = vbench("check", file, "--quiet", "--update")
    assert "1 figures rewritten, 23 as they were" in done.stdout
    now = json.loads(file.read_text())
    assert {**now, "created": ""} == {**good, "created": ""}
    assert vbench("check", file, "--quiet").stdout.startswith("green")


def test_update_with_fewer_seeds_is_refused_before_anything_runs(file, vbench):
    done = vbench("check", file, "--seeds", 2, "--update", expect=2)
    assert "would widen every bound" in done.stderr


@pytest.mark.slow
def test_a_repository_can_be_moved(file, making, vbench, tmp_path, monkeypatch, quick):
    """Weights beside the baseline, given relative; the drawn set is drawn again in the cache."""
    here = tmp_path / "here"
    here.mkdir()
    shutil.copy(quick.weights(), here / "w.safetensors")
    monkeypatch.chdir(here)
    arguments = [a if a != quick.weights() else "w.safetensors" for a in making]
    vbench(*arguments, "--seeds", 5, "--out", "gate.json")
    there = here.rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    assert vbench("check", there / "gate.json", "--quiet").stdout.startswith("green")


@pytest.mark.slow
def test_names_that_are_given_twice_are_run_once(file, vbench):
    def twice(content):
        asked = content["request"]
        asked.update(victims=asked["victims"] * 2, attacks=[asked["attacks"][1], *asked["attacks"]])

    edit(file, twice)
    assert vbench("check", file, "--quiet").stdout.startswith("green: 24 figures within bounds, 24 of them")


def test_what_two_seeds_cannot_guard_is_left_out_and_said(making, vbench, tmp_path):
    done = vbench(*making, "--seeds", 2, "--out", tmp_path / "two.json", expect=1)
    (line,) = [one for one in done.stdout.splitlines() if one.startswith("- agw, uap") and "Rank-1" in one]
    assert line.endswith(" seeds would do)")
    assert "drop_r1" not in json.loads((tmp_path / "two.json").read_text())["attacks"][2]["metrics"]


@pytest.mark.slow
def test_a_bound_that_allows_everything_is_not_green(file, vbench):
    """A file of somebody who was told nothing, and a re-run that gives the very same figures."""
    edit(file, lambda content: content["attacks"][1]["metrics"]["drop_map"].update(sd=1.0))
    done = vbench("check", file, "--quiet", expect=1)
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("agw, metric_ifgsm")]
    assert "drop in mAP" in row and row.endswith("cannot guard")
    assert "1 of 24 figures cannot be guarded" in done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_other_weights_are_red_and_named(file, vbench, quick):
    done = vbench("check", file, "--quiet", "--weights", quick.weights(seed=1), expect=1)
    assert "other weights: " in " ".join(done.stdout.split())


def test_a_failed_run_is_red_and_the_others_go_on(file, vbench):
    # The fit cannot have this many images a batch any more.
    def too_few(content):
        text = "uap[evaluations=2,batch=6]"
        content["request"]["attacks"][2] = content["attacks"][2]["attack"] = text

    edit(file, too_few)
    done = vbench("check", file, "--quiet", "--all", expect=1)
    assert "less than one update" in " ".join(done.stdout.split())
    assert "failed" in done.stdout and "same" in done.stdout


@pytest.mark.slow
def test_records_are_kept_where_asked_for(file, vbench, tmp_path):
    vbench("check", file, "--quiet", "--runs", tmp_path / "kept")
    assert len(list((tmp_path / "kept").glob("*.json"))) == 15


def test_a_baseline_with_code_by_path_runs_only_if_told(file, vbench, tmp_path):
    plugin, mark = tmp_path / "mine.py", tmp_path / "ran"
    plugin.write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")
    edit(file, lambda c: c["request"].update(attacks=[f"{plugin}:Mine"]))
    done = vbench("check", file, expect=2)
    assert "names code by path" in done.stderr and "--allow-code" in done.stderr
    assert not mark.exists()
    vbench("check", file, "--allow-code", "--quiet", expect=2)
    assert mark.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "none.json"), "make one with vbench baseline"),
        (("check", "{file}", "--seeds", 0), "--seeds"),
        (("check", "{file}", "--junit", "{folder}"), "is a folder; name a file"),
        (("check", "{file}", "--root", "{folder}/none"), "none"),
        (("baseline", *NOISE, "--out", "{file}"), "--update rewrites it"),
        (("baseline", *NOISE, "--out", "{folder}"), "is a folder"),
        (("baseline", "--victim", "agww", "--attack", "noise", "--out", "{folder}/b.json"), "agw"),
        (("baseline", "--eps", "8", *NOISE, "--out", "{folder}/b.json"), "8/255"),
    ],
)
def test_bad_input_is_one_line(file, vbench, tmp_path, arguments, said):
    given = [str(part).format(file=file, folder=tmp_path) for part in arguments]
    done = vbench(*given, "--quiet", expect=2)
    assert said in done.stderr
    assert not (tmp_path / "b.json").exists()


def test_what_can_be_run_can_be_guarded():
    """All that says what is run is an option of both commands; the rest is where and how."""
    run, made = (set(inspect.signature(one).parameters) for one in (run_command, baseline_command))
    assert run - made == {
        *("seed", "perturbation", "batch_size", "keep", "style", "wide", "chance", "dry_run")
    }
    assert made - run == {"seeds", "out", "false_alarm"}
