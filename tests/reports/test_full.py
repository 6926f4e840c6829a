"""Full tables: what a row says, what is bold, what p means, what never shares a column."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import permutation_test
from test_tables import record, trials

from vbench.core.errors import BadInput
from vbench.records.record import CompressedArray, ControlRecord
from vbench.records.store import RunStore, to_archive
from vbench.reports.narrow import narrow
from vbench.reports.rows import p_values, per_query
from vbench.reports.select import pick_metrics, select
from vbench.reports.table import latex_escape, write
from vbench.reports.tables import full, report_of, split


def attacked(name, after, low=None, high=None, **more):
    """A record with a drop interval, in points."""
    interval = {} if low is None else {"r1": (low / 100, high / 100)}
    return record(name, after, drop_interval=interval, **more)


def ranked(name, hits, seed=0):
    """A record of trials x queries: 1 ranks first, 0 second, -1 has no match."""
    rank = np.select([hits == 1, hits == 0], [1, 2], 0).astype("<i4")
    return record(name, seed=seed, per_query={"adversarial_rank": CompressedArray.pack(rank)})


def cells(text, row, style="markdown"):
    """Header -> cell of the first row that names an attack."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    header = [cell.strip() for cell in lines[0]]
    found = next(line for line in lines if line[1].strip() == row)
    return dict(zip(header, (cell.strip() for cell in found), strict=True))


def test_a_row_says_before_after_spread_drop_interval_and_knowledge():
    text = report_of([attacked("pgd", 0.2, 55, 64, knowledge=["gallery"])], metrics=("r1", "map"))
    row = cells(text, "pgd")
    # Trials lie one point around the mean; ± is said of seeds alone.
    assert row["Rank-1"] == "80.0 → 20.0"
    assert row["Rank-1 drop"] == "60.0 [55.0, 64.0] (75 %)"
    assert row["mAP drop"] == "30.0 (75 %)"
    assert row["knowledge"] == "per-image, gallery"
    assert row["gradient evaluations"] == "10 an image"
    title = text.splitlines()[0]
    for said in ("SYNTHETIC", "sysu/all/single/ir2vis/seed10", "2 trials", "L_inf 8/255, query side, 8-bit"):
        assert said in title


def test_seeds_have_their_own_spread_and_the_mean_of_their_bounds():
    both = [attacked("uap", 0.3, 40, 60, seed=0), attacked("uap", 0.5, 20, 40, seed=1)]
    row = cells(report_of(both, metrics=("r1",)), "uap")
    assert row["Rank-1"] == "80.0 → 40.0 ± 14.1"
    assert row["Rank-1 drop"] == "40.0 [30.0, 50.0] (50 %)"


def bold(text):
    return {row for row in ("a", "b", "c", "d") if "**" in cells(text, row)["Rank-1"]}


def test_bold_is_the_strongest_and_what_its_drop_ties_with():
    found = [
        attacked("a", 0.20, 55, 65),
        attacked("b", 0.22, 53, 61),  # its interval holds 60
        attacked("c", 0.25, 50, 58),  # overlaps a's interval, but does not hold 60
        attacked("d", 0.60, 15, 25),
    ]
    assert bold(report_of(found, metrics=("r1",))) == {"a", "b"}


def test_bold_compares_like_with_like():
    found = [
        attacked("a", 0.1, 65, 75, universal=False),
        attacked("b", 0.3, 45, 55, universal=True),
        attacked("c", 0.5, 25, 35, universal=True),
        attacked("d", 0.0, 75, 85, universal=True, knowledge=["gallery"]),
    ]
    # a and d know something nobody else does: alone they are not the best of anything.
    assert bold(report_of(found, metrics=("r1",))) == {"b"}


def test_controls_are_never_bold():
    wrecked = [ControlRecord(name="random modules", trials=trials(0.0))]
    found = [attacked("a", 0.2, level="feature", controls=wrecked), attacked("b", 0.4, level="feature")]
    text = report_of(found, metrics=("r1",))
    assert "**" in cells(text, "a")["Rank-1"]
    assert "**" not in cells(text, "· random modules")["Rank-1"]


@pytest.mark.parametrize("group", [None, "victim", "attack", "dataset"])
def test_budgets_and_protocols_never_share_a_column_unsaid(group):
    other = record("pgd", eps="4/255", protocol="sysu/indoor/single/ir2vis/seed10")
    text = report_of([record("pgd"), other], group=group)
    count = text.count("| victim")
    if group is None:
        assert count == 2
    else:
        assert count == 1
        header = next(line for line in text.splitlines() if line.startswith("| victim"))
        assert "protocol" in header and "budget" in header
        assert "| L_inf 4/255, query side, 8-bit" in text and "| L_inf 8/255, query side, 8-bit" in text


