"""``vbench paper`` as a user meets it: tables, resuming, failing rows, Ctrl-C, published figures."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import quick as quickly

from vbench.attacks.fsam_uap.attack import FSAMUAP
from vbench.records.store import RunStore
from vbench.run.session import Recorder, Session, stored_perturbations
from vbench.sweep.paper import SUITES

#: A fit of a few images; three updates of the modules.
SHORT = ("--set", "evaluations=120", "--set", "batch=12", "--set", "module_steps=2")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The same people, in a folder that nothing marks as drawn."""
    return quickly.make(tmp_path_factory.mktemp("real"), real=True)


@pytest.fixture
def paper(vbench, quick, monkeypatch):
    """Call ``vbench paper`` on a quick set; returns what was printed."""
    monkeypatch.setenv("VBENCH_CACHE", str(quick.cache))

    def call(suite, runs, *more, data=quick, victims=("agw",), short=SHORT, expect=0):
        weights = [part for name in victims for part in ("--weights", f"{name}={data.weights(name)}")]
        where = ("--dataset", data.layout, "--root", data.root, "--runs", runs, "--ignore-gates")
        return vbench("paper", suite, *where, *weights, *short, *more, expect=expect)

    return call


def stamps(runs):
    return {path.name: path.stat().st_mtime_ns for path in runs.rglob("*.*") if path.is_file()}


def rows(done):
    """Flat rows by suite, table's level and name."""
    return {(one["suite"], one["table_level"], one["row"]): one for one in json.loads(done.stdout)}


def test_alone_it_lists_the_suites(vbench):
    out = vbench("paper").stdout
    assert [line.split()[0] for line in out.strip().splitlines()] == [*SUITES, "all"]
    assert "noise + FSAM + AQAL" in out


def test_help_names_every_preset(vbench):
    said = " ".join(vbench("paper", "--help").stdout.split())
    assert all(f"{name} " in said or f"{name}," in said for name in (*FSAMUAP.PRESETS, "default"))


def test_a_dry_run_of_a_sweep_and_of_the_paper_is_that_of_run(vbench, quick, tmp_path, forbid):
    forbid((Recorder, "record"), (Session, "bench"))
    attacks = {"noise": [], "pgd": [], "uap": ["evaluations=120", "batch=12"]}
    texts = [f"{name}[{','.join(given)}]" if given else name for name, given in attacks.items()]
    data = {"name": quick.layout, "root": str(quick.root)}
    victim = {"name": "agw", "weights": str(quick.weights())}
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        json.dumps({"victims": victim, "attacks": texts, "datasets": data, "ignore_gates": True})
    )
    named = [word for text in texts for word in ("--attack", text)]
    runs = ("--runs", tmp_path / "runs")
    where = ("--weights", quick.weights(), "--dataset", quick.layout, "--root", quick.root, "--ignore-gates")
    commands = [
        ("run", "--victim", "agw", *named, *where),
        ("sweep", suite),
        ("paper", "comparison", *where, "--set", "evaluations=120", "--set", "batch=12"),
    ]
    planned = [vbench(*command, *runs, "--dry-run", "--quiet").stdout for command in commands]
    costs = [
        {row[1]: row[2:5] for row in (line.split() for line in out.splitlines()) if row[:1] == ["agw"]}
        for out in planned
    ]
    assert costs[0] == costs[1] and set(costs[0]) == set(texts)
    assert {text: costs[2][text][:2] for text in texts} == {text: costs[0][text][:2] for text in texts}
    assert not (tmp_path / "runs").exists()


