"""Merging and comparing: nothing is picked because it looks better, nothing unlike is put side by side."""

from __future__ import annotations

import copy
import json

import pytest
from handed_in import FEATURE, UAP, changed, relabelled

from vbench.core.threat import ThreatModel
from vbench.records.record import Record
from vbench.reports.leaderboard.collect import Result, disputed, find_doubts, merge
from vbench.reports.leaderboard.tables import Links, access, boards, by_attack, by_victim, each
from vbench.reports.verify import Mark


def found(record, source, *marks):
    return Result(Record.model_validate(record), (source,), marks)


def better(record, points=3.0, which="adversarial"):
    """The same configuration with another outcome."""

    def shift(forged):
        for trial in forged[which]:
            trial["r1"] += points / 100

    return changed(record, shift)


def entries_of(*records):
    return merge(found(record, f"folder/{index}.json") for index, record in enumerate(records))


def cell(table, row, column):
    titles = [one.title for one in table.columns]
    group = next(group for group in table.groups if group.name == row)
    return group.cells[titles.index(column)]


def test_equal_outcomes_are_one_result_with_every_source(honest):
    elsewhere = copy.deepcopy(honest)
    elsewhere.update(created="2020-01-01T00:00:00+00:00", environment={"device": "cuda"})
    elsewhere["cost"]["attack_seconds"] = 1e-6
    (entry,) = merge(
        [found(honest, "a/1.json"), found(elsewhere, "b/1.json", Mark.TOTALS_ONLY), found(honest, "c/1.json")]
    )
    (result,) = entry.results
    assert result.sources == ("b/1.json", "a/1.json", "c/1.json")
    assert result.marks == (), "the copy that could be checked stands for all"
    assert result.record.environment != {"device": "cuda"}
    assert entry.agrees and disputed([entry]) == []


@pytest.mark.parametrize("order", [1, -1])
def test_different_outcomes_stay_and_both_sources_are_named(honest, order):
    pair = [found(honest, "alice/1.json"), found(better(honest, -5), "bob/1.json")][::order]
    (entry,) = merge(pair)
    assert len(entry.results) == 2 and not entry.agrees
    (line,) = disputed([entry])
    assert "alice/1.json" in line and "bob/1.json" in line and honest["id"] in line
    (board,) = boards([entry])
    (standing,) = board.standings
    mine = 100 * Record.model_validate(honest).mean("adversarial", "r1")
    # Whoever claims the stronger attack does not get it: the weaker outcome sorts, the range is shown.
    assert standing.row.after["r1"] == pytest.approx(mine)
    shown = cell(each(board, Links()), standing.attack, "agw")
    assert shown.text == f"{mine - 5:.1f} to {mine:.1f}"
    assert [badge.text for badge in shown.badges] == ["results differ"]


def test_the_rounding_of_another_machine_is_no_dispute(honest):
    (entry,) = entries_of(honest, better(honest, 0.2))
    assert len(entry.results) == 2 and entry.agrees
    mine = 100 * Record.model_validate(honest).mean("adversarial", "r1")
    assert 100 * entry.mean("adversarial", "r1") == pytest.approx(mine + 0.1)


def test_a_disputed_attack_is_never_bold_and_has_the_place_of_its_weaker_outcome(honest):
    honest = copy.deepcopy(honest)
    rival = relabelled(better(honest, 2), seed=3)
    rival["label"] = "rival"
    weaker, stronger = better(honest, 4), better(honest, -8)
    for record in (honest, rival, weaker, stronger):
        record["drop_interval"] = {}
    (board,) = boards(entries_of(weaker, stronger, rival))
    matrix = each(board, Links())
    assert cell(matrix, "rival", "agw").strong is False, "a rival alone beats nobody"
    third = relabelled(better(honest, 3), seed=4)
    third["label"], third["drop_interval"] = "third", {}
    (board,) = boards(entries_of(weaker, stronger, rival, third))
    matrix, table = each(board, Links()), by_attack(board, Links())
    assert cell(matrix, "rival", "agw").strong
    assert not cell(matrix, honest["label"], "agw").strong
    assert cell(table, "rival", "Place").text == "1 of 3"
    assert cell(table, honest["label"], "Place").text == "3 of 3"


def test_seeds_are_averaged_with_their_spread(honest):
    (board,) = boards(entries_of(better(honest, -4), relabelled(better(honest, 4), seed=1)))
    (standing,) = board.standings
    mine = 100 * Record.model_validate(honest).mean("adversarial", "r1")
    assert standing.row.after["r1"] == pytest.approx(mine)
    assert standing.row.spread["r1"] == pytest.approx(8 / 2**0.5)
    assert cell(each(board, Links()), standing.attack, "agw").text == f"{mine:.1f} ± 5.7"


# ------------------------------------------------------------------ contradictions


def test_clean_figures_that_differ_are_in_doubt_on_both_sides(honest):
    false = relabelled(better(honest, 6, "clean"), seed=8)
    entries = entries_of(honest, false, relabelled(honest, seed=9))
    find_doubts(entries)
    doubts = [result.doubts for entry in entries for result in entry.results]
    assert all(len(one) == 1 for one in doubts), "nobody can take another's result off by a false one"
    line = doubts[0][0]
    assert "folder/0.json, folder/2.json" in line and "folder/1.json" in line and "differ" in line
    (board,) = boards(entries)
    shown = cell(by_victim(board, Links()), "agw", "Clean")
    assert " to " in shown.text


