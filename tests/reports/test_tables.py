"""Tables from records: what is averaged, what is kept apart, what a row says."""

from __future__ import annotations

import io
import json

import pandas as pd
import pytest

from vbench.core.errors import BadInput
from vbench.records.record import (
    CompressedArray,
    ControlRecord,
    Record,
    TrialMetrics,
    config_id,
    in_file_names,
)
from vbench.records.store import RunStore
from vbench.reports.compare import comparison
from vbench.reports.page import page_of
from vbench.reports.tables import report, report_of


def trials(r1: float, count: int = 2) -> list[TrialMetrics]:
    """Trials whose Rank-1 varies around ``r1`` by two points."""
    shifts = [0.02 * (k - (count - 1) / 2) for k in range(count)]
    values = {"r5": 0.8, "r10": 0.9, "r20": 1.0, "map": r1 / 2, "minp": r1 / 4}
    counts = {"queries": 10, "skipped": 0, "tied_share": 0.0}
    # Unchecked, since what varies around 0 is below it.
    made = TrialMetrics.model_construct
    return [made(trial=str(k), r1=r1 + s, **values, **counts) for k, s in enumerate(shifts)]


def record(
    attack="pgd", after=0.4, seed=0, eps="8/255", protocol="sysu/all/single/ir2vis/seed10", **more
) -> Record:
    data = {"name": "sysu", "protocol": protocol, "split": "sysu", "fingerprint": "f"}
    return Record(
        id=in_file_names(f"{attack}{seed}{eps}{protocol}"),
        label=attack,
        config={
            "victim": {"name": more.get("victim_label", "agw").split(" ")[0], "weights": "w"},
            "dataset": data,
            "attack": {"name": attack},
            "threat": {"norm": "linf", "eps": eps, "side": "query", "quantize": True},
            "seed": seed,
        },
        protocol=protocol,
        synthetic=more.pop("synthetic", True),
        clean=trials(0.8),
        adversarial=trials(after),
        cost={"evaluations_per_image": 10},
        **more,
    )


def test_seeds_are_averaged_with_their_spread():
    text = report([record(after=0.3, seed=0), record(after=0.5, seed=1)], "markdown")
    clean, attacked = [line.split("|") for line in text.splitlines() if line.startswith("|")][2:]
    assert [cell.strip() for cell in clean[1:4]] == ["agw", "(clean)", "80.0"]
    assert [cell.strip() for cell in attacked[1:4]] == ["", "pgd", "40.0 ± 14.1"]


@pytest.mark.parametrize(
    ("part", "one", "other", "told"),
    [
        ("attack", {"name": "pgd", "version": 1}, {"name": "pgd", "version": 2}, "version 2"),
        ("attack", {"name": "pgd", "settings": {"steps": 3}}, {"name": "pgd", "settings": {}}, "pgd, "),
        ("perturbation", None, "d" * 64, "pgd, "),
        ("surrogate", {"name": "caj", "weights": "a"}, {"name": "caj", "weights": "b"}, "pgd, "),
    ],
)
def test_what_differs_in_more_than_its_seed_is_not_averaged(part, one, other, told):
    made = [
        found.model_copy(update={"config": {**found.config, part: value}})
        for found, value in ((record(after=0.3), one), (record(after=0.5, seed=1), other))
    ]
    for text in (report(made, "markdown"), comparison(made)):
        assert "30.0" in text and "50.0" in text and "±" not in text
        assert told in text


@pytest.mark.parametrize(
    "other",
    [
        {"eps": "4/255"},
        {"protocol": "sysu/indoor/single/ir2vis/seed10"},
    ],
)
def test_other_budgets_and_protocols_never_share_a_table(other):
    text = report([record(), record(**other)], "plain")
    assert text.count("victim  ") == 2
    assert next(iter(other.values())) in text


def test_synthetic_data_is_marked_and_real_data_is_not():
    assert report([record()], "plain").startswith("SYNTHETIC ")
    assert "SYNTHETIC" not in report([record(synthetic=False)], "plain")