def test_listing_imports_no_torch():
    code = "import sys; from vbench.cli import app; app(['paper'], standalone_mode=False)"
    code += "; print({'torch', 'pandas', 'matplotlib'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("set()")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ablaton"], "did you mean 'ablation'"),
        (["ablation", "--level", "pixle"], "did you mean 'pixel'"),
        (["ablation", "--preset", "papre"], "did you mean 'paper'"),
        (["ablation", "--set", "evalutions=3"], "did you mean 'evaluations'"),
        (["model", "--set", "evaluations=3"], "use --set epochs=2"),
        (["model", "--level", "pixel"], "the suite model has a level of its own"),
        (["ablation", "--set", "sfm=false"], "rows of 'ablation' set it themselves"),
        (["ablation", "--eps", "8"], "did you mean 8/255"),
        (["ablation", "--format", "markdwon"], "did you mean 'markdown'"),
        (["ablation", "--victim", "agv"], "did you mean 'agw'"),
        (["systems", "--weights", "x.t"], "name its victim"),
        (["ablation", "--dataset", "sysu"], "needs --root"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(vbench, tmp_path, arguments, message):
    done = vbench("paper", *arguments, "--quiet", "--runs", tmp_path / "runs", expect=2)
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_suite_prints_its_rows_in_order_with_the_records_figures(paper, tmp_path):
    runs = tmp_path / "runs"
    done = paper("comparison", runs, "--format", "json")
    found = rows(done)
    names = [row for _, level, row in found if level == "pixel"]
    assert names == ["noise", "FGSM", "PGD", "UAP (DeepFool)", "UAP (Li)", "SMA", "DMR", "LTA", "FSAM-UAP"]
    assert [row for _, level, row in found if level == "feature"] == ["FSAM-UAP"]
    records = {record.id: record for record in RunStore(runs).read_all().records}
    assert len(records) == 10 == len(found)
    for line in found.values():
        assert line["r1_after"] == pytest.approx(records[line["id"]].mean("adversarial", "r1"))
        assert not any("published" in key for key in line)
    text = paper("comparison", runs).stdout
    assert text.count("SYNTHETIC") == 3 and "published" not in text
    order = [text.index(f"\n{name} ") for name in ("clean", *names)]
    assert order == sorted(order)


@pytest.mark.slow
def test_what_is_recorded_is_not_run_again_in_any_suite(paper, tmp_path):
    runs = tmp_path / "runs"
    first = paper("attention", runs)
    assert "paper attention: 6 runs; time unknown until a run is done" in first.stderr
    assert "[2/6]" in first.stderr and "left" in first.stderr.split("[2/6]")[1].splitlines()[0]
    before = stamps(runs)
    again = paper("attention", runs)
    assert "paper attention: 6 runs, 6 recorded already" in again.stderr
    assert stamps(runs) == before and again.stdout == first.stdout
    shared = paper("systems", runs, "--victim", "agw")
    assert "paper systems: 2 runs, 2 recorded already" in shared.stderr, "the whole method is one run"
    more = paper("attention", runs, "--seed", "0", "--seed", "1", "--level", "pixel")
    assert "6 runs, 3 recorded already; about" in more.stderr, "records tell how long the others take"


@pytest.mark.slow
def test_a_failing_row_is_named_and_the_others_go_on(paper, tmp_path):
    runs, options = tmp_path / "runs", ["--level", "pixel"]
    for setting in ("optimizer=own", "modules=clean", "mask_start=0.9999"):
        options += ["--set", setting]
    done = paper("ablation", runs, *options, expect=1)
    assert "noise + FSAM failed: fsam_uap: the attention of" in " ".join(done.stdout.split())
    assert "6 of 8 runs failed" in done.stderr
    assert len(RunStore(runs).read_all().records) == 2
    flat = rows(paper("ablation", runs, *options, "--format", "json", expect=1))
    for (_, _, name), line in flat.items():
        assert line["state"] == ("done" if name in ("noise", "noise + AQAL") else "failed"), name


def test_an_error_that_nobody_foresaw_costs_one_row(paper, tmp_path, monkeypatch):
    def explode(self, run):
        raise ZeroDivisionError("division by zero") if run.attack.name == "pgd" else KeyError("other")

    monkeypatch.setattr(Recorder, "record", explode)
    done = paper("comparison", tmp_path / "runs", "--level", "pixel", expect=1)
    assert re.search(
        r"PGD failed: .*test_paper\.py, line \d+: ZeroDivisionError: division by zero", done.stdout
    )
    assert "9 of 9 runs failed" in done.stderr


def test_ctrl_c_loses_only_the_run_in_progress(paper, tmp_path, monkeypatch):
    runs, record = tmp_path / "runs", Recorder.record

    def interrupted(self, run):
        if len(list(runs.glob("*.json"))) == 2:
            raise KeyboardInterrupt
        return record(self, run)

    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "record", interrupted)
        done = paper("comparison", runs, "--level", "pixel", expect=1)
    assert "finished runs are kept" in done.stderr
    assert done.stdout.count("not run") == 7 and "FGSM" in done.stdout
    rest = paper("comparison", runs, "--level", "pixel")
    assert "9 runs, 2 recorded already" in rest.stderr and "not run" not in rest.stdout


@pytest.mark.slow
def test_the_model_suite_trains_each_control_once_also_after_an_interruption(paper, tmp_path, monkeypatch):
    runs, record, learn, trained = tmp_path / "runs", Recorder.record, FSAMUAP.learn, []
    # An untrained victim diverges at the published rate.
    short = ("--seed", "0", "--set", "epochs=1", "--set", "batch=16", "--set", "sgd_rate=1e-4")

    def interrupted(self, run):
        if len(list(runs.glob("*.json"))) == 5:
            raise KeyboardInterrupt
        return record(self, run)

    monkeypatch.setattr(FSAMUAP, "learn", lambda self, *given: trained.append(self) or learn(self, *given))
    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "record", interrupted)
        first = paper("model", runs, short=short, expect=1)
    assert "paper model: 8 runs; 16 trainings of a victim; about" in first.stderr
    rest = paper("model", runs, "--format", "json", short=short)
    assert "paper model: 8 runs, 5 recorded already; 6 trainings of a victim; about" in rest.stderr
    assert len(trained) == len(set(trained)) == 16, "eight rows, each with and without a perturbation"
    found = json.loads(rest.stdout)
    assert {line["level"] for line in found} == {"model"} and len(found) == 8
    assert all(line["verdict"] and "r1 of tampered, clean images" in line for line in found)


