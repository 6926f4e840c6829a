"""Suites of strangers: data and nothing else, refused in lines that name the place, and at once."""

from __future__ import annotations

import json
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as fuzzing
from hypothesis import strategies as st
from payloads import TERMINAL
from test_hostile_shapes import PLENTY

from vbench.core.errors import BadInput
from vbench.records.spec import DataSpec, ModelSpec, RunSpec, Setup
from vbench.sweep.read import read_suite
from vbench.sweep.state import States, TaskState
from vbench.sweep.tasks import MOST_RUNS, tasks_of

HEAD = "victims: agw\nattacks: noise\n"
TAGS = (
    "!!python/object/apply:os.system ['touch {marker}']",
    "!!python/object/new:os.system ['touch {marker}']",
    "!!python/object/apply:subprocess.check_output [[touch, {marker}]]",
    "!!python/name:os.system ''",
    "!!python/module:os ''",
    "!!python/object/apply:builtins.open ['{marker}', 'w']",
    "!!binary aGVsbG8=",
    "!!set {{a}}",
    "!custom x",
)
#: A thousand digits say more than any number of a suite; so do ten thousand entries than any list.
DIGITS = ("0x" + "f" * 100_000, "1" * 100_000, "1:" * 50_000 + "1", "0b" + "1" * 100_000)
MANY = ", ".join(map(str, range(1, 4000)))


def written(tmp_path, text):
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("place", ["{tag}\n", HEAD + "seeds: {tag}\n", HEAD + "name:\n  - {tag}\n"])
@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_makes_nothing(refused, tmp_path, tag, place):
    marker = tmp_path / "ran"
    suite = written(tmp_path, place.format(tag=tag.format(marker=marker)))
    for command in (["sweep", suite], ["status", suite]):
        line = refused(*command, "--runs", tmp_path / "runs")
        assert "is not allowed" in line or "not YAML" in line or "a key must be a word" in line
        assert f"{suite}:" in line
    assert not marker.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *((f"{HEAD}seeds: {digits}\n", "is no int") for digits in DIGITS),
        (f"{HEAD}seeds: [{MANY}]\neps: [{MANY.replace(',', '/5000,')}/5000]\n", "runs, at most 100,000"),
        (f"victims: all\nattacks: all\nseeds: [{MANY}]\nsurrogates: all\n", "runs, at most 100,000"),
        (
            f"{HEAD}seeds: [{', '.join(map(str, range(9000)))}]\n"
            f"exclude: [{', '.join(f'{{seed: {seed}}}' for seed in range(2000))}]\n",
            "take too long",
        ),
        (f"{HEAD}datasets: {{name: synthetic, size: 99999x99999}}\n", "at most 4096"),
        (f"{HEAD}victims: deen\n", "is given twice"),
        (f"{HEAD}? [a, b]\n: 1\n", "a key must be a word"),
        (f"{HEAD}settings: {'{a: ' * 500}1{'}' * 500}\n", "nested too deep"),
        (f"{HEAD}name: ../../x\n", "names a folder"),
        (f"{HEAD}name: /etc\n", "names a folder"),
        (f'{HEAD}name: "a\\0b"\n', "names a folder"),
        (f'{HEAD}name: "\\e[2J\\x9b"\n', "names a folder"),
        ('victims: "\\e]0;owned\\a"\nattacks: noise\n', "unknown victim"),
        (f"{HEAD}precision: {'x' * 200_000}\n", "unknown precision"),
    ],
)
def test_what_nobody_means_is_refused_at_once(refused, tmp_path, text, words):
    begun = time.perf_counter()
    line = refused("sweep", written(tmp_path, text), "--runs", tmp_path / "runs")
    assert words in line and len(line) < 1500
    # A guard against seconds becoming hours, with room for a busy machine.
    assert time.perf_counter() - begun < 20
    assert [path.name for path in tmp_path.iterdir()] == ["suite.yaml"]


def test_the_limit_is_above_what_is_meant(tmp_path):
    seeds = ", ".join(map(str, range(1000)))
    text = f"{HEAD}seeds: [{seeds}]\nside: [query, gallery, both]\n"
    assert len(tasks_of(read_suite(written(tmp_path, text)))) == 3000 < MOST_RUNS


def test_the_states_of_a_sweep_are_data_too(vbench, tmp_path):
    """What ``vbench status`` reads lies among the records, and may come with them."""
    states = States.of(tmp_path, "night")
    group = Setup(DataSpec(TERMINAL, "sysu", TERMINAL), ModelSpec(TERMINAL))
    tasks = [RunSpec(group, TERMINAL, seed=seed) for seed in range(4)]
    states.list_tasks(tmp_path / "suite.yaml", tasks, 1)
    failed = TaskState(status="failed", reason=TERMINAL, host=TERMINAL)
    states.put(tasks[0].key, failed)
    states.put(tasks[1].key, failed.model_copy(update={"status": "running", "pid": 1, "driver": 1}))
    for task, more in ((tasks[2], {"seconds": float("inf")}), (tasks[3], {"driver": 10**30})):
        state = {"status": "running" if "driver" in more else "done", **more}
        states.path(task.key).write_text(json.dumps(state))
    assert "4 runs: 1 failed" in vbench("status", "--runs", tmp_path).stdout.replace("1 running, ", "")
    rows = json.loads(vbench("status", "--runs", tmp_path, "--format", "json").stdout)[0]["tasks"]
    assert {row["attack"] for row in rows} == {TERMINAL}


def suite_or_refusal(tmp_path, content):
    path = tmp_path / "suite.yaml"
    path.write_bytes(content)
    try:
        tasks_of(read_suite(path))
    except BadInput as refused:
        assert all(f"{path}" in line or line.startswith("...") for line in str(refused).splitlines())


_WORDS = st.sampled_from(
    ["agw", "deen[embedding=pooled]", "all", "none", "pgd[steps=3]", "pgd[", "8/255", "1/0", "nan", "both"]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | _WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "weights", "options", "settings", "root", "x"]), inner)
    ),
    max_leaves=6,
)
_KEYS = (
    *("name", "victims", "attacks", "datasets", "surrogates", "eps", "norm", "side", "quantize", "seeds"),
    *("settings", "exclude", "precision", "channels_last", "device", "ignore_gates", "resources", "odd"),
)


@fuzzing(PLENTY, max_examples=80)
@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=4))
def test_any_structure_is_a_suite_or_refused(tmp_path_factory, value):
    whole = {"victims": "agw", "attacks": "noise", **value}
    suite_or_refusal(tmp_path_factory.getbasetemp(), yaml.safe_dump(whole, allow_unicode=True).encode())


@fuzzing(PLENTY, max_examples=80)
@given(st.text(max_size=60) | st.text("{}[]:,-&*!?|>'\"%@` \n\tab1", max_size=60))
def test_any_text_is_a_suite_or_refused(tmp_path_factory, text):
    suite_or_refusal(tmp_path_factory.getbasetemp(), text.encode("utf-8", "surrogatepass"))
    suite_or_refusal(tmp_path_factory.getbasetemp(), f"{HEAD}{text}".encode("utf-8", "surrogatepass"))