def test_controls_stand_under_their_attack_and_verdicts_are_counted():
    controls = [ControlRecord(name="modules, d = 0", trials=trials(0.7))]
    feature = [
        record("fsam_uap", seed=seed, level="feature", stealthy=stealthy, controls=controls)
        for seed, stealthy in ((0, True), (1, False))
    ]
    lines = report(feature, "plain").splitlines()
    row = next(index for index, line in enumerate(lines) if "fsam_uap" in line)
    assert "stealthy with 1 of 2 seeds" in report(feature, "markdown")
    below = next(line for line in lines[row:] if "modules, d = 0" in line)
    assert "70.0 ± 0.0" in below


def test_a_random_order_has_a_row_in_every_table_where_asked():
    chance = {"r1": 0.0123, "r5": 0.05, "r10": 0.1, "r20": 0.2, "map": 0.03, "minp": 0.01}
    several = [record(chance=chance), record(eps="4/255", chance=chance), record("noise", chance=chance)]
    for make in (report, report_of, comparison):
        given = {"style": "markdown", "chance": True}
        found = make(several, **given)
        assert found.count("random order") == 2 and found.count("1.2") >= 2, make
        assert "random order" not in make(several, style="markdown")
        assert "random order" not in make([record()], **given), "older records do not hold it"
    for make in (report, report_of):
        frame = pd.read_csv(io.StringIO(make(several, style="csv", chance=True)))
        assert frame["r1_chance"].tolist() == [0.0123] * 3
    page = page_of(several, figures=False, chance=True)
    assert page.count("random order") == 2
    older_first = [record("noise", chance={}), record(chance=chance)]
    assert "random order" in report_of(older_first, chance=True), "the oldest record does not hold it"
    broken = record(chance={"r1": 0.5})
    assert "random order" not in report_of([broken], chance=True)


def test_csv_and_json_are_unrounded_and_have_a_row_a_record():
    records = [record(after=1 / 3, seed=seed) for seed in range(2)]
    frame = pd.read_csv(io.StringIO(report(records, "csv")))
    assert len(frame) == 2
    assert frame["r1_after"].tolist() == pytest.approx([1 / 3] * 2, abs=1e-12)
    assert json.loads(report(records, "json"))[1]["seed"] == 1


def test_latex_escapes_what_it_must():
    text = report([record("metric_fgsm[guides=training]")], "latex")
    assert r"metric\_fgsm" in text and r"\toprule" in text and r"\bottomrule" in text
    assert r"& 40.0 &" in text and r"\begin{table}" in text and r"\label{tab:vbench-" in text


def test_unknown_format_suggests_one():
    with pytest.raises(BadInput, match="did you mean 'markdown'"):
        report([record()], "markdwon")


def test_a_store_gives_back_what_it_was_given(tmp_path):
    store = RunStore(tmp_path)
    given = record(per_query={"clean_rank": CompressedArray.pack([[1, 2], [3, 0]])})
    given.id = config_id(given.config)
    store.write(given)
    assert store.find(given.config) == store.get(given.id) == given
    assert store.find(given.config).per_query["clean_rank"].unpack().tolist() == [[1, 2], [3, 0]]
    assert store.find({}) is None and store.get("nothing") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": 3}', "\x00\x01"])
def test_broken_files_are_listed_not_fatal(tmp_path, text):
    store = RunStore(tmp_path)
    store.write(record())
    (tmp_path / "broken.json").write_text(text)
    contents = store.read_all()
    assert len(contents.records) == 1
    assert [path.name for path, _ in contents.broken] == ["broken.json"]


@pytest.mark.parametrize("data", ["!!!", "", "eJwDAAAAAAE="])
def test_a_packed_array_that_lies_is_refused(data):
    with pytest.raises(BadInput, match="packed array"):
        CompressedArray(dtype="<i4", shape=(2, 2), data=data).unpack()


def test_a_loss_that_had_no_effect_in_some_seeds_is_said_with_how_many():
    idle = "attack inactive (no pixel of any image changed within L_inf 8/255)"
    found = [record(seed=seed, warnings=[idle] if seed else []) for seed in range(3)]
    assert f"pgd, {idle} with 2 of 3 seeds" in report(found, "markdown")
    assert "seeds" not in report(found[1:2], "markdown") and f"pgd, {idle}" in report(found[1:2], "markdown")
