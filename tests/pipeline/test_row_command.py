"""The command printed for a row: run again, it names the same configuration.

Everything of ``vbench run`` happens but for the attack itself: what names a configuration comes before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from vbench.attacks.build import build_attack
from vbench.attacks.perturbation import Perturbation
from vbench.core.settings import parse
from vbench.data.synthetic import write_dataset
from vbench.data.synthetic.embedded import SyntheticSet
from vbench.records.command import command
from vbench.records.record import Record, TrialMetrics, config_id
from vbench.records.store import RunStore
from vbench.run.execute import Run
from vbench.victims.agw import AGW
from vbench.victims.base import default_options
from vbench.victims.build import read_victim
from vbench.victims.checkpoint import write_checkpoint
from vbench.victims.registry import VICTIMS, victims

IDS, SIZE = 6, (64, 32)


@dataclass(frozen=True)
class Files:
    """A set of six people, and weights that nobody trained."""

    root: Path
    weights: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    root = write_dataset("sysu", folder / "data", IDS, seed=3, size=SIZE, test_ids=3, quiet=True)
    victim = AGW(num_classes=IDS, **{**AGW.THIN, "width": 0.125, "input_size": SIZE})
    weights = folder / "agw.safetensors"
    write_checkpoint(weights, victim.state_dict(), {"victim": "agw", "options": victim.describe()})
    return Files(root, weights)


@pytest.fixture
def ran(vbench, tmp_path, monkeypatch):
    """Call ``vbench run``; returns the records it would store."""

    def execute(run, *_):
        config, size = run.config(), {"linf_levels": 8.0, "changed_share": 1.0, "psnr_db": 30.0}
        values = dict.fromkeys(("r1", "r5", "r10", "r20", "map", "minp", "tied_share"), 0.5)
        trials = [TrialMetrics(trial="0", queries=1, skipped=0, **values)]
        facts = {"protocol": config["dataset"]["protocol"], "synthetic": True, "size": size}
        facts["asked"] = run.asked()
        made = Record(id=config_id(config), config=config, clean=trials, adversarial=trials, **facts)
        return made, None

    monkeypatch.setattr(Run, "execute", execute)
    monkeypatch.setattr(Run, "fits", lambda run: [])

    def call(*arguments):
        runs = tmp_path / f"runs-{len(list(tmp_path.iterdir()))}"
        vbench("run", *arguments, "--runs", runs, "--quiet")
        return RunStore(runs).read_all().records

    return call


def ids(records):
    return sorted(record.id for record in records)


def words(records, **given):
    """The command of records with files in the places of what it leaves open."""
    found = [str(given.get(word, word)) for word in command(records).words]
    assert found[:2] == ["vbench", "run"]
    return found[2:]


CASES = {
    "seeds": ["--attack", "noise", "--seed", "3", "--seed", "1"],
    "settings": ["--attack", "metric_ifgsm[steps=2,guides=training,step_size=1/255]"],
    "preset": ["--attack", "metric_ifgsm[preset=original,steps=1]"],
    "stages": ["--attack", "fsam_uap[level=feature,stages=stem,layer1,sfm=false]"],
    "battery": ["--attack", "ensemble"],
    "library": ["--attack", "torchattacks:PGD[steps=3]"],
    "budget": ["--attack", "noise", "--eps", "0.0123456789", "--no-quantize", "--side", "both"],
    "norm": ["--attack", "noise", "--norm", "l2", "--eps", "1.5"],
    "victim": ["--attack", "noise", "--victim", "agw[flip=true]"],
    "layout": ["--attack", "noise", "--precision", "bfloat16", "--channels-last"],
}


@pytest.mark.parametrize("arguments", CASES.values(), ids=CASES)
def test_the_command_of_a_row_names_its_configuration(files, ran, arguments):
    victim = [] if "--victim" in arguments else ["--victim", "agw"]
    data = ["--dataset", "sysu", "--root", files.root, "--weights", files.weights]
    records = ran(*data, *victim, *arguments)
    assert ids(ran(*words(records, FOLDER=files.root, WEIGHTS=files.weights))) == ids(records)


def test_a_transfer_names_its_surrogates(files, ran):
    pair = ["--surrogate", "agw", "--surrogate", "agw[flip=true]"]
    pair += ["--surrogate-weights", files.weights] * 2
    data = ["--dataset", "sysu", "--root", files.root, "--weights", files.weights]
    records = ran(*data, "--victim", "agw", "--attack", "noise", *pair)
    given = {"FOLDER": files.root, "WEIGHTS": files.weights, "WEIGHTS_OF_AGW": files.weights}
    assert ids(ran(*words(records, **given))) == ids(records)


def test_a_replay_names_its_perturbation(files, ran, tmp_path):
    attack = build_attack("uap[evaluations=96,batch=48]")
    facts = {"attack": "uap", "settings": attack.settings()}
    learnt = tmp_path / "uap.safetensors"
    Perturbation(torch.full((3, *SIZE), 8 / 255)).with_provenance(**facts).save(learnt)
    data = ["--dataset", "sysu", "--root", files.root, "--weights", files.weights]
    records = ran(*data, "--victim", "agw", "--attack", "uap", "--perturbation", learnt)
    given = {"FOLDER": files.root, "WEIGHTS": files.weights, "PERTURBATION": learnt}
    assert records[0].config["perturbation"]
    assert ids(ran(*words(records, **given))) == ids(records)


def test_the_built_in_set_and_its_victim_need_no_file(files, ran, monkeypatch):
    class Small(SyntheticSet):
        ids = IDS

        def __init__(self, layout="sysu", size=SIZE, **_):
            super().__init__(layout, IDS, 3, 3, size)

    asked = []

    def weights(spec, *_, **__):
        asked.append(spec.options)
        return files.weights

    monkeypatch.setattr("vbench.run.prepare.SyntheticSet", Small)
    monkeypatch.setattr("vbench.run.prepare.thin_weights", weights)
    monkeypatch.setattr("vbench.records.command.SyntheticSet", Small)
    records = ran("--victim", "agw[width=0.125]", "--attack", "noise")
    assert not command(records).notes
    assert ids(ran(*words(records))) == ids(records)
    assert asked == [{"width": 0.125}] * 2


@pytest.mark.parametrize("name", victims.names())
def test_what_is_known_of_a_victim_is_what_it_says(name):
    cls = victims.load(name)
    usual = {name: list(v) if isinstance(v, tuple) else v for name, v in default_options(cls).items()}
    for known, options in (
        (VICTIMS[name].full, usual),
        (VICTIMS[name].thin, cls(num_classes=5, **cls.THIN).describe()),
    ):
        assert known == {k: v for k, v in options.items() if k not in ("num_classes", "input_size")}


@pytest.mark.parametrize("name", victims.names())
def test_options_that_are_not_usual_are_said_and_read_back(name):
    from vbench.records.command import _victim

    cls = victims.load(name)
    options = {"num_classes": 400, "input_size": [64, 32], **VICTIMS[name].thin}
    assert _victim(name, options, True, []) == name
    changed = {**options, "flip": not options["flip"]}
    text = _victim(name, changed, True, [])
    assert parse(text, "victim")[1] == {"flip": str(changed["flip"]).lower()}
    spec = read_victim(_victim(name, changed, False, []))
    given = {**spec.options, "num_classes": 400}
    assert cls(**{**cls.THIN, **given}).describe() == changed


DATA = {"files": [], "weights on the built-in set": ["--dataset", "synthetic"]}
THREATS = {
    "l2": ["--norm", "l2", "--eps", "2"],
    "linf": ["--eps", "4/255", "--side", "gallery", "--no-quantize"],
}
COMPUTING = {"plain": [], "narrow": ["--precision", "bfloat16"], "layout": ["--channels-last"]}
GATES = {"gated": [], "ungated": ["--ignore-gates"]}


@pytest.mark.parametrize("gates", GATES.values(), ids=GATES)
@pytest.mark.parametrize("computing", COMPUTING.values(), ids=COMPUTING)
@pytest.mark.parametrize("threat", THREATS.values(), ids=THREATS)
@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
@pytest.mark.slow
def test_every_option_comes_back(files, ran, monkeypatch, data, threat, computing, gates):
    class Small(SyntheticSet):
        def __init__(self, layout="sysu", size=SIZE, **_):
            super().__init__(layout, IDS, 3, 3, size)

    monkeypatch.setattr("vbench.run.prepare.SyntheticSet", Small)
    data = data or ["--dataset", "sysu", "--root", files.root]
    attack = ["--attack", "metric_ifgsm[steps=2]", "--seed", "4"]
    records = ran(*data, "--victim", "agw", "--weights", files.weights, *attack, *threat, *computing, *gates)
    found = words(records, FOLDER=files.root, WEIGHTS=files.weights)
    assert ("--ignore-gates" in found) == bool(gates) and ("--root" in found) == ("--root" in data)
    assert ids(ran(*found)) == ids(records)
