"""Before and around a run: its plan, fewer queries, options in a file, names as people type them, JSON."""

from __future__ import annotations

import json
import re
from unittest import mock

import pytest
from opening import setup
from typer.testing import CliRunner

from vbench.attacks.build import build_attack
from vbench.attacks.registry import ATTACKS
from vbench.cli import app
from vbench.cli.cite import bibtex
from vbench.cli.run import planned_table
from vbench.core import __version__, progress
from vbench.core.errors import BadInput
from vbench.data import open_dataset
from vbench.data.registry import DATASETS, datasets
from vbench.records.spec import DataSpec, ModelSpec, RunSpec, Setup, spec_of
from vbench.records.store import RunStore
from vbench.reports.verify.configuration import _Dataset
from vbench.run.plan import Planned, plan
from vbench.run.session import Session
from vbench.victims.registry import VICTIMS, victims

UAP = "uap[evaluations=96,batch=12]"


def records(runs):
    return RunStore(runs).read_all().records


def test_fewer_queries_are_another_run_that_says_so(quick, vbench, tmp_path):
    base = ["run", *quick.arguments(tmp_path / "runs"), "--attack", "noise"]
    vbench(*base)
    out = vbench(*base, "--queries", 5).stdout
    few, every = sorted(
        records(tmp_path / "runs"), key=lambda one: one.clean[0].queries + one.clean[0].skipped
    )
    assert (
        few.id != every.id and few.config["dataset"]["fingerprint"] != every.config["dataset"]["fingerprint"]
    )
    assert few.config["dataset"]["queries"] == 5 and "queries" not in every.config["dataset"]
    assert sum(len(trial.unpack()[0]) for trial in [few.per_query["clean_rank"]]) == 5
    assert f"{few.protocol}, 5 queries" in out
    # No leaderboard takes it for the protocol.
    with pytest.raises(ValueError, match="queries"):
        _Dataset(**few.config["dataset"])
    _Dataset(**every.config["dataset"])
    assert vbench(*base, "--queries", 0, expect=2).stderr


def test_runs_of_earlier_versions_keep_their_key():
    # As version 0.1.0 made them before there were --queries and --batch-size.
    given = {"victim": "deen[embedding=pooled]", "attack": "uap", "eps": "4/255", "seed": 3, "size": "48x24"}
    assert spec_of({"victim": "agw", "attack": "pgd"}).key == "a88ea2a2ba8d"
    assert spec_of(given).key == spec_of({**given, "batch_size": 7}).key == "442801df0d9d"
    assert spec_of({**given, "queries": 7}).key != "442801df0d9d"


def test_no_result_depends_on_the_batch(quick, vbench, tmp_path):
    arguments = ["--attack", UAP, "--attack", "metric_ifgsm[steps=2]"]
    vbench("run", *quick.arguments(tmp_path / "one"), *arguments)
    vbench("run", *quick.arguments(tmp_path / "other"), *arguments, "--batch-size", 5)
    one, other = ({found.id: found for found in records(tmp_path / name)} for name in ("one", "other"))
    assert one.keys() == other.keys()
    for name, found in one.items():
        assert found.adversarial == other[name].adversarial


def test_a_plan_counts_what_is_shared_once_and_does_nothing(quick, vbench, tmp_path):
    dataset, runs = open_dataset("sysu", quick.root), tmp_path / "runs"
    query, gallery = len(dataset.query), len(dataset.gallery)
    training = len(dataset.train_visible) + len(dataset.train_infrared)
    attacks = [
        "--attack",
        "noise",
        "--attack",
        "metric_ifgsm[steps=2]",
        "--attack",
        UAP,
        "--attack",
        "square[queries=7]",
        "--attack",
        "metric_ifgsm[steps=2,restarts=3]",
    ]
    plan = vbench(
        "run", *quick.arguments(runs), *attacks, "--seed", 0, "--seed", 1, "--dry-run", "--format", "json"
    )
    found = {
        (row["attack"], row["seed"]): (int(row["gradients"]), int(row["forwards"]))
        for row in json.loads(plan.stdout)
    }
    assert found["noise", "0"] == (0, query + gallery + query)
    assert found["noise", "1"] == (0, query)
    assert found["metric_ifgsm[steps=2]", "1"] == (2 * query, query)
    assert found[UAP, "0"][0] == found[UAP, "1"][0] == 96, "another seed is another fit"
    assert found[UAP, "0"][1] + found["metric_ifgsm[steps=2]", "0"][1] == training + 2 * query
    assert found["square[queries=7]", "0"][1] == 8 * query
    assert found["metric_ifgsm[steps=2,restarts=3]", "1"][0] == 6 * query
    assert not runs.exists() and not (tmp_path / "cache").exists()
    assert "known: " in vbench("run", "--victim", "nope", "--attack", "noise", "--dry-run", expect=2).stderr


