"""What can be refused is refused before anything is drawn, trained, decoded or attacked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import quick as quickly
import torch
from quick import Bare

from vbench.api import evaluate
from vbench.attacks.perturbation import Perturbation
from vbench.core.errors import BadInput, VbenchError
from vbench.data import open_dataset
from vbench.data.images import Images
from vbench.data.synthetic.embedded import SyntheticSet
from vbench.run import prepare

READER = """
from vbench.data import open_dataset
from vbench.data import DatasetReader
import dataclasses

pytestmark = pytest.mark.usefixtures("quick_cache")

class Mine(DatasetReader):
    name, protocols, expected = "mine", ("mine/all", "mine/some"), "a set"

    def read(self, root, protocol):
        return dataclasses.replace(open_dataset("sysu", root), name="mine", protocol=protocol)
"""


@pytest.fixture
def idle(forbid):
    """Fails as soon as work begins."""
    forbid((Images, "load"), (prepare, "thin_weights"), (SyntheticSet, "write"))


@pytest.fixture
def where(quick):
    return {"dataset": "sysu", "root": quick.root, "weights": quick.weights(), "ignore_gates": True}


def refusal(**given) -> str:
    with pytest.raises(VbenchError) as refused:
        evaluate(**given)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"seed": [0, -1]}, "seeds are whole numbers"),
        ({"seed": True}, "seeds are whole numbers"),
        ({"seed": 2**64}, "seeds are whole numbers"),
        ({"seed": 1.5}, "seeds are whole numbers"),
        ({"victim": None}, "at least one victim"),
        ({"victim": ["agw", "agww"]}, "did you mean 'agw'"),
        ({"victim": ["agw", {"agw": 1}]}, "not dict"),
        ({"victim": ["agw", "agw[embedding=neckk]"]}, "neckk"),
        ({"attack": 5}, "not int"),
        ({"attack": ["noise", ["pgd"]]}, "not list"),
        ({"attack": ["noise", "pgdd"]}, "did you mean 'pgd'"),
        ({"attack": ["pgd", "noise"], "settings": {"stepps": 3}}, "did you mean 'steps'"),
        ({"settings": 5}, "settings are a mapping"),
        ({"dataset": Path("sysu")}, "not PosixPath"),
        ({"dataset": "./none.py:Mine"}, "no such file"),
        ({"dataset": "synthetic"}, "root is for real data"),
        ({"root": None}, "sysu needs root=, the folder"),
        ({"root": 5}, "root is a path, not int"),
        ({"root": "none"}, "does not exist"),
        ({"weights": "none.safetensors"}, "no such weights file"),
        ({"weights": object()}, "weights is a path"),
        ({"threat": object()}, "is not a number"),
        ({"threat": 9}, "did you mean 9/255"),
        ({"protocol": ["sysu/all/single/ir2vis/seed10", "sysu/al"]}, "unknown protocol"),
        ({"protocol": 3}, "protocol is a text"),
        ({"protocol": "regdb/vis2ir/trial-1"}, "belongs to 'regdb'"),
        ({"precision": "float8"}, "unknown precision"),
        ({"precision": None}, "precision is a text"),
        ({"device": "gpu"}, "device 'gpu' is not available"),
        ({"device": 1.5}, "device is a text"),
        ({"runs": "file"}, "cannot write to "),
        ({"surrogate": ["agw", "agw"], "surrogate_weights": ["a"]}, "1 surrogate_weights for 2"),
        ({"surrogate": "agw", "surrogate_weights": "none.t"}, "no such weights file"),
        ({"perturbation": "none.safetensors"}, "no perturbation at"),
        ({"queries": 0}, "queries is a whole number above 0, not 0"),
        ({"batch_size": True}, "batch_size is a whole number above 0, not True"),
        ({"channels_last": 1}, "channels_last is True or False, not 1"),
        ({"keep": 5}, "keep is a text, not int"),
        ({"keep": "images"}, "keep stores files next to records: name their folder"),
        ({"keep": ["picture"], "runs": "runs"}, "unknown thing to keep 'picture'"),
        ({"size": "64"}, "is not HEIGHTxWIDTH"),
        ({"size": (64,)}, "height and width in pixels"),
        ({"size": (64, 2.5)}, "height and width in pixels"),
    ],
)
def test_evaluate(idle, where, given, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("no folder")
    assert said in refusal(**{"victim": "agw", "attack": "noise", **where, **given})
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["file"]


def test_synthetic_data(idle):
    def said(**given):
        return refusal(**{"victim": "agw", "attack": "noise", **given})

    assert "unknown dataset layout" in said(layout="sysuu")
    assert "layout is a text" in said(layout=5)
    assert "unknown protocol" in said(protocol="sysu/none")
    assert "embedding" in said(victim="agw[embedding=x]")
    assert "is loaded already" in said(victim=Bare(), weights="w.safetensors")


def test_the_last_victim_is_checked_against_the_last_attack_first(idle, quick):
    dataset = open_dataset("sysu", quick.root)
    assert "needs an identity classifier; bare has none" in refusal(
        victim=[Bare(), Bare()], attack=["noise", "pgd"], dataset=dataset, ignore_gates=True
    )
    # Thin victims are not even trained.
    assert "needs an identity classifier" in refusal(victim=["agw", Bare()], attack="pgd")


def test_a_surrogate_is_what_an_attack_is_checked_against(idle):
    said = refusal(victim="agw", surrogate=["agw", "ddag"], attack=["noise", "fsam_uap"])
    assert "needs feature maps" in said
    assert "cannot transfer" in refusal(victim="agw", surrogate="agw", attack="fsam_uap[level=feature]")


def test_weights_of_another_set_are_found_before_work_on_their_own(idle, quick, tmp_path):
    other = quickly.make(tmp_path / "other", "regdb", real=True)
    given = {"victim": "agw", "attack": "noise", "weights": quick.weights()}
    assert "was trained on split" in refusal(dataset="regdb", root=other.root, **given)


def test_a_perturbation_that_does_not_fit(idle, where, tmp_path):
    small = torch.zeros(3, 8, 4)
    uap = Perturbation(small).with_provenance(attack="uap", settings={}, threat={})
    uap.save(tmp_path / "uap.safetensors")
    given = {"victim": "agw", "perturbation": tmp_path / "uap.safetensors", **where}
    assert "was learnt by 'uap', not by 'noise'" in refusal(attack="noise", **given)
    modules = {"layer1.weight": torch.zeros(1)}
    learnt = Perturbation(small, modules).with_provenance(attack="fsam_uap", settings={"level": "feature"})
    learnt.save(tmp_path / "fsam.safetensors")
    given["perturbation"] = tmp_path / "fsam.safetensors"
    assert "cannot be resized" in refusal(attack="fsam_uap", **given)


COMMANDS = [
    (("run", "--victim", "agw", "--attack", "noise"), ("--seed", -1)),
    (("run", "--victim", "agw", "--attack", "noise"), ("--seed", 2**64)),
    (("run", "--victim", "agw", "--attack", "noise"), ("--norm", "l2")),
    (("run", "--victim", "agw", "--attack", "noise"), ("--runs", "/proc/foo")),
    (("audit", "--victim", "agw"), ("--runs", "/proc/foo")),
    (("run", "--victim", "agw", "--attack", "metric_ifgsm[preset=original]"), ("--norm", "l2")),
    (("run", "--victim", "agw", "--attack", "noise"), ("--device", "gpu")),
    (("run", "--victim", "agw", "--attack", "noise"), ("--precision", "half")),
    (("run", "--victim", "agw", "--attack", "noise"), ("--keep", "picture")),
    (("run", "--victim", "agw", "--attack", "noise"), ("--format", "word")),
    (("sweep", "transfer", "--victim", "agw", "--attack", "noise"), ("--seed", -1)),
    (("sweep", "transfer", "--victim", "agw", "--attack", "noise"), ("--norm", "l2")),
    (("sweep", "transfer", "--victim", "all", "--attack", "fsam_uap[stages=layer9]"), ()),
    (("sweep", "transfer", "--victim", "agw", "--attack", "noise"), ("--protocol", "regdb/vis2ir/trial-1")),
    (("paper", "comparison"), ("--seed", -1)),
    (("paper", "comparison"), ("--seed", 2**63)),
    (("paper", "comparison"), ("--device", "gpu")),
    (("paper", "comparison"), ("--protocol", "regdb/vis2ir/trial-1")),
    (("audit", "--victim", "agw"), ("--seed", -1)),
    (("audit", "--victim", "agw"), ("--protocol", "sysu/none")),
    (("audit", "--victim", "agw[embedding=x]"), ()),
    (("audit", "--victim", "agw"), ("--vctim", "agw")),
    (("sweep", "transfer", "--victim", "agw", "--attack", "noise"), ("--seed", "one")),
    (("paper", "comparison"), ("--levl", "pixel")),
    (("run", "--victim", "agw"), ()),
    (("data", "synth", "--layout", "sysu", "--ids", 4, "--out", "set"), ("--seed", -1)),
    (("data", "synth", "--layout", "sysu", "--ids", 4, "--out", "set"), ("--seed", 2**64)),
    (("baseline", "--victim", "agw", "--attack", "noise", "--out", "b.json"), ("--device", "gpu")),
    (("baseline", "--victim", "agw", "--attack", "noise", "--out", "b.json"), ("--norm", "l2")),
]


@pytest.mark.parametrize(("command", "more"), COMMANDS, ids=lambda part: " ".join(map(str, part)))
def test_commands(idle, vbench, command, more, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = vbench(*command, *more, *(() if command[0] == "data" else ("--quiet",)), expect=2)
    assert len(done.stderr.splitlines()) == 1
    assert not [path for path in tmp_path.iterdir() if path.name != "cache"]


def test_training(idle, vbench, quick, tmp_path):
    base = ("train", "--dataset", "sysu", "--root", quick.root, "--out", tmp_path / "w.safetensors")
    for more in (("--seed", -1), ("--seed", 2**64), ("--precision", "half"), ("--validation", 1.5)):
        vbench(*base, *more, expect=2)


@pytest.mark.parametrize("seeds", [[-1], [True], [2**63], [1.5], ["0"]])
def test_suites(vbench, tmp_path, seeds):
    suite = tmp_path / "suite.yaml"
    suite.write_text(json.dumps({"victims": "agw", "attacks": "noise", "seeds": seeds}))
    done = vbench("sweep", "run", suite, "--runs", tmp_path / "runs", expect=2)
    assert "seeds" in done.stderr and not (tmp_path / "runs").exists()


def test_seeds_of_any_size_are_different_runs(quick):
    dataset = open_dataset("sysu", quick.root)
    seeds = [0, np.int64(1), 2**32, 2**33, 2**62 + 2**32]
    found = evaluate(
        Bare(), ["noise", "muap[evaluations=24,batch=6]"], dataset, "64/255", seed=seeds, ignore_gates=True
    )
    for attack in ("noise", "muap"):
        sizes = [record.size["l2"] for record in found if record.config["attack"]["name"] == attack]
        assert len(set(sizes)) == len(seeds)
    assert [record.config["seed"] for record in found][:5] == seeds


@pytest.fixture
def reader(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(READER)
    return f"{path}:Mine"


@pytest.mark.slow
def test_evaluate_and_suites_take_the_readers_that_run_takes(quick, reader, vbench, tmp_path):
    given = {"root": quick.root, "weights": quick.weights(), "ignore_gates": True}
    record = evaluate("agw", "noise", reader, **given).record
    assert record.protocol == "mine/all"
    data = {"name": reader, "root": str(quick.root), "label": "own"}
    content = {
        "victims": [{"name": "agw", "weights": str(quick.weights())}],
        "attacks": "noise",
        "datasets": [data],
        "ignore_gates": True,
    }
    suite = tmp_path / "suite.yaml"

    def sweep(*more, expect=0):
        suite.write_text(json.dumps(content))
        return vbench("sweep", "run", suite, "--runs", tmp_path / "runs", "--jobs", 1, *more, expect=expect)

    assert "names code by path" in sweep(expect=2).stderr
    assert "1" in sweep("--allow-code").stdout
    (path,) = (tmp_path / "runs").glob("*.json")
    assert json.loads(path.read_text())["protocol"] == "mine/all"
    data["protocols"] = ["mine/none"]
    assert "unknown protocol of 'mine'" in sweep("--allow-code", expect=2).stderr
    data["name"] = "minee"
    assert "unknown dataset 'minee'" in sweep(expect=2).stderr


def test_bad_input_is_what_the_caller_gave():
    with pytest.raises(BadInput, match="did you mean"):
        evaluate("agw", "noise", "sysuu")
