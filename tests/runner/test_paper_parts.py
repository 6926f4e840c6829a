"""Parts of ``vbench paper``: rows to attacks, whose weights, how long it will take, splits of RegDB."""

from __future__ import annotations

import pytest
from rich.progress import Progress

from vbench.attacks.build import label
from vbench.core import progress
from vbench.core.errors import BadInput
from vbench.core.progress import Display, shared, track
from vbench.records.record import Record
from vbench.records.spec import DataSpec, ModelSpec, RunSpec, Setup
from vbench.sweep.paper import (
    ABLATION,
    ATTENTION,
    BLOCKS,
    SUITES,
    Line,
    Settings,
    expand,
    question,
    read_weights,
    suites_called,
    victims_of,
    weights_of,
)
from vbench.sweep.tasks import Durations

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")


def test_the_ablation_is_every_combination_of_three_switches_once():
    attacks = [Settings().attack(line, "pixel", STAGES) for line in ABLATION.lines]
    assert len({(one.fsam, one.sfm, one.aqal) for one in attacks}) == 8
    for line, attack in zip(ABLATION.lines, attacks, strict=True):
        named = [part for part in ("FSAM", "SFM", "AQAL") if part in line.name]
        on = [name for name in ("fsam", "sfm", "aqal") if getattr(attack, name)]
        assert [part.lower() for part in named] == on and attack.identity
        assert (attack.anchors, attack.stages) == ("adversarial", "ends"), "the published reading"


def test_the_whole_method_is_one_run_in_every_suite():
    rows = {"comparison": -1, "systems": 0, "ablation": -1, "attention": -1}
    attacks = {Settings().attack(SUITES[name].lines[row], "pixel", STAGES) for name, row in rows.items()}
    assert {label(one) for one in attacks} == {"fsam_uap[preset=paper]"}


def test_blocks_are_the_stages_of_the_victim_in_forward_order():
    found = [Settings().attack(line, "pixel", STAGES).stages for line in BLOCKS.lines]
    assert found == [*STAGES, "all"]
    other = Settings().attack(BLOCKS.lines[1], "pixel", ("patches", "quarter1"))
    assert other.stages == "quarter1"
    with pytest.raises(BadInput, match="there is no block2: its stages are patches, quarter1"):
        Settings().attack(BLOCKS.lines[2], "pixel", ("patches", "quarter1"))


def test_presets_and_levels():
    full, plain = ABLATION.lines[-1], ABLATION.lines[0]
    assert Settings().attack(full, "feature", STAGES).level == "feature"
    assert Settings().attack(plain, "feature", STAGES).level == "pixel", "it has no modules to keep"
    assert Settings("default").attack(full, "pixel", STAGES).stages is None, "the usual one"
    assert Settings().attack(plain, "model", STAGES).level == "model"
    assert "model" not in {one.name for one in suites_called("all")}
    strong = Settings("strong")
    assert not strong.attack(SUITES["systems"].lines[0], "feature", STAGES).tampers
    assert strong.attack(ATTENTION.lines[0], "feature", STAGES).tampers, "attention needs its modules"


@pytest.mark.parametrize(
    ("settings", "suite", "message"),
    [
        (Settings("papre"), "ablation", "did you mean 'paper'"),
        (Settings(common={"evalutions": "9"}), "ablation", "did you mean 'evaluations'"),
        (Settings(common={"evaluations": "few"}), "ablation", "evaluations='few'"),
        (Settings(common={"fsam": "false"}), "ablation", "the rows of 'ablation' set it themselves"),
        (Settings(common={"stages": "layer1"}), "all", "the rows of 'blocks' set it themselves"),
        (Settings(common={"level": "feature"}), "comparison", "use --level"),
        (Settings(common={"evaluations": "9"}), "model", "use --set epochs=2"),
    ],
)
def test_settings_are_checked_before_any_work(settings, suite, message):
    with pytest.raises(BadInput, match=message):
        settings.check(suites_called(suite))


def test_common_settings_reach_the_attacks_that_have_them():
    settings = Settings(common={"steps": "3", "evaluations": "640"})
    settings.check(suites_called("comparison"))
    built = {one.name: settings.attack(one, "pixel", STAGES) for one in SUITES["comparison"].lines}
    assert (built["PGD"].steps, built["UAP (Li)"].evaluations, built["FSAM-UAP"].evaluations) == (3, 640, 640)