def test_other_weights_or_images_are_no_contradiction(honest):
    other_weights = relabelled(
        better(honest, 6, "clean"), victim={**honest["config"]["victim"], "weights": "0" * 16}
    )
    other_images = relabelled(
        better(honest, 9, "clean"), dataset={**honest["config"]["dataset"], "fingerprint": "1" * 16}
    )
    entries = entries_of(honest, other_weights, other_images)
    find_doubts(entries)
    assert [result.doubts for entry in entries for result in entry.results] == [[], [], []]
    assert len(boards(entries)) == 2, "other images are another board"
    first = next(board for board in boards(entries) if len(board.victims()) == 2)
    assert [column.title for column in each(first, Links()).columns][2:] == [
        f"agw[weights {weights[:8]}]" for weights in sorted([honest["config"]["victim"]["weights"], "0" * 16])
    ]


def test_images_are_drawn_or_real_not_both(honest):
    real = relabelled(honest, dataset={**honest["config"]["dataset"], "synthetic": False})
    real["synthetic"] = False
    entries = entries_of(honest, real)
    find_doubts(entries)
    assert all(
        "called synthetic in folder/0.json, and real in folder/1.json" in result.doubts[-1]
        for entry in entries
        for result in entry.results
    )
    assert len(boards(entries)) == 2


# ------------------------------------------------------------------ what may be compared


def test_nothing_unlike_shares_a_board(workshop):
    runs = [
        {"attack": "noise"},
        {"attack": "noise", "threat": ThreatModel("4/255")},
        {"attack": "noise", "threat": ThreatModel("8/255", side="gallery")},
        {"attack": "noise", "threat": ThreatModel("8/255", quantize=False)},
        {"attack": "noise", "threat": ThreatModel("0.5", "l2")},
        {"attack": "noise", "protocol": "sysu/indoor/single/ir2vis/seed10"},
        {"attack": "noise", "layout": "llcm"},
        {"attack": FEATURE},
    ]
    made = boards(entries_of(*(workshop.run(**run) for run in runs)))
    assert len(made) == len(runs)
    assert len({board.key for board in made}) == len(runs)
    assert [board.level for board in made].count("feature") == 1


def test_knowledge_says_what_competes(workshop):
    transferred = workshop.transferred()
    universal = workshop.run(UAP)
    replayed = relabelled(universal, perturbation="ab" * 32)
    expected = {
        "blind, per-image": workshop.run("noise"),
        "black box, per-image": workshop.run("square[queries=3]"),
        "black box, per-image, gallery": workshop.run("simba[queries=3,feedback=ranking]"),
        "per-image": workshop.run("metric_fgsm"),
        "per-image, gallery": workshop.run("metric_fgsm[guides=gallery]"),
        "per-image, from agw": transferred,
        "universal, training": universal,
        "universal, training, replayed": replayed,
    }
    assert {name: access(Record.model_validate(record)) for name, record in expected.items()} == {
        name: name for name in expected
    }
    (board,) = boards(entries_of(*expected.values()))
    assert [name.split(",")[0] for name in board.knowledge()] == sorted(
        (name.split(",")[0] for name in expected),
        key=["blind", "black box", "universal", "per-image"].index,
    )
    assert not any(cell.strong for group in each(board, Links()).groups for cell in group.cells)
    attacks = {standing.attack for standing in board.standings}
    assert {"metric_fgsm from agw", f"{universal['label']} replayed abababab"} <= attacks


def test_places_are_given_on_the_same_victims_alone(honest):
    def on(victim, attack, points):
        weights = {"one": "1" * 16, "two": "2" * 16}[victim]
        record = relabelled(better(honest, points), victim={**honest["config"]["victim"], "weights": weights})
        return {**record, "label": attack}

    found_here = [
        on("one", "a", 0),
        on("two", "a", 0),
        on("one", "b", 3),
        on("two", "b", 3),
        on("one", "c", -9),
    ]
    for index, record in enumerate(found_here):
        record["id"] = f"{index:012d}"
    (board,) = boards(entries_of(*found_here))
    table = by_attack(board, Links())
    assert {row: cell(table, row, "Place").text for row in "abc"} == {"a": "1 of 2", "b": "2 of 2", "c": ""}
    assert {row: cell(table, row, "Victims").text for row in "abc"} == {
        "a": "2 of 2",
        "b": "2 of 2",
        "c": "1 of 2",
    }
    assert [group.name for group in table.groups] == ["a", "b", "c"], (
        "the largest drop is not first: other victims"
    )
    assert "compare by place" in table.notes[0]


def test_merging_does_not_depend_on_the_order_of_folders(honest):
    records = [honest, better(honest, 3), relabelled(honest, seed=7)]
    pairs = [found(record, f"{index}.json") for index, record in enumerate(records)]

    def outcome(entries):
        return [[(r.sources, r.record.id) for r in entry.results] for entry in entries]

    assert outcome(merge(pairs)) == outcome(merge(pairs[::-1]))
    assert json.dumps(honest)


def test_a_stranger_with_a_known_name_is_told_apart_on_every_table(honest):
    twin = relabelled(honest, attack={"name": "metric_ifgsm ", "settings": {}})
    twin["label"] = "metric_ifgsm "
    entries = merge([found(honest, "a.json"), found(twin, "b.json", Mark.FOREIGN_ATTACK)])
    (board,) = boards(entries)
    for table in (by_attack(board, Links()), each(board, Links())):
        badges = {group.name: [one.text for one in group.cells[0].badges] for group in table.groups}
        assert badges["metric_ifgsm "] == ["contributor's attack"] and badges[honest["label"]] == []
