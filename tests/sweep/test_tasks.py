"""From suites to tasks: every combination once, under a name that stays, less what is excluded, in shards."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbench.attacks.registry import attacks
from vbench.core.errors import BadInput
from vbench.core.types import Side
from vbench.records.spec import ModelSpec
from vbench.run.session import threat_of
from vbench.sweep.read import read_suite
from vbench.sweep.tasks import parse_shard, shard, task_from, tasks_of
from vbench.victims.registry import victims

FULL = """\
victims:
  - agw
  - name: deen
    options: {embedding: weighted}
    weights:
      real: deen.t
      regdb/vis2ir/trial-2: deen_2.t
      other: /weights/deen.t
  - name: mmn
    weights: mmn.t
attacks: [noise, 'pgd[steps=20]', {name: uap, settings: {batch: 16}}]
datasets:
  - {name: regdb, label: real, root: RegDB, protocols: [regdb/vis2ir/trial-1, regdb/vis2ir/trial-2]}
  - {name: sysu, label: other, root: /data/sysu}
surrogates: [none, agw, [agw, deen]]
eps: [8/255, 4/255]
side: [query, gallery]
seeds: [0, 1, 2]
"""


def tasks(tmp_path, text):
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    return tasks_of(read_suite(path))


def test_every_combination_is_a_task_once_and_groups_stay_together(tmp_path):
    found = tasks(tmp_path, FULL)
    assert len(found) == 3 * 3 * 3 * 3 * 2 * 2 * 3
    assert len({task.key for task in found}) == len(found)
    groups = [task.group for task in found]
    changes = sum(one != other for one, other in pairwise(groups))
    assert changes == len(set(groups)) - 1 == 3 * 3 * 3 - 1
    settings = {task.attack_text for task in found}
    assert settings == {"noise", "pgd[steps=20]", "uap[batch=16]"}


def test_weights_belong_to_a_protocol_then_a_dataset_then_to_all(tmp_path):
    found = {
        (task.group.victim.victim, task.group.data.protocol): task.group.victim.weights
        for task in tasks(tmp_path, FULL)
    }
    deen, here = "deen[embedding=weighted]", tmp_path.resolve()
    assert found[deen, "regdb/vis2ir/trial-1"] == str(here / "deen.t")
    assert found[deen, "regdb/vis2ir/trial-2"] == str(here / "deen_2.t")
    assert found[deen, "sysu/all/single/ir2vis/seed10"] == "/weights/deen.t"
    assert found["mmn", "regdb/vis2ir/trial-1"] == str(here / "mmn.t")
    assert found["agw", "regdb/vis2ir/trial-1"] is None


def test_a_key_follows_what_is_computed_and_nothing_else(tmp_path):
    base = "victims: agw\nattacks: pgd\n"

    def key(text):
        return [task.key for task in tasks(tmp_path, text)]

    assert key(base) == ["bb253cf74e5f"], "keys name files that an older version wrote"
    assert key(base + "device: cpu\nignore_gates: true\nresources: {jobs: 3}\n") == key(base)
    assert key(base + "datasets: {name: synthetic, label: drawn}\n") == key(base)
    others = [
        "eps: 4/255\n",
        "side: gallery\n",
        "norm: l2\neps: 2\n",
        "quantize: false\n",
        "seeds: 1\n",
        "settings: {steps: 3}\n",
        "surrogates: agw\n",
        "precision: bfloat16\n",
        "channels_last: true\n",
        "datasets: {size: 96x48}\n",
        "datasets: {layout: regdb}\n",
    ]
    keys = [key(base + other)[0] for other in others]
    assert len({*keys, *key(base)}) == len(others) + 1


def test_a_task_survives_the_way_through_a_file(tmp_path):
    for task in tasks(tmp_path, FULL)[::17]:
        assert task_from(json.loads(json.dumps(dataclasses.asdict(task)))) == task
    with pytest.raises(ValueError, match="group"):
        task_from({"attack": "pgd"})


def test_all_is_everything_that_is_known(tmp_path):
    found = tasks(tmp_path, "victims: all\nattacks: all\n")
    single = [entry.name for entry in attacks.entries() if entry.traits != "battery"]
    assert len(found) == len(victims.names()) * (len(single) + 1)
    assert "fsam_uap[level=feature]" in {task.attack_text for task in found}
    in_turn = tasks(tmp_path, "victims: agw\nattacks: noise\nsurrogates: all\n")
    assert [task.group.surrogate for task in in_turn] == victims.names()


def test_a_setting_of_an_entry_goes_before_that_of_the_suite(tmp_path):
    text = "victims: agw\nsettings: {steps: 3}\n"
    text += "attacks: [pgd, 'pgd[steps=5]', {name: pgd, settings: {steps: 7}}]\n"
    assert [dict(task.settings)["steps"] for task in tasks(tmp_path, text)] == ["3", "5", "7"]


def test_classes_in_files_are_looked_for_beside_the_suite(tmp_path):
    (task,) = tasks(tmp_path, "victims: './v.py:Mine[a=1]'\nattacks: ./a.py:Mine[b=2]\n")
    here = tmp_path.resolve()
    assert task.group.victim.victim == f"{here}/v.py:Mine[a=1]"
    assert (task.attack, dict(task.settings)) == (f"{here}/a.py:Mine", {"b": "2"})


def test_what_is_not_said_is_left_to_the_preset(tmp_path):
    text = "victims: agw\nattacks: ['metric_ifgsm[preset=original]', pgd]\n"
    cards = [threat_of(task).card() for task in tasks(tmp_path, text)]
    assert [(card["eps"], card["side"]) for card in cards] == [("5/255", "gallery"), ("8/255", "query")]
    (said, _) = tasks(tmp_path, text + "eps: 2/255\nside: both\n")
    assert (threat_of(said).card()["eps"], threat_of(said).side) == ("2/255", Side.BOTH)


def test_a_group_says_all_that_is_opened(tmp_path):
    group = tasks(tmp_path, FULL + "precision: bfloat16\nchannels_last: true\ndevice: cpu\n")[-1].group
    assert (group.data.dataset, group.data.root) == ("sysu", "/data/sysu")
    assert group.data.protocol == "sysu/all/single/ir2vis/seed10"
    assert group.victim.weights == str(tmp_path.resolve() / "mmn.t")
    assert group.surrogates == (ModelSpec("agw"), ModelSpec("deen"))
    assert (group.precision, group.channels_last, group.device) == ("bfloat16", True, "cpu")
    assert group.ignore_gates is False


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ("- {victim: deen}", 2 / 3),
        ("- {victim: 'deen[embedding=weighted]', attack: uap}", 8 / 9),
        ("- {attack: [noise, 'pgd[steps=20]']}", 1 / 3),
        ("- {dataset: real, protocol: regdb/vis2ir/trial-1}", 2 / 3),
        ("- {eps: 16/510, seed: [0, 2]}", 2 / 3),
        ("- {surrogate: agw+deen}\n  - {surrogate: none, side: gallery}", 1 / 2),
    ],
)
def test_exclusions_take_away_what_they_name(tmp_path, rules, left):
    assert len(tasks(tmp_path, f"{FULL}exclude:\n  {rules}\n")) == round(left * len(tasks(tmp_path, FULL)))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("{victim: agww}", ":21: exclude.1: this rule excludes nothing"),
        ("{attack: 'pgd[steps=10]'}", "excludes nothing"),
        ("{side: both}", "excludes nothing"),
        ("{attack: [noise, pgd, uap]}", ":19: exclude: the rules exclude every run"),
    ],
)
def test_a_rule_without_effect_or_with_too_much_is_refused(tmp_path, rule, message):
    with pytest.raises(BadInput) as refused:
        tasks(tmp_path, f"{FULL}exclude:\n  - {{seed: 2}}\n  - {rule}\n")
    assert message in str(refused.value)


@given(st.integers(0, 200), st.integers(1, 40))
def test_shards_are_disjoint_cover_everything_and_are_as_large(count, parts):
    pieces = [shard(list(range(count)), index, parts) for index in range(1, parts + 1)]
    assert [one for piece in pieces for one in piece] == list(range(count))
    sizes = [len(piece) for piece in pieces]
    assert max(sizes) - min(sizes) <= 1


def test_shards_are_read_as_they_are_written():
    assert parse_shard("2/8") == (2, 8) and parse_shard(" 1/1 ") == (1, 1)
    for text in ("0/8", "9/8", "1/0", "2", "a/b", "-1/3", "1/2/3", ""):
        with pytest.raises(BadInput, match="shard"):
            parse_shard(text)
