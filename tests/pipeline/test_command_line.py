"""The command line as a user meets it: exit codes, one-line errors, records that survive anything."""

from __future__ import annotations

import json
import signal

import pytest

from vbench.attacks.classification import PGD
from vbench.data import open_dataset
from vbench.records.record import Record
from vbench.records.store import RunStore
from vbench.victims.agw import AGW


def test_run_then_report_in_every_format(quick, vbench, tmp_path):
    runs = tmp_path / "runs"
    base = ["run", *quick.arguments(runs)]
    out = vbench(*base, "--attack", "noise", "--attack", "metric_fgsm").stdout
    assert "SYNTHETIC sysu/all/single/ir2vis/seed10; 10 trials; L_inf 8/255, query side, 8-bit" in out
    assert "metric_fgsm" in out
    vbench(*base, "--attack", "noise", "--eps", "4/255")
    assert vbench("report", "--runs", runs).stdout.count("(clean)") == 2
    markdown = vbench("report", "--runs", runs, "--format", "markdown").stdout
    assert markdown.count("| victim") == 2, "another budget is another table"
    rows = json.loads(vbench("report", "--runs", runs, "--format", "json").stdout)
    records = RunStore(runs).read_all().records
    assert {row["id"] for row in rows} == {record.id for record in records}
    assert rows[0]["r1_after"] == pytest.approx(records[0].mean("adversarial", "r1"))
    csv = vbench("report", "--runs", runs, "--format", "csv").stdout
    assert len(csv.strip().splitlines()) == 1 + len(records)
    latex = vbench("report", "--runs", runs, "--format", "latex").stdout
    assert latex.count(r"\toprule") == 2 and "Metric-FGSM" in latex


@pytest.mark.slow
def test_a_preset_brings_its_side_and_budget_unless_they_are_given(quick, vbench, tmp_path):
    def cards(*more):
        runs = tmp_path / f"runs{len(more)}"
        attacks = ["--attack", "noise", "--attack", "metric_ifgsm[preset=original]"]
        vbench("run", *quick.arguments(runs), *attacks, *more)
        found = RunStore(runs).read_all().records
        return {r.label: (r.config["threat"]["side"], r.config["threat"]["eps"]) for r in found}

    original = "metric_ifgsm[preset=original]"
    assert cards() == {"noise": ("query", "8/255"), original: ("gallery", "5/255")}
    assert cards("--eps", "2/255") == {"noise": ("query", "2/255"), original: ("gallery", "2/255")}
    both = ("both", "8/255")
    assert cards("--side", "both", "--eps", "8/255") == {"noise": both, original: both}


def test_a_long_run_is_announced_before_it_starts(quick, vbench, tmp_path, monkeypatch):
    monkeypatch.setattr("vbench.run.session._MANY", 3)
    arguments = [part for part in quick.arguments(tmp_path / "runs") if part != "--quiet"]
    base = ["run", *arguments, "--attack", "noise", "--attack", "square[queries=3]"]
    images = len(open_dataset("sysu", quick.root).query)
    line = f"note: square[queries=3] takes 3 queries an image: {3 * images:,} passes through agw"
    printed = vbench(*base).stderr
    assert line in printed
    assert printed.index(line) < printed.index("noise, seed 0")
    assert line not in vbench(*base).stderr, "it is recorded"


def test_a_known_run_is_found_and_not_repeated(quick, vbench, tmp_path):
    base = ["run", *quick.arguments(tmp_path / "runs"), "--attack", "noise"]
    vbench(*base)
    (path,) = (tmp_path / "runs").glob("*.json")
    before = path.stat().st_mtime_ns
    assert "found" in vbench(*[part for part in base if part != "--quiet"]).stderr
    assert path.stat().st_mtime_ns == before
    vbench(*base, "--force")
    assert path.stat().st_mtime_ns > before


def test_a_learnt_perturbation_can_be_replayed(quick, vbench, tmp_path):
    runs, again = tmp_path / "runs", tmp_path / "again"
    spec = ["--attack", "uap[evaluations=96,batch=12]"]
    vbench("run", *quick.arguments(runs), *spec)
    (file,) = (runs / "perturbations").glob("*.safetensors")
    vbench("run", *quick.arguments(again), *spec, "--perturbation", file)
    (first,), (second,) = (RunStore(folder).read_all().records for folder in (runs, again))
    assert first.adversarial == second.adversarial
    assert second.config["perturbation"] and first.id != second.id
    refused = vbench("run", *quick.arguments(again), "--attack", "pgd", "--perturbation", file, expect=2)
    assert "was learnt by 'uap'" in refused.stderr


