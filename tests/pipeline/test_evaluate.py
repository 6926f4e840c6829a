"""``vbench.evaluate``: the command line's figures, the caller's own objects, nothing left changed."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import vbench as package
from vbench.api import Result, evaluate
from vbench.attacks import PerImageAttack
from vbench.attacks.build import build_attack
from vbench.core.errors import BadInput, VbenchError
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.data import open_dataset
from vbench.records.spec import OPTIONS
from vbench.records.store import RunStore
from vbench.victims.base import Victim, VictimOutput
from vbench.victims.load import load_victim
from vbench.victims.precision import PLAIN, Precision, compute_in, precision_of

pytestmark = pytest.mark.usefixtures("quick_cache")

UAP = "uap[evaluations=24,batch=12]"


@pytest.fixture
def where(quick):
    """Keywords that name the fixture's data and weights."""
    return {"dataset": "sysu", "root": quick.root, "weights": quick.weights(), "ignore_gates": True}


@dataclass(frozen=True)
class Far(PerImageAttack):
    """Leaves every budget."""

    name = "far"
    summary = "leaves every budget"

    def craft(self, victim, images, modality, context):
        return images + 1


class Means(Victim):
    """Ranks by coarse pixels; has no weights, no classifier and no stages."""

    name = "means"
    summary = "coarse pixels"
    paper = ""
    stages = ()

    def __init__(self) -> None:
        super().__init__()
        self.input_size, self.embedding_dim, self.num_classes = (32, 16), 8, 0
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images, modality, edits=None):
        grey = nn.functional.avg_pool2d(images.mean(1, keepdim=True), 8)
        return VictimOutput(self.scale * (grey - grey.mean((2, 3), keepdim=True)).flatten(1))


def test_import_is_light_and_every_name_is_there():
    code = "import sys, vbench; print({'torch', 'pandas', 'pydantic'} & set(sys.modules), dir(vbench))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith("set()") and "'evaluate'" in out
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert package.evaluate is evaluate
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = package.no_such_name


def test_a_figure_is_the_command_lines(quick, where, vbench, tmp_path):
    runs = tmp_path / "runs"
    attacks = ["metric_fgsm", UAP]
    named = [part for one in attacks for part in ("--attack", one)]
    base = ("run", "--victim", "agw", "--dataset", "sysu", "--root", quick.root, "--runs", runs, "--quiet")
    vbench(*base, "--weights", quick.weights(), *named, "--ignore-gates")
    told = {record.label: record for record in RunStore(runs).read_all().records}
    found = evaluate("agw", attacks, **where)
    assert [record.label for record in found] == attacks
    for record in found:
        assert record.id == told[record.label].id
        assert record.adversarial == told[record.label].adversarial
        assert record.per_query == told[record.label].per_query


def test_every_option_of_run_is_an_argument():
    missing = {"norm", "side", "quantize"}  # of the threat model
    assert set(OPTIONS) - missing <= set(inspect.signature(evaluate).parameters)


def test_a_report_of_unknown_metrics_is_refused(where):
    found = evaluate("agw", "noise", **where)
    assert "Rank-5" in found.report(metrics="r5") and "ASR" in found.report(metrics=["r1", "asr"])
    with pytest.raises(BadInput, match="unknown metric 'foo'"):
        found.report(metrics=["foo"])


def test_a_small_try_is_the_command_lines(quick, where, vbench, tmp_path):
    base = (
        "run",
        "--victim",
        "agw",
        "--attack",
        "noise",
        "--dataset",
        "sysu",
        "--root",
        quick.root,
        "--quiet",
    )
    more = ("--queries", 4, "--keep", "images,embeddings", "--batch-size", 3, "--channels-last")
    vbench(*base, "--weights", quick.weights(), "--ignore-gates", *more, "--runs", tmp_path / "told")
    given = {"queries": 4, "keep": ["images", "embeddings"], "batch_size": 3, "channels_last": True}
    found = evaluate("agw", "noise", runs=tmp_path / "runs", **given, **where).record
    (told,) = RunStore(tmp_path / "told").read_all().records
    assert (found.id, found.adversarial) == (told.id, told.adversarial)
    assert [found.adversarial[0].queries, found.config["dataset"]["queries"]] == [4, 4]
    assert {path.name for path in (tmp_path / "runs" / "kept" / found.id).iterdir()} == {
        "images.safetensors",
        "embeddings.safetensors",
    }


def test_what_is_recorded_is_found_with_its_perturbation(where, tmp_path):
    runs = tmp_path / "runs"
    first = evaluate("agw", [UAP, "noise"], runs=runs, **where)
    (path,) = RunStore(runs).root.glob(f"*-{first.records[0].id}.json")
    stamp = path.stat().st_mtime_ns
    again = evaluate("agw", [UAP, "noise"], runs=runs, **where)
    assert path.stat().st_mtime_ns == stamp
    assert again.records == first.records
    assert again.perturbation.digest == first.perturbation.digest
    evaluate("agw", "noise", runs=runs, force=True, **where)
    assert len(RunStore(runs).read_all().records) == 2
    replayed = evaluate("agw", UAP, perturbation=next((runs / "perturbations").iterdir()), **where)
    assert replayed.record.adversarial == first.records[0].adversarial


def test_nothing_is_written_without_a_folder(where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evaluate("agw", UAP, **where)
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}