def test_weights_are_named_or_alone():
    sysu = "sysu/all/single/ir2vis/seed10"
    assert weights_of(read_weights(["a=b.t"]), "agw", sysu) == "a=b.t"
    both = read_weights(["agw=a.t", "deen[embedding=weighted]=d{trial}.t"])
    assert weights_of(both, "deen[embedding=weighted]", "regdb/vis2ir/trial-7") == "d7.t"
    assert weights_of(both, "mrcn", sysu) is None
    with pytest.raises(BadInput, match="has no trial"):
        weights_of(both, "deen[embedding=weighted]", sysu)
    for texts, victims in ((["x.t"], ["agw", "ddag"]), (["x.t", "agw=a.t"], ["agw"])):
        with pytest.raises(BadInput, match=r"name its victim, as in --weights agw=x\.t"):
            victims_of([ABLATION], victims, read_weights(texts), "sysu")
    with pytest.raises(BadInput, match="name its victim"):
        read_weights(["x.t", "y.t"])
    with pytest.raises(BadInput, match="'ddag' is not among the victims"):
        victims_of([ABLATION], ["agw"], read_weights(["ddag=x.t"]), "sysu")


def test_victims_are_the_asked_the_papers_or_those_with_weights(capsys):
    systems, ablation = SUITES["systems"], ABLATION
    drawn, real = "synthetic", "sysu"
    assert victims_of([systems], (), {}, drawn) == {"systems": list(systems.victims)}
    assert victims_of([systems], ["pmt"], {}, real) == {"systems": ["pmt"]}
    named = read_weights(["mrcn=a", "agw=b"])
    assert victims_of([systems, ablation], (), named, real) == {
        "systems": ["agw", "mrcn"],
        "ablation": ["agw"],
    }
    assert "systems leaves out hcloss, caj, mmn, deen, ddag:" in capsys.readouterr().err
    assert victims_of([ablation], (), read_weights(["pmt=a"]), real) == {"ablation": ["pmt"]}


def test_regdb_without_a_split_is_all_ten():
    assert len(expand(["regdb/vis2ir"])) == 10
    assert expand(["regdb/vis2ir/trial-2", "regdb/vis2ir"])[0] == "regdb/vis2ir/trial-2"
    assert len(expand(["regdb/vis2ir/trial-2", "regdb/vis2ir"])) == 10
    assert expand(["llcm/ir2vis/seed10"]) == ["llcm/ir2vis/seed10"]
    assert {question(one) for one in expand(["regdb/ir2vis"])} == {"regdb/ir2vis"}


def record(seconds, label_="uap"):
    config = {"victim": {"name": "agw"}, "attack": {"name": "uap"}}
    cost = {"fit_seconds": seconds, "attack_seconds": 1.0}
    facts = {"protocol": "p", "synthetic": True, "clean": [], "adversarial": [], "cost": cost}
    return Record.model_construct(id="x", config=config, label=label_, victim_label="agw", **facts)


def run(attack="uap", victim="agw", **settings):
    group = Setup(DataSpec("sysu", "sysu", "p"), ModelSpec(victim))
    return RunSpec(group, attack, tuple((name, str(value)) for name, value in settings.items()))


def test_durations_come_from_the_nearest_kind_and_watched_runs_are_believed():
    known = Durations([record(9)])
    assert known.of(run()) == 10
    assert known.of(run(evaluations=38400)) == 30, "by gradient evaluations"
    assert known.of(run("fsam_uap", evaluations=25600)) == 20, "of any fit"
    assert known.of(run(victim="mrcn")) == 10, "the attack on another victim"
    pgd = run("pgd")
    assert known.of(pgd) is None
    known.add(run(), 30)
    assert known.of(run()) == 30
    assert known.left([run(), run()]) == "about 1 min 0 s left"
    assert known.left([run(), pgd]) == "more than 30 s left (1 of unknown length)"
    assert known.left([pgd]) == "time left unknown" and known.left([]) == "nothing left"


def test_bars_of_a_run_appear_in_the_display_of_the_runs(monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Progress(console=progress.console) as bars, shared(bars):
        steps = track(range(3), "learning", total=3)
        next(steps)
        assert [task.description for task in bars.tasks] == ["learning"]
        assert list(steps) == [1, 2] and not bars.tasks
    tasks = [run("pgd[steps=3]"), run()]
    with Display(tasks, 1, Durations()) as display:
        for task in tasks:
            display.begin(task)
            assert list(track(range(2), "inside")) == [0, 1]
            display.done(task, 3.0)
    assert list(track(range(2), "alone again")) == [0, 1]


def test_every_line_is_an_attack_that_exists():
    for suite in SUITES.values():
        Settings().check([suite])
        assert len({line.name for line in suite.lines}) == len(suite.lines)
        assert all(isinstance(line, Line) for line in suite.lines)