@pytest.mark.parametrize("group", [None, "victim", "attack", "dataset"])
def test_real_and_synthetic_data_never_share_a_table(group):
    text = report_of([record("pgd"), record("pgd", synthetic=False)], group=group)
    titles = [line for line in text.splitlines() if line.startswith("**")]
    assert sorted("SYNTHETIC" in title for title in titles) == [False, True]


def test_two_sets_of_images_under_one_protocol_are_told_apart():
    twin = record("pgd")
    twin.config["dataset"]["fingerprint"] = "0123456789abcdef"
    text = report_of([record("pgd"), twin])
    assert "sysu 01234567" in text and "sysu f;" in text
    assert "| sysu 01234567" in report_of([record("pgd"), twin], group="victim")


def test_what_a_query_adds_sums_to_the_metric():
    generator = np.random.default_rng(0)
    hits = generator.integers(-1, 2, (3, 50))
    expected = np.mean([(row == 1).sum() / (row >= 0).sum() for row in hits])
    assert per_query(ranked("a", hits), "r1").sum() == pytest.approx(expected)
    precision = generator.random((3, 50))
    precision[:, :5] = np.nan
    made = record(per_query={"adversarial_ap": CompressedArray.pack(precision)})
    assert per_query(made, "map").sum() == pytest.approx(np.nanmean(precision, axis=1).mean(), abs=1e-6)


def rows_of(records):
    return split(records)[0][1]


def test_p_is_scipys_on_the_same_queries():
    generator = np.random.default_rng(3)
    first, second = (generator.random((4, 60)) < chance for chance in (0.45, 0.55))
    one, other = ranked("a", first.astype(int)), ranked("b", second.astype(int))
    found = p_values(rows_of([one, other]), "b", "r1")
    expected = permutation_test(
        (first.mean(0), second.mean(0)),
        lambda a, b, axis: (a - b).mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    ).pvalue
    assert 0.001 < expected < 0.5
    assert found[0].p == pytest.approx(expected, abs=0.02)
    assert found[0].difference == pytest.approx(first.mean() - second.mean())
    assert found[1] is None


def test_p_is_corrected_for_the_rows_of_the_table():
    # Against the base, a gains 6 queries of 6 that differ and b 5 of 5: McNemar's 2/64 and 2/32.
    base = np.zeros((1, 30), int)
    a, b = base.copy(), base.copy()
    a[:, :6] = 1
    b[:, :5] = 1
    found = p_values(rows_of([ranked("a", a), ranked("b", b), ranked("base", base)]), "base", "r1")
    assert [one and one.p for one in found] == [pytest.approx(2 * 2 / 64), pytest.approx(2 / 32), None]


def test_only_shared_seeds_are_paired_and_archives_say_what_they_lack(tmp_path):
    hits = np.zeros((1, 30), int)
    better = hits.copy()
    better[:, :12] = 1
    other_seed = [ranked("a", better, seed=0), ranked("b", hits, seed=1)]
    text = report_of(other_seed, versus="b")
    assert cells(text, "a")["p vs b (Rank-1)"] == "" and "1 of 1 rows have no p" in text
    same_seed = [ranked("a", better), ranked("b", hits)]
    assert cells(report_of(same_seed, versus="b"), "a")["p vs b (Rank-1)"] == "<0.001 weaker"
    assert cells(report_of(same_seed, versus="a"), "b")["p vs a (Rank-1)"] == "<0.001 stronger"
    (tmp_path / "archive.jsonl").write_text(to_archive(same_seed))
    archive = RunStore(tmp_path / "archive.jsonl").read_all().records
    assert "archives keep none" in report_of(archive, versus="b")


def test_versus_takes_one_attack():
    found = [record("uap[batch=16]"), record("uap[batch=32]"), record("pgd")]
    for one in found[:2]:
        one.config["attack"]["name"] = "uap"
    with pytest.raises(BadInput, match=r"could be uap\[batch=16\] or uap\[batch=32\]"):
        report_of(found, versus="uap")
    with pytest.raises(BadInput, match="did you mean 'pgd'"):
        report_of(found, versus="pdg")
    with pytest.raises(BadInput, match="name one in --metrics"):
        report_of(found, versus="pgd", metrics=("minp", "asr"))