def test_a_plan_names_in_what_its_runs_differ():
    def planned(eps, *surrogates):
        data, victim = DataSpec("synthetic"), ModelSpec("agw")
        spec = RunSpec(Setup(data, victim, tuple(map(ModelSpec, surrogates))), "pgd", eps=eps)
        return Planned(spec, 20, 2, 1.5)

    rows = json.loads(planned_table([planned("4/255"), planned("8/255", "ddag")], "json"))
    assert list(rows[0]) == ["victim", "attack", "surrogate", "eps", "seed", "gradients", "forwards", "s"]
    assert [(row["surrogate"], row["eps"]) for row in rows] == [("none", "4/255"), ("ddag", "8/255")]
    (row,) = json.loads(planned_table([planned("4/255")], "json"))
    assert list(row) == ["victim", "attack", "seed", "gradients", "forwards", "s"]
    assert planned_table([], "plain").startswith("0 runs")


def test_a_plan_counts_passes_over_the_training_images_and_trainings_for_controls(quick, vbench, tmp_path):
    attacks = ["fsam_uap[preset=paper,epochs=3]", "fsam_uap[preset=paper,level=model,epochs=1]"]
    given = [word for attack in attacks for word in ("--attack", attack)]
    plan = vbench("run", *quick.arguments(tmp_path / "runs"), *given, "--dry-run", "--format", "json")
    vbench("run", *quick.arguments(tmp_path / "runs"), *given)
    made = {found.config["attack"]["settings"]["level"]: found for found in records(tmp_path / "runs")}
    fit, trained = (int(row["gradients"]) for row in json.loads(plan.stdout))
    # An update more than fits into the passes is never made.
    assert fit - 64 < made["pixel"].cost["fit_evaluations"] <= fit
    own = made["model"].cost["fit_evaluations"]
    assert 2 * own < trained <= 5 * own, "four controls are trained as well; without modules a pass less"


def test_a_plan_counts_a_surrogates_fit_once_for_all_victims_and_no_member_that_is_left_out(quick):
    def planned(victim, attack, **more):
        group = setup("sysu", quick.root, victim, quick.weights(victim), ignore_gates=True, **more)
        return RunSpec(group, attack, eps="8/255")

    crafted = {"surrogates": ("agw",), "surrogate_weights": (quick.weights(),)}
    specs = [planned("caj", UAP, **crafted), planned("deen", UAP, **crafted), planned("agw", UAP)]
    assert [one.gradients for one in plan(Session(quiet=True), specs)] == [96, 0, 96]
    (whole,) = plan(Session(quiet=True), [planned("agw", "ensemble")])
    with mock.patch.object(build_attack("fna").__class__, "check", side_effect=BadInput("not here")):
        (fewer,) = plan(Session(quiet=True), [planned("agw", "ensemble")])
    assert 0 < fewer.gradients < whole.gradients


def test_long_work_is_never_silent(quick, vbench, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_PLAIN_INTERVAL_SECONDS", 0.0)
    loud = [word for word in quick.arguments(tmp_path / "runs") if word != "--quiet"]
    said = vbench("run", *loud, "--attack", UAP).stderr
    assert said.startswith("1 run, about ")
    sets = [f"{kind} images" for kind in ("query", "gallery", "visible training", "infrared training")]
    for what in sets:
        assert f"{what}: " in said and re.search(f"embedding (clean )?{what}: 1/", said), what


def test_the_estimate_leaves_out_what_is_recorded(quick, vbench, tmp_path):
    loud = [word for word in quick.arguments(tmp_path / "runs") if word != "--quiet"]
    query = len(open_dataset(quick.layout, quick.root).query)
    attacks = ("--attack", "noise", "--attack", "metric_ifgsm[steps=2]")
    vbench("run", *quick.arguments(tmp_path / "runs"), *attacks[:2])
    said = vbench("run", *loud, *attacks).stderr.splitlines()
    (told,) = (line for line in said if " on this machine: " in line)
    assert told.startswith("1 run, about ") and told.endswith("; 1 run recorded already")
    assert f": {2 * query} images forward and backward" in told
    assert "on this machine" not in vbench("run", *loud, *attacks).stderr
    assert vbench("run", *loud, *attacks, "--force").stderr.startswith("2 runs, about ")


def test_options_in_a_file_are_defaults_of_those_typed(quick, vbench, tmp_path):
    keys = dict(
        zip(quick.arguments(tmp_path / "runs")[:8:2], quick.arguments(tmp_path / "runs")[1:8:2], strict=True)
    )
    lines = [f"{key.lstrip('-')}: {value}" for key, value in keys.items()]
    lines += [
        f"runs: {tmp_path / 'runs'}",
        "ignore_gates: true",
        "attack: [noise, 'fgsm']",
        "seed: 3",
        "quantize: false",
    ]
    file = tmp_path / "run.yaml"
    file.write_text("\n".join(lines))
    vbench("run", "--config", file, "--seed", 4, "--quiet")
    found = records(tmp_path / "runs")
    assert {one.label for one in found} == {"noise", "fgsm"} and {one.config["seed"] for one in found} == {4}
    assert not any(one.config["threat"]["quantize"] for one in found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("atack: noise", "run.yaml:1: atack: unknown option 'atack'; did you mean 'attack'?"),
        ("victim: agw\nlayout: [sysu, regdb]", "run.yaml:2: layout: takes one value"),
        ("quantize: perhaps", "run.yaml:1: quantize: is true or false"),
        ("- agw", "run.yaml:1: the options of a command are lines"),
        ("a: b: c", "run.yaml:1: not YAML"),
    ],
)
def test_a_file_of_options_is_refused_in_one_line(vbench, tmp_path, text, said):
    (tmp_path / "run.yaml").write_text(text)
    refused = vbench("run", "--config", tmp_path / "run.yaml", expect=2).stderr
    assert said in refused and len(refused.splitlines()) == 1


