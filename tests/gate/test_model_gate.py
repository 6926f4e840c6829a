"""``vbench check --victim``: is another model as strong as the baseline's? Floors, verdicts and refusals."""

from __future__ import annotations

import copy
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import torch
from gate.test_gate_verdicts import takings

import vbench.victims
from vbench.core.errors import BadInput
from vbench.data.synthetic import write_dataset
from vbench.gate.compare import Verdict
from vbench.gate.floors import floors_of, judge, model_baseline, needed
from vbench.gate.report import render, summary, to_junit
from vbench.victims.checkpoint import read_checkpoint, write_checkpoint

(SHIPPED,) = (Path(vbench.victims.__file__).parent / "weights").glob("agw-*.safetensors")
FSAM = "fsam_uap[preset=strong,fsam=true,evaluations=3200]"


def judged(baseline, found, *given, tolerance=None):
    floors = floors_of(baseline, given, tolerance, len(baseline.seeds))
    return judge(needed(baseline, floors), found, baseline.seeds, floors)


def weakened(baseline, attack, figure, points):
    """A re-run in which the attack takes this many points more from the model."""
    found = takings(baseline)
    one = next(one for one in found.attacks if one.place.attack == attack)
    one.values[f"drop_{figure}"] = [value + points / 100 for value in one.values[f"drop_{figure}"]]
    return found


def test_the_shipped_model_passes_its_baseline_and_fails_it_with_noise_added(vbench, tmp_path):
    root = write_dataset("sysu", tmp_path / "set", ids=2, seed=0, size=(64, 32), test_ids=8, quiet=True)
    baseline, noisy = tmp_path / "baseline.json", tmp_path / "noisy.safetensors"
    shipped = read_checkpoint(SHIPPED)
    generator = torch.Generator().manual_seed(0)
    for value in shipped.state.values():
        if value.ndim > 1:
            value += 0.5 * value.std() * torch.randn(value.shape, generator=generator)
    write_checkpoint(noisy, shipped.state, shipped.metadata)
    model = ("--victim", "agw", "--weights", SHIPPED, "--quiet")
    what = ("--attack", "metric_ifgsm[steps=1]", "--eps", "2/255", "--dataset", "sysu", "--root", root)
    # Few people are quick to draw; the model knows more.
    vbench("baseline", *model, *what, "--ignore-gates", "--seeds", 4, "--out", baseline)
    same = vbench("check", baseline, *model)
    assert same.stdout.splitlines()[-1] == "green: model holds 4 floors (4 seeds)"
    worse = vbench("check", baseline, "--victim", "agw", "--weights", noisy, "--quiet", expect=1)
    assert "red: model weaker on clean images by " in worse.stdout
    assert "; model weaker under metric_ifgsm[steps=1] by " in worse.stdout
    assert "other weights" not in worse.stdout
    none = vbench("check", baseline, "--victim", "agw", "--weights", tmp_path / "none", expect=2)
    assert f"{tmp_path / 'none'}: no such weights file" in none.stderr


@pytest.mark.parametrize(("points", "green"), [(1.99, True), (2.01, False), (-30, True)])
def test_a_model_may_lie_the_tolerance_below_the_baseline_and_any_way_above(baseline, points, green):
    gate = judged(baseline, weakened(baseline, "pgd", "r1", points))
    assert gate.green == green
    last = render(gate).splitlines()[-1]
    if green:
        assert last == f"green: model holds {len(gate.rows)} floors (20 seeds)"
    else:
        assert last == "red: model weaker under pgd by 2.01 points (r1) (20 seeds)"
        assert [row.word for row in gate.moved] == ["model weaker"]
    assert judged(baseline, weakened(baseline, "pgd", "r1", points), tolerance=2.5).green


def test_floors_that_are_asked_for_replace_those_of_the_baseline(baseline):
    clean = 100 * baseline.victims[0].metrics["r1"].mean
    left = clean - 100 * next(a for a in baseline.attacks if a.attack == "pgd").metrics["drop_r1"].mean
    found = weakened(baseline, "pgd", "r1", 3)
    assert judged(baseline, found, f"clean.r1={clean - 1}", f"pgd.r1={left - 3.1}").green
    assert not judged(baseline, found, f"clean.r1={clean - 1}", tolerance=2).green
    gate = judged(baseline, found, f"pgd.r1={left - 1}")
    assert {row.subject.attack for row in gate.rows} == {"pgd"}
    assert render(gate).endswith("red: model weaker than asked under pgd by 2.00 points (r1) (20 seeds)")


def test_other_weights_are_expected_and_other_images_are_not(baseline):
    found = takings(baseline)
    for one in (*found.victims, *found.attacks):
        one.config["victim"] = {"name": "other", "weights": "0" * 16}
    assert judged(baseline, found).green and not judged(baseline, found).causes
    for one in (*found.victims, *found.attacks):
        one.config["dataset"] = one.config["dataset"] | {"fingerprint": "1" * 16}
    assert {row.verdict for row in judged(baseline, found).moved} == {Verdict.CHANGED}


def test_what_failed_or_was_not_run_is_red_and_the_rest_is_judged(baseline):
    found = takings(baseline)
    (clean,) = found.victims
    clean.values["r1"] = [clean.values["r1"][0] - 0.1]
    found.attacks = [one for one in found.attacks if one.place.attack != "fgsm"]
    lost = next(one for one in found.attacks if one.place.attack == "pgd")
    lost.values.clear()
    lost.failures = dict.fromkeys(baseline.seeds, "not finite")
    last = render(judged(baseline, found)).splitlines()[-1]
    assert last.startswith(
        "red: model weaker on clean images by 10.00 points (r1); model weaker under noise by "
    )
    assert "; agw, fgsm: was not run; agw, pgd: not finite; " in last


