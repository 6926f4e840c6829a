"""A victim of one's own under every attack: its own stages and classes, and nothing done that is lost."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from opening import opener
from own_victim import Mine

from vbench.api import evaluate
from vbench.attacks.build import build_attack
from vbench.attacks.fsam_uap.attack import FSAMUAP
from vbench.attacks.registry import attacks
from vbench.core.errors import BadInput
from vbench.data import open_dataset
from vbench.victims.agw import AGW

pytestmark = pytest.mark.usefixtures("quick_cache")

MODULES = "fsam_uap[module_steps=2,hinge=soft,evaluations=160,batch=8]"


@pytest.fixture
def where(quick):
    return {"dataset": open_dataset("sysu", quick.root), "device": "cpu"}


class Counted(Mine):
    """Counts its passes, in a list that copies share."""

    passes: ClassVar[list[int]] = []

    def forward(self, images, modality, edits=None):
        self.passes.append(len(images))
        return super().forward(images, modality, edits)


@pytest.mark.parametrize("classes", [6, 10, 1000])
def test_any_number_of_classes_runs_and_another_one_is_said(where, capsys, tmp_path, classes):
    victim = Mine(num_classes=classes).eval()
    found = evaluate(victim, "fgsm", ignore_gates=True, **where)
    assert found.record.config["victim"]["options"]["num_classes"] == classes
    opener(where["dataset"], victim=victim).bench(where["dataset"], tmp_path, True)
    said = capsys.readouterr().err.replace("\n", " ")
    wanted = f"victim 'mine': its classifier knows {classes} identities, the training set of sysu has 6"
    assert (wanted in said) == (classes != 6)


def test_weights_of_known_models_must_be_of_the_set(where, tmp_path, quick):
    victim = AGW(num_classes=7, **{**AGW.THIN, "width": 0.125, "input_size": (32, 16)}).eval()
    with pytest.raises(BadInput, match="knows 7 identities, the training set of sysu has 6"):
        opener(where["dataset"], victim=victim).bench(where["dataset"], tmp_path, True)
    own = Mine(num_classes=6).eval()
    own.weights_metadata["split"] = "regdb/trial-3"
    with pytest.raises(BadInput, match="was trained on split regdb/trial-3"):
        opener(where["dataset"], victim=own).bench(where["dataset"], tmp_path, True)


def test_the_own_modules_stand_at_the_victims_own_stages(where):
    found = evaluate(Mine(num_classes=6).eval(), [MODULES], ignore_gates=True, **where)
    assert set(found.record.fit_log["masks"]) == {"fsam.late", "sfm.late"}
    assert found.record.label == MODULES


@pytest.mark.parametrize(
    ("stages", "wanted"),
    [
        (("stem", "layer1", "layer2", "layer3", "layer4"), ("layer2",)),
        (("layer1", "layer2", "layer3", "layer4"), ("layer2",)),
        (("patches", "quarter1", "quarter2"), ("quarter1",)),
        (("features",), ("features",)),
        (("a", "b"), ("b",)),
    ],
)
def test_the_usual_stage_is_layer2_or_the_middle_one(stages, wanted):
    victim = Mine(num_classes=6)
    victim.stages = stages
    assert FSAMUAP()._stages(victim) == wanted
    assert FSAMUAP(stages="all")._stages(victim) == stages
    assert FSAMUAP(stages=stages[0])._stages(victim) == (stages[0],)


@pytest.mark.parametrize("stages", ["layer2", "early,layer2", "Early", "stem"])
@pytest.mark.parametrize("more", ["", ",level=feature", ",preset=strong"])
def test_a_stage_that_is_not_there_is_refused_before_any_work(where, stages, more):
    victim = Counted(num_classes=6).eval()
    victim.passes.clear()
    with pytest.raises(BadInput, match="unknown stage of mine"):
        evaluate(victim, ["noise", f"fsam_uap[stages={stages}{more}]"], ignore_gates=True, **where)
    assert victim.passes == []


def test_attacks_that_do_not_fit_are_refused_before_any_work(where):
    class Bare(Counted):
        stages = ()

    victim = Bare(num_classes=6).eval()
    victim.passes.clear()
    needing = [name for name in attacks.names() if "stages" in attacks.load(name).needs]
    assert needing == ["fsam_uap"]
    with pytest.raises(BadInput, match="mine declares no stages"):
        evaluate(victim, ["noise", *needing], ignore_gates=True, **where)
    victim.num_classes = 0
    with pytest.raises(BadInput, match="needs an identity classifier; mine has none"):
        evaluate(victim, ["noise", "fgsm"], ignore_gates=True, **where)
    assert victim.passes == []


@pytest.mark.parametrize("kind", ["sparse", "extra", "lazy", "option"])
def test_what_could_not_be_recorded_is_refused_before_any_work(where, kind):
    victim = Counted(num_classes=6).eval()
    if kind == "sparse":
        victim.register_buffer("graph", torch.eye(2).to_sparse())
    elif kind == "extra":
        type(victim).get_extra_state = lambda self: {"scale": 1}
    elif kind == "lazy":
        victim.more = torch.nn.LazyLinear(2)
    else:
        victim.width = torch.ones(1)
    victim.passes.clear()
    try:
        with pytest.raises(BadInput, match="victim 'mine'"):
            evaluate(victim, "noise", ignore_gates=True, **where)
    finally:
        if kind == "extra":
            del type(victim).get_extra_state
    assert victim.passes == []


def test_a_stage_without_a_map_is_one_line(where):
    class Forgets(Mine):
        def forward(self, images, modality, edits=None):
            found = super().forward(images, modality, edits)
            found.features = {name: found.features[name] for name in ("early",)}
            return found

    with pytest.raises(Exception, match="stage late is declared, and its pass returns no map of it"):
        evaluate(Forgets(num_classes=6).eval(), MODULES, ignore_gates=True, **where)


def test_by_path_with_the_number_of_classes(vbench, quick, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from own_victim import Mine\n\n\nclass Own(Mine):\n    name = 'own'\n")
    torch.save({"model": Mine(num_classes=10).state_dict()}, tmp_path / "w.pth")
    run = ("run", "--attack", "noise", "--dataset", "sysu", "--root", quick.root, "--quiet", "--ignore-gates")
    run += ("--weights", tmp_path / "w.pth", "--runs", tmp_path / "runs", "--format", "csv")
    for options in ("", "[num_classes=10]"):
        assert "own" in vbench(*run, "--victim", f"{file}:Own{options}").stdout
    done = vbench(*run, "--victim", f"{file}:Own[num_classes=11]", expect=2)
    assert "knows 10 identities, not 11" in done.stderr.replace("\n", " ")


def test_the_paper_attack_has_no_other_default():
    assert build_attack("fsam_uap").stages is None
    assert build_attack("fsam_uap[stages=none]") == build_attack("fsam_uap")