def test_names_are_taken_as_people_type_them(quick, vbench, tmp_path):
    typed = [
        {"agw": "AGW", "sysu": "SYSU-MM01"}.get(word, word) for word in quick.arguments(tmp_path / "runs")
    ]
    vbench("run", *typed, "--attack", "Metric-FGSM")
    vbench("run", *quick.arguments(tmp_path / "runs"), "--attack", "metric_fgsm")
    (found,) = records(tmp_path / "runs")
    assert found.label == "metric_fgsm" and found.config["victim"]["name"] == "agw"


def test_a_name_of_another_kind_or_library_is_known(vbench):
    for wrong, said in (
        (("victim", "PGD"), "'PGD' is an attack, not a victim; known victims: agw"),
        (("attack", "agw"), "'agw' is a victim, not an attack"),
        (("attack", "PGDL2"), "did you mean 'torchattacks:PGDL2'?"),
        (("attack", "CarliniLInfMethod"), "did you mean 'art:CarliniLInfMethod'?"),
        (("attack", "PDG"), "did you mean 'pgd'?"),
    ):
        assert said in vbench("describe", *wrong, expect=2).stderr
    with pytest.raises(BadInput, match="'fgsm' is an attack, not a dataset"):
        raise datasets.unknown("fgsm")
    assert victims.canonical("D-E_EN[embedding=pooled]") == "deen[embedding=pooled]"
    assert victims.canonical("./Mine.py:AGW") == "./Mine.py:AGW"


def test_json_says_what_the_text_says(vbench):
    listed = json.loads(vbench("list", "--format", "json").stdout)
    assert [row["name"] for row in listed["victims"]] == list(VICTIMS)
    assert {row["name"] for row in listed["attacks"]} > set(ATTACKS)
    said = json.loads(vbench("describe", "attack", "pgd", "--format", "json").stdout)
    assert said["name"] == "pgd" and {row["parameter"] for row in said["parameters"]} > {"steps"}
    assert json.loads(vbench("doctor", "--format", "json").stdout)["vbench"] == __version__
    assert "did you mean 'json'" in vbench("list", "--format", "jason", expect=2).stderr


def test_help_version_and_completion(vbench):
    assert vbench("--version").stdout == f"vbench {__version__}\n"
    assert vbench("run", "-h").stdout == vbench("run", "--help").stdout
    typed = {"_VBENCH_COMPLETE": "complete_bash", "COMP_WORDS": "vbench run --victim m", "COMP_CWORD": "3"}
    completed = CliRunner().invoke(app, [], prog_name="vbench", env=typed)
    assert completed.output.split() == ["mmn", "mpanet", "mrcn"]


def test_every_paper_that_a_class_names_can_be_cited(vbench):
    out = vbench("cite", "AGW", "fsam_uap", "sysu").stdout
    assert out.startswith("@article{ye2022deep,") and "title = {{RGB-Infrared Cross-Modality" in out
    assert "booktitle = {NeurIPS}" in out and out.count("@") == 3
    assert "@software{vbench," in vbench("cite").stdout
    assert "title = {{Transferable, Controllable, and Inc" in vbench("cite", "mis_ranking").stdout
    papers = [facts["paper"] for facts in (*ATTACKS.values(), *DATASETS.values())]
    papers += [facts.paper for facts in VICTIMS.values()]
    for paper in filter(None, papers):
        entry = bibtex("x", paper)
        assert "author = {" in entry and f"year = {{{paper[-4:]}}}" in entry, paper
    assert "did you mean 'agw'" in vbench("cite", "agv", expect=2).stderr
    done = vbench("cite", "noise")
    assert (done.stdout, done.stderr) == ("", "noise names no paper to cite\n")