def test_a_saved_result_is_a_folder_of_runs(where, tmp_path):
    found = evaluate("agw", [UAP, "noise"], seed=[0, 1], **where)
    paths = found.save(tmp_path / "kept")
    assert len(paths) == 4 and all(path.is_file() for path in paths)
    read = Result.read(tmp_path / "kept")
    assert {record.id for record in read} == {record.id for record in found}
    assert {p.digest for one in read.perturbations.values() for p in one} == {
        p.digest for one in found.perturbations.values() for p in one
    }
    assert len(read.where("attack=noise seed=1")) == 1


def test_objects_of_the_caller_give_the_figures_of_their_names(quick, where):
    named = evaluate("agw", "pgd[steps=2]", threat="4/255", **where).record
    victim, dataset = load_victim("agw", quick.weights()), open_dataset("sysu", quick.root)
    attack, threat = build_attack("pgd[steps=2]"), ThreatModel("4/255")
    own = evaluate(victim, attack, dataset, threat, ignore_gates=True).record
    assert own.id == named.id and own.adversarial == named.adversarial
    longer = evaluate(victim, attack, dataset, threat, settings={"steps": 3}, ignore_gates=True)
    assert longer.record.label == "pgd[steps=3]"


def test_a_victim_and_an_attack_from_the_notebook_itself(quick):
    victim = Means().train()
    dataset = open_dataset("sysu", quick.root)
    found = evaluate(victim, ["metric_fgsm", Far()], dataset, ignore_gates=True)
    assert victim.training and victim.scale.requires_grad and victim.scale.grad is None
    assert [record.config["victim"]["name"] for record in found] == ["means", "means"]
    # The runner enforces the budget, whatever an attack returns.
    assert found.records[1].size["linf_levels"] == pytest.approx(8)
    with pytest.raises(BadInput, match="needs an identity classifier; means has none"):
        evaluate(victim, "fgsm", dataset)


def test_the_precision_of_an_own_victim_comes_back(quick):
    victim, dataset = load_victim("agw", quick.weights()), open_dataset("sysu", quick.root)
    compute_in(victim, Precision("bfloat16"))
    evaluate(victim, "noise", dataset, precision="float32", ignore_gates=True)
    assert precision_of(victim) == Precision("bfloat16")
    compute_in(victim, PLAIN)
    record = evaluate(victim, "noise", dataset, precision="bfloat16", ignore_gates=True).record
    assert record.environment["precision"] == "bfloat16" and precision_of(victim) == PLAIN


def test_an_own_victim_meets_the_split_gate(quick, tmp_path):
    from vbench.data.synthetic import write_dataset

    root = write_dataset("sysu", tmp_path / "other", ids=3, seed=9, size=(32, 16), test_ids=2, quiet=True)
    victim = load_victim("agw", quick.weights())
    with pytest.raises(BadInput, match="victim 'agw': its classifier knows 6 identities"):
        evaluate(victim, "noise", open_dataset("sysu", root))


def test_presets_bring_their_threat_unless_one_is_given(where):
    def side_and_eps(threat):
        card = evaluate("agw", "metric_ifgsm[preset=original]", threat=threat, **where).record.config
        return card["threat"]["side"], card["threat"]["eps"]

    assert side_and_eps(None) == ("gallery", "5/255")
    assert side_and_eps("2/255") == ("gallery", "2/255")
    assert side_and_eps(ThreatModel("2/255")) == ("query", "2/255")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"victim": "agv"}, "did you mean 'agw'"),
        ({"attack": "pdg"}, "did you mean 'pgd'"),
        ({"attack": PerImageAttack}, "not the class PerImageAttack; call it"),
        ({"victim": Means}, "not the class Means; call it"),
        ({"victim": nn.Linear(1, 1)}, "not Linear"),
        ({"victim": []}, "at least one victim"),
        ({"dataset": "sysuu"}, "did you mean 'sysu'"),
        ({"dataset": 3}, "an open Dataset, not int"),
        ({"threat": 8}, "did you mean 8/255"),
        ({"seed": "one"}, "whole numbers"),
        ({"surrogate": nn.Linear(1, 1)}, "a surrogate is named"),
        ({"protocol": "sysu/al/single/ir2vis/seed10"}, "did you mean"),
    ],
)
def test_bad_input_is_said_in_one_line(where, given, message):
    with pytest.raises(BadInput, match=message) as refused:
        evaluate(**{"victim": "agw", "attack": "noise", **where, **given})
    assert "\n" not in str(refused.value)


def test_a_named_victim_brings_weights_and_an_own_one_has_them(quick, where):
    with pytest.raises(BadInput, match="is loaded already"):
        evaluate(load_victim("agw", quick.weights()), "noise", **where)
    with pytest.raises(BadInput, match="the dataset is open already"):
        evaluate("agw", "noise", open_dataset("sysu", quick.root), root=quick.root)


def test_an_attack_that_fails_is_one_line(quick):
    class Broken(Far):
        def craft(self, victim, images, modality, context):
            return images * float("nan")

    with pytest.raises(VbenchError, match="non-finite pixels"):
        evaluate(Means(), Broken(), open_dataset("sysu", quick.root), ignore_gates=True)


def test_transfer_is_a_keyword(quick, where):
    found = evaluate("agw", "metric_fgsm", surrogate="agw", surrogate_weights=quick.weights(), **where)
    assert found.record.surrogate == "agw"
    assert Modality.VISIBLE in Modality


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ignore_gates": "no"}, "ignore_gates is True or False"),
        ({"force": 1}, "force is True or False"),
        ({"runs": ""}, "runs is empty"),
        ({"attack": "fsam_uap", "settings": {"preset": ["strong"]}}, "preset is a name, not list"),
    ],
)
def test_arguments_of_another_type_are_refused(given, message):
    with pytest.raises(BadInput, match=message):
        evaluate(**{"victim": "agw", "attack": "noise", **given})