def test_one_fit_for_both_levels_gives_what_two_would(paper, tmp_path):
    together, alone = tmp_path / "together", tmp_path / "alone"
    paper("systems", together, "--victim", "agw")
    paper("systems", alone, "--victim", "agw", "--level", "pixel")
    (one,) = RunStore(alone).read_all().records
    both = {record.level: record for record in RunStore(together).read_all().records}
    assert both["pixel"].id == one.id and both["pixel"].adversarial == one.adversarial
    (own,), (taken,) = (stored_perturbations(RunStore(runs), one) for runs in (alone, together))
    assert own.digest == taken.digest and own.provenance == taken.provenance and not taken.modules
    control = next(c for c in both["feature"].controls if c.name == "d alone (pixel level)")
    assert control.trials == one.adversarial


@pytest.mark.slow
def test_on_real_data_each_row_has_its_published_figure(paper, real, tmp_path):
    runs = tmp_path / "runs"
    done = paper("all", runs, "--level", "pixel", "--format", "json", data=real)
    found = {(suite, row): line for (suite, _, row), line in rows(done).items()}
    assert {suite for suite, _ in found} == set(SUITES) - {"model"}
    shown = {key: line.get("r1_published") for key, line in found.items()}
    expected = {
        ("comparison", "noise"): None,
        ("comparison", "FGSM"): 36.02,
        ("comparison", "UAP (Li)"): 17.59,
        ("comparison", "FSAM-UAP"): 0.79,
        ("systems", "FSAM-UAP"): 0.79,
        ("ablation", "noise + SFM"): 11.04,
        ("ablation", "noise + FSAM + SFM"): 5.10,
        ("blocks", "block3"): None,
        ("blocks", "all blocks"): 0.79,
        ("attention", "ECA"): 1.60,
    }
    for key, value in expected.items():
        assert shown[key] == (None if value is None else pytest.approx(value / 100)), key
    clean = {suite: found[suite, row]["r1_published_before"] for suite, row in found}
    assert clean["comparison"] == pytest.approx(0.4750) and clean["ablation"] == pytest.approx(0.4673)
    text = paper("ablation", runs, "--level", "pixel", data=real).stdout
    assert "SYNTHETIC" not in text and "another victim" in text


def test_on_real_data_systems_takes_those_there_are_weights_for(paper, real, tmp_path, vbench):
    style = ("--level", "pixel", "--format", "markdown")
    done = paper("systems", tmp_path / "runs", *style, data=real, victims=("agw", "ddag"))
    assert "systems leaves out hcloss, caj, mmn, deen, mrcn" in done.stderr
    lines = {line.split()[1]: line for line in done.stdout.splitlines() if " → " in line}
    assert "47.50 [1] → 0.79 [2]" in lines["agw"] and "54.75 [3] → 1.65 [4]" in lines["ddag"]
    refused = vbench("paper", "ablation", "--dataset", "sysu", "--root", real.root, expect=2)
    assert "needs --weights agw=FILE" in refused.stderr


@pytest.mark.slow
def test_regdb_is_the_mean_over_the_splits_with_the_weights_of_each(vbench, tmp_path, monkeypatch):
    data = quickly.make(tmp_path / "data", "regdb", real=True, test_ids=3)
    monkeypatch.setenv("VBENCH_CACHE", str(data.cache))
    for trial in range(1, 11):
        data.weights(protocol=f"regdb/vis2ir/trial-{trial}", seed=trial)
    pattern = f"agw={data.cache}/agw-regdb-trial-{{trial}}-{{trial}}.safetensors"
    where = ("--dataset", "regdb", "--root", data.root, "--runs", tmp_path / "runs", "--weights", pattern)
    base = ("paper", "systems", *where, "--victim", "agw", "--level", "pixel", "--ignore-gates", *SHORT)
    done = vbench(*base, "--protocol", "regdb/vis2ir")
    records = RunStore(tmp_path / "runs").read_all().records
    assert len({record.protocol for record in records}) == 10
    assert len({record.config["victim"]["weights"] for record in records}) == 10
    mean = sum(100 * record.mean("adversarial", "r1") for record in records) / 10
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("agw ")]
    assert f"→ {mean:.1f} ± " in line and "70.05 [1] → 0.49 [2]" in line
    one = vbench(*base).stdout
    assert "regdb/vis2ir (split 1)" in one and "not all are here" in one


@pytest.mark.slow
def test_a_victim_with_fewer_stages_says_which_blocks_it_has(paper, quick, vbench, tmp_path):
    weights = quick.weights("deen", variant="regdb")
    base = ("paper", "blocks", "--dataset", "sysu", "--root", quick.root, "--runs", tmp_path / "runs", *SHORT)
    base += ("--victim", "deen", "--weights", weights, "--level", "pixel", "--ignore-gates")
    assert "block4 on deen does not apply: there is no block4" in vbench(*base, "--dry-run").stderr
    done = vbench(*base)
    said = " ".join(done.stdout.split())
    assert "block4 does not apply: there is no block4: its stages are stem, layer1, layer2, layer3" in said
    assert len(RunStore(tmp_path / "runs").read_all().records) == 5