def test_flat_rows_have_drops_in_shares():
    found = [attacked("pgd", 0.2, 55, 64), record("uap", 0.4)]
    first, second = csv.DictReader(io.StringIO(report_of(found, "csv", metrics=("r1",))))
    assert float(first["r1_drop"]) == pytest.approx(0.6)
    assert float(first["r1_drop_relative"]) == pytest.approx(0.75)
    assert float(first["r1_drop_high"]) == pytest.approx(0.64) and second["r1_drop_high"] == ""
    assert "map_after" not in first
    assert json.loads(report_of(found, "json"))[1]["r1_drop_low"] is None


def test_unknown_names_suggest_one():
    for wrong, near in (({"group": "victm"}, "victim"), ({"style": "markdwon"}, "markdown")):
        with pytest.raises(BadInput, match=f"did you mean '{near}'"):
            report_of([record()], **wrong)
    with pytest.raises(BadInput, match="did you mean 'map'"):
        pick_metrics("r1,mpa")
    assert pick_metrics("R1, map,r1") == ("r1", "map")


# ------------------------------------------------------------------ where


@pytest.mark.parametrize("eps", ["8/255", "0.03137254901960784", "0.031373"])
def test_eps_is_compared_as_a_number(eps):
    found = select([record(), record(eps="4/255")], f"eps={eps}")
    assert [one.config["threat"]["eps"] for one in found] == ["8/255"]


def test_conditions_add_up_and_a_repeated_key_is_either():
    every = [record("pgd", seed=0), record("pgd", seed=1), record("uap", seed=0)]
    assert len(select(every, "attack=pgd seed=1")) == 1
    assert len(select(every, "seed=0 seed=1 attack=pgd")) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("victm=agw", "did you mean 'victim'"),
        ("victim=pmt", "there are victim: agw"),
        ("eps=2/255", "eps: 4/255, 8/255"),
        ("eps=much", "not a number"),
        ("agw", "key=value"),
        ("victim=", "key=value"),
        (" ", "no condition"),
    ],
)
def test_what_nothing_meets_is_one_clear_line(text, said):
    with pytest.raises(BadInput, match=said) as refused:
        select([record(), record(eps="4/255")], text)
    assert refused.value.exit_code == 2 and "\n" not in str(refused.value)


# ------------------------------------------------------------------ what hosts and TeX read


@pytest.mark.parametrize("make", [full, narrow])
def test_latex_leaves_no_special_character_bare(make):
    text = write(make([record(r"50%_a&b#$~^{x}\y[z]<|>")]), "latex")
    body = text.split("\n", 1)[1]
    row = next(line for line in body.splitlines() if "50" in line)
    assert (
        r"50\%\_a\&b\#\$\textasciitilde{}\textasciicircum{}\{x\}\textbackslash{}y" in row
        and "{[}z{]}" in latex_escape("[z]")
    )
    bare = re.sub(r"\\[a-zA-Z]+|\\[%_&#${}\\]", "", body.replace(r"$L_\infty$", "").replace(r"!}{%", ""))
    assert not re.search(r"[%_#~^]", bare), "special characters that no backslash tames"
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"[^\x00-\x7f]", text), "old TeX reads ASCII"


def test_latex_is_a_whole_environment_with_as_many_cells_as_columns():
    both = report_of([attacked("a", 0.2, 50, 70), record("b"), record("c", eps="4/255")], "latex")
    assert both.count(r"\begin{table}") == both.count(r"\end{table}") == both.count(r"\caption{") == 2
    labels = re.findall(r"\\label\{(tab:[a-z0-9-]+)\}", both)
    assert len(set(labels)) == 2
    for table in both.split(r"\end{table}")[:2]:
        columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", table)[1]
        rows = [line for line in table.splitlines() if line.endswith(r"\\")]
        assert len(rows) >= 2
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1
    assert r"80.0 $\to$ \textbf{20.0}" in both
    assert latex_escape("[a] -> b") == r"{[}a{]} $\to$ b"


def test_markdown_keeps_a_name_in_its_cell():
    text = report_of([record("a|b*c*<i>")])
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(re.findall(r"\|", lines[1]))}
    assert r"a\|b\*c\*\<i>" in lines[2]


def test_reports_load_neither_torch_nor_pandas(tmp_path):
    RunStore(tmp_path).write(ranked("pgd", np.ones((1, 9), int)))
    RunStore(tmp_path).write(ranked("uap", np.zeros((1, 9), int)))
    code = (
        "import sys; from vbench.cli import app; app(standalone_mode=False)\n"
        "assert not {'torch', 'pandas'} & set(sys.modules), 'slow imports'"
    )
    arguments = ["report", "--runs", tmp_path, "--versus", "uap", "--where", "victim=agw"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "p vs uap (Rank-1)" in done.stdout