def test_a_battery_stands_in_the_table_and_shares_what_was_learnt(quick, vbench, tmp_path):
    (tmp_path / "two.py").write_text(
        "from vbench.attacks import Battery\n"
        "from vbench.attacks.noise import Noise\n"
        "from vbench.attacks.uap import UAP\n"
        "class Two(Battery):\n"
        "    name, summary = 'two', 'noise and uap'\n"
        "    def attacks(self):\n"
        "        return Noise(), UAP(evaluations=96, batch=12)\n"
    )
    runs = tmp_path / "runs"
    attacks = ["--attack", "uap[evaluations=96,batch=12]", "--attack", f"{tmp_path}/two.py:Two"]
    out = vbench("run", *quick.arguments(runs), *attacks, "--wide").stdout
    assert "evaluation: worst of 2, training" in out and "  · noise: wins" in out
    alone, two = sorted(RunStore(runs).read_all().records, key=lambda record: len(record.members))
    assert two.members[1].trials == alone.adversarial
    files = (runs / "perturbations").glob("*.safetensors")
    assert {file.name for file in files} == {f"uap-{one.id}.safetensors" for one in (alone, two)}
    refused = vbench("run", *quick.arguments(runs), "--attack", "ensemble", "--side", "both", expect=2)
    assert "use --side query" in refused.stderr and len(refused.stderr.strip().splitlines()) == 1
    assert "signed steps with momentum away from guides" in vbench("describe", "attack", "ensemble").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attack", "pdg"], "did you mean 'pgd'"),
        (["--attack", "pgd", "--set", "setps=3"], "did you mean 'steps'"),
        (["--attack", "pgd", "--eps", "8"], "did you mean 8/255?"),
        (["--attack", "pgd", "--side", "querry"], "unknown side"),
        (["--attack", "pgd", "--format", "markdwon"], "did you mean 'markdown'"),
        (["--attack", "pgd", "--protocol", "sysu/al/single/ir2vis/seed10"], "sysu/all/single/ir2vis/seed10"),
        (["--attack", "pgd", "--device", "gpu"], "device"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(quick, vbench, tmp_path, arguments, message):
    done = vbench("run", *quick.arguments(tmp_path), *arguments, expect=2)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_missing_folders_and_files_are_named(quick, vbench, tmp_path):
    done = vbench(
        "run", "--victim", "agw", "--attack", "pgd", "--dataset", "sysu", "--root", tmp_path / "no", expect=2
    )
    assert str(tmp_path / "no") in done.stderr
    done = vbench(
        "run",
        "--victim",
        "agw",
        "--attack",
        "pgd",
        "--dataset",
        "sysu",
        "--root",
        quick.root,
        "--weights",
        tmp_path / "no.t",
        expect=2,
    )
    assert "no.t" in done.stderr
    assert "no folder of runs" in vbench("report", "--runs", tmp_path / "none", expect=2).stderr


def test_finished_runs_survive_a_failing_one_and_a_broken_record(quick, vbench, tmp_path):
    (tmp_path / "bad.py").write_text(
        "from vbench.attacks.noise import Noise\n"
        "class Bad(Noise):\n"
        "    name = 'bad'\n"
        "    def craft(self, victim, images, modality, context):\n"
        "        return images * float('nan')\n"
    )
    runs = tmp_path / "runs"
    done = vbench(
        "run", *quick.arguments(runs), "--attack", "noise", "--attack", f"{tmp_path}/bad.py:Bad", expect=1
    )
    assert "'bad' yields non-finite" in done.stderr
    assert len(list(runs.glob("*.json"))) == 1
    (runs / "torn.json").write_text('{"schema_version": 1, "id"')
    report = vbench("report", "--runs", runs)
    assert "torn.json" in report.stderr and "noise" in report.stdout


@pytest.mark.slow
def test_kill_9_loses_at_most_the_run_in_flight(quick, vbench, forked, tmp_path):
    (tmp_path / "dies.py").write_text(
        "import os, signal\n"
        "from vbench.attacks.noise import Noise\n"
        "class Dies(Noise):\n"
        "    name = 'dies'\n"
        "    def craft(self, victim, images, modality, context):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    runs = tmp_path / "runs"
    attacks = ["noise", "fgsm", f"{tmp_path}/dies.py:Dies"]
    arguments = quick.arguments(runs)
    for attack in attacks:
        arguments += ["--attack", attack]
    assert forked("run", *arguments).code == -signal.SIGKILL
    left = RunStore(runs).read_all()
    assert len(left.records) == 2 and not left.broken
    arguments[arguments.index(attacks[2])] = "metric_ifgsm[steps=2]"
    vbench("run", *arguments)
    assert len(RunStore(runs).read_all().records) == 3


def test_two_processes_share_one_cache(quick, forked, tmp_path):
    runs, cache = tmp_path / "runs", {"VBENCH_CACHE": str(tmp_path / "cache")}
    done = forked("run", *quick.arguments(runs), "--attack", "noise", times=2, environment=cache)
    assert done.code == 0, done.printed
    contents = RunStore(runs).read_all()
    assert len(contents.records) == 1 and not contents.broken


def test_records_of_the_past_and_the_future_can_be_read(quick, vbench, tmp_path):
    runs = tmp_path / "runs"
    vbench("run", *quick.arguments(runs), "--attack", "noise")
    (path,) = runs.glob("*.json")
    old = json.loads(path.read_text())
    for field in ("size", "cost", "drop_interval", "warnings", "controls", "fit_log", "environment"):
        del old[field]
    old["a_field_of_tomorrow"] = {"x": 1}
    path.write_text(json.dumps(old))
    assert "noise" in vbench("report", "--runs", runs).stdout
    kept = Record.model_validate_json(path.read_text())
    assert json.loads(kept.model_dump_json())["a_field_of_tomorrow"] == {"x": 1}


def test_doctor_and_describe(vbench, quick):
    out = " ".join(vbench("doctor", "--root", quick.root).stdout.split())
    assert "torch" in out and "synthetic sysu layout" in out
    assert "gradient steps" in vbench("describe", "attack", "pgd").stdout
    listed = json.loads(vbench("list", "attacks", "--format", "json").stdout)["attacks"]
    for attack, norms in (("pgd", "linf"), ("simba", "l2, linf")):
        assert f"\nnorms: {norms}\n" in vbench("describe", "attack", attack).stdout
        (row,) = (one for one in listed if one["name"] == attack)
        assert row["norms"] == norms
    assert "input_size" in vbench("describe", "victim", "agw").stdout
    assert f"\nversion: {PGD.version}\n" in vbench("describe", "attack", "pgd").stdout
    described = json.loads(vbench("describe", "victim", "agw", "--format", "json").stdout)
    assert described["version"] == AGW.version
    assert "did you mean 'attack'" in vbench("describe", "atack", "pgd", expect=2).stderr