def test_attacks_are_named_in_full_or_without_their_settings(baseline):
    for name in ("fsam_uap", FSAM):
        (((key, figure), floor),) = floors_of(baseline, [f"{name}.map=12.5"], None, 20).items()
        assert (key[2], figure, floor.least, floor.asked) == (FSAM, "map", 0.125, True)
    two = baseline.model_copy(deep=True)
    two.attacks.append(two.attacks[2].model_copy(update={"attack": "fsam_uap[rate=1]"}))
    with pytest.raises(BadInput, match=r"may be fsam_uap.*, as in the baseline"):
        floors_of(two, ["fsam_uap.r1=40"], None, 20)
    assert floors_of(two, [f"{FSAM}.r1=40"], None, 20)
    # An attack without settings is named by its name, whatever others there are.
    two.attacks[-1].attack = "pgd[steps=1]"
    ((key, _),) = floors_of(two, ["pgd.r1=40"], None, 20)
    assert key[2] == "pgd"


@pytest.mark.parametrize(
    ("given", "tolerance", "said"),
    [
        (["clean.r2=70"], None, "did you mean 'clean.r1'"),
        (["upa.r1=70"], None, "unknown figure in --min 'upa.r1'; did you mean"),
        (["r1=70"], None, "did you mean"),
        (["clean.r1"], None, "as in clean.r1=70"),
        ([FSAM + ".r1"], None, "as in clean.r1=70"),
        (["clean.r1=0.7"], None, "give percent from 1 to 100"),
        (["clean.r1=101"], None, "give percent from 1 to 100"),
        (["clean.r1=nan"], None, "give percent from 1 to 100"),
        (["clean.r1=high"], None, "give percent from 1 to 100"),
        (["clean.r1=70", "clean.r1=60"], None, "clean.r1 is given twice"),
        (["fsam_uap.r1=30", f"{FSAM}.r1=30"], None, "is given twice"),
        ([], -1.0, "--tolerance -1"),
        ([], float("nan"), "--tolerance nan"),
        ([], 99.0, "no model could be called weaker"),
    ],
)
def test_a_floor_that_cannot_be_is_refused(baseline, given, tolerance, said):
    with pytest.raises(BadInput, match=said):
        floors_of(baseline, given, tolerance, 20)


def test_a_baseline_that_guards_nothing_is_refused_unless_floors_are_given(baseline):
    wide, without = baseline.model_copy(deep=True), baseline.model_copy(deep=True)
    object.__setattr__(wide.attacks[2].metrics["drop_r1"], "sd", 1.0)
    del without.attacks[2].metrics["drop_r1"]
    for one in (wide, without):
        with pytest.raises(BadInput, match=r"agw, pgd: r1 varies so much .* more --seeds"):
            floors_of(one, [], None, 20)
        assert judged(one, takings(baseline), "pgd.r1=1").rows


def test_a_figure_below_the_tolerance_cannot_fall_by_it(baseline):
    crushed = weakened(baseline, "odfa", "r1", 0)
    points = 100 * max(
        baseline.victims[0].metrics[name].mean - attack.metrics[f"drop_{name}"].mean
        for attack in baseline.attacks
        for name in ("r1", "map")
    )
    floors = floors_of(baseline, [], points - 1, 20)
    assert {floor.least > 0 for (key, _), floor in floors.items() if key[2]} == {True, False}
    assert judged(baseline, crushed, tolerance=points - 1).green


def test_another_model_is_compared_with_the_only_victim_or_the_one_of_its_name(baseline):
    other = model_baseline(baseline, "deen", has_weights=True)
    assert other.request.victims == ("deen",) and {one.victim for one in other.subjects} == {"deen"}
    assert [one.metrics for one in other.subjects] == [one.metrics for one in baseline.subjects]
    assert model_baseline(baseline, None, False).subjects == baseline.subjects
    with pytest.raises(BadInput, match=r"agw.safetensors, are of agw: give --weights of deen"):
        model_baseline(baseline, "deen", has_weights=False)
    with pytest.raises(BadInput, match="did you mean 'deen'"):
        model_baseline(baseline, "dean", has_weights=True)
    two = baseline.model_copy(deep=True)
    two.victims += [one.model_copy(update={"victim": "caj"}) for one in two.victims]
    two.attacks += [one.model_copy(update={"victim": "caj"}) for one in two.attacks[:1]]
    assert len(model_baseline(two, "caj", True).attacks) == 1
    for victim in (None, "deen"):
        with pytest.raises(BadInput, match="--victim must be one of agw, caj"):
            model_baseline(two, victim, has_weights=True)


def test_only_the_attacks_with_floors_are_run_and_one_for_clean_floors(baseline):
    def run(*given):
        return needed(baseline, floors_of(baseline, given, None, 20)).request.attacks

    assert run("fsam_uap.r1=20", "clean.r1=20") == (FSAM,)
    assert run("clean.r1=20") == (baseline.request.attacks[0],)
    assert run() == baseline.request.attacks


def test_files_for_ci_say_what_is_weaker(baseline):
    gate = judged(baseline, weakened(baseline, "pgd", "map", 5))
    assert ET.fromstring(to_junit(gate)).get("failures") == "1"
    assert "model weaker under pgd by 5.00 points" in summary(gate).splitlines()[0]
    assert "model weaker" in summary(gate).split("<details>")[0]


def test_update_is_for_the_project(vbench, tmp_path, baseline):
    path = tmp_path / "baseline.json"
    path.write_text(copy.deepcopy(baseline).model_dump_json())
    done = vbench("check", path, "--update", "--tolerance", 2, expect=2)
    assert "for another, vbench baseline makes one" in done.stderr
