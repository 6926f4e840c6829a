"""Every field of a record, changed by a stranger, is refused by name, or listed as what nobody can check."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from handed_in import (
    changed,
    judged,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from vbench.records.record import CompressedArray, Record
from vbench.reports.verify import Mark, parse, verify

# What can be changed without contradicting anything else in the record: nobody can check it.
FREE = (
    r"created",
    r"config\.seed|config\.threat\.quantize",
    r"config\.victim\.weights|config\.dataset\.(training|fingerprint)|config\.perturbation",
    r"config\.(victim|surrogate)\.options\..*",
    r"config\.attack\.settings\..*",
    # Another version than this one's is marked, not refused.
    r"config\.(victim|attack)\.version",
    r"config\.victim\.precision\.(autocast|float32\.convolution)",
    r"asked\..*",
    r"(clean|adversarial)\[\d+\]\.(tied_share|minp)",
    r"size\.(l2|psnr_db|ssim|changed_share|asked)",
    r"cost\.(peak_memory|attack_seconds|images_per_second|fit_.*|queries_per_image)",
    r"environment\..*",
    r"chance\..*",
    r"warnings|warnings\[\d+\]|fit_log.*",
)
# Only the order of the bounds, and that the drop lies between them, is checked: the test moves them far.
FAR = {r"drop_interval\..*\[0\]": 0.9999, r"drop_interval\..*\[1\]": -0.9999}
# Names that only show in what is built of them.
TOLD_BY = {"config.attack.name": "label", "config.victim.name": "victim_label"}


def leaves(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths of all values that are neither dictionary nor list."""
    if isinstance(value, (dict, list)) and value:
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(one, (*path, key))
    else:
        yield path


def shown(path: tuple) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def other(value: Any, name: str = "") -> Any:
    """A value of the same type that is not the same."""
    far = [number for pattern, number in FAR.items() if re.fullmatch(pattern, name)]
    if far:
        return far[0]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 0.99 + 0.001 if value else 0.5
    if isinstance(value, str):
        return f"{value[:-1]}{'x' if value[-1:] != 'x' else 'y'}"
    return {"a": 1} if isinstance(value, dict) else ["x"] if isinstance(value, list) else "x"


def put(record: dict, path: tuple, value: Any) -> None:
    for part in path[:-1]:
        record = record[part]
    record[path[-1]] = value


def at(record: dict, path: tuple) -> Any:
    for part in path:
        record = record[part]
    return record


def test_every_field_is_refused_by_name_or_known_to_be_free(honest):
    passed = []
    for path in leaves(honest):
        name = shown(path)
        if name.startswith("per_query") or any(re.fullmatch(free, name) for free in FREE):
            continue
        forged = changed(honest, lambda r, path=path: put(r, path, other(at(r, path), shown(path))))
        reasons = judged(forged, hashed=path not in (("id",), ("digest",))).reasons
        if not reasons:
            passed.append(name)
            continue
        # The message names the field, or the part of it that is told from it.
        field = TOLD_BY.get(name, re.sub(r"\[\d+\]", "", name)).split(".")
        assert any(part in " ".join(reasons) for part in (name, field[-1], field[0])), (name, reasons)
    assert passed == []


def test_what_is_said_to_be_free_is(honest):
    """The list of what nobody can check does not hide what somebody could."""
    for path in leaves(honest):
        name = shown(path)
        free = [one for one in FREE if re.fullmatch(one, name)]
        if not free or name.startswith(("config", "created", "asked", "environment", "warnings", "fit_log")):
            continue
        forged = changed(
            honest, lambda record, path=path: put(record, path, at(record, path) * 1.0001 + 1e-7)
        )
        # Shares, which may be 1 already.
        if "tied_share" not in name and not name.startswith("chance"):
            assert judged(forged).reasons == [], name


def test_without_a_new_hash_no_part_of_the_configuration_can_change(honest):
    for path in leaves(honest["config"]):
        forged = changed(honest, lambda r, path=path: put(r["config"], path, other(at(r["config"], path))))
        assert judged(forged, hashed=False).reasons, shown(path)


# ------------------------------------------------------------- a forger who hashes again


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.update(schema_version=2), "schema_version: 2"),
        (lambda r: r["config"]["dataset"].update(protocol="sysu/all/single/ir2vis/seed11"), "seed11"),
        (lambda r: r["config"]["dataset"].update(name="llcm"), "config.dataset.name: llcm"),
        (lambda r: r["config"]["dataset"].update(split="regdb/trial-1"), "config.dataset.split"),
        (lambda r: r["config"]["dataset"].update(fingerprint="<b>"), "config.dataset.fingerprint"),
        (lambda r: r["config"]["victim"].update(weights="none"), "config.victim.weights"),
        (lambda r: r["config"].update(note="mine"), "config.note"),
        (lambda r: r["config"].pop("seed"), "config.seed"),
        (lambda r: r["config"].update(seed=-1), "config.seed"),
        (lambda r: r["config"].update(perturbation="ab" * 32), "config.perturbation"),
        (lambda r: r["config"]["threat"].update(eps="4/255"), "config.threat.eps_value"),
        (
            lambda r: r["config"]["threat"].update(eps="4/255", eps_value=4 / 255),
            "size.linf_levels: 8 levels",
        ),
        (lambda r: r["config"]["threat"].update(eps="16/510"), "is written 8/255"),
        (lambda r: r["config"]["threat"].update(eps="8", eps_value=8.0), "did you mean 8/255"),
        (lambda r: r["config"]["threat"].update(side="everything"), "config.threat.side"),
        (lambda r: r["config"]["threat"].update(norm="l0"), "config.threat.norm"),
        (lambda r: r["size"].update(linf_levels=9.0), "size.linf_levels: 9 levels"),
        (lambda r: r["size"].update(linf_levels=7.5), "not a whole level"),
        (lambda r: r["size"].pop("linf_levels"), "size.linf_levels: absent"),
        (lambda r: r["config"]["attack"]["settings"].update(steps=-3), "config.attack.settings.steps"),
        (lambda r: r["config"]["attack"]["settings"].update(step=3), "settings.step:"),
        (lambda r: r["config"]["attack"]["settings"].update(guides="gallery"), "knowledge: []"),
        (lambda r: r["config"]["attack"]["settings"].update(steps=30), "label: 'metric_ifgsm[steps=3]'"),
        (lambda r: r.update(knowledge=["gallery"]), "knowledge: ['gallery']"),
        (lambda r: r.update(universal=True), "universal: True"),
        (lambda r: r.update(level="feature"), "level: 'feature'"),
        (lambda r: r.update(stealthy=True), "stealthy: True"),
        (lambda r: r.update(label="sma"), "label: 'sma'"),
        (lambda r: r.update(victim_label="deen"), "victim_label: 'deen'"),
        (lambda r: r["config"]["victim"]["options"].update(embedding="pooled"), "victim_label"),
        (lambda r: r["config"]["victim"]["options"].update(depth=50), "config.victim.options.depth"),
        (lambda r: r["config"]["victim"]["options"].pop("flip"), "config.victim.options.flip"),
        (lambda r: r.update(surrogate="deen"), "surrogate: 'deen'"),
        (lambda r: r["config"].update(surrogate=r["config"]["victim"]), "surrogate"),
        (lambda r: r.update(synthetic=False), "synthetic: False"),
        (lambda r: (r.update(synthetic=False), r["config"]["dataset"].update(synthetic=False)), "3803"),
        (lambda r: r["clean"].pop(), "clean has 9"),
        (lambda r: r["adversarial"].reverse(), "adversarial: trials"),
        (lambda r: r["adversarial"][2].update(skipped=3), "adversarial[2].queries"),
        (
            lambda r: [t.update(queries=10**9) for t in r["clean"] + r["adversarial"]],
            "queries: Input",
        ),
        (
            lambda r: r["adversarial"][0].update(map=math.nan),
            "adversarial.0.map: Input",
        ),
        (lambda r: r["adversarial"][0].update(map=-0.1), "adversarial.0.map|adversarial[0].map"),
        (lambda r: r["adversarial"][0].update(r1=0.4567), "no whole number"),
        (lambda r: r["adversarial"][0].update(r5=0.0), "r5: 0 is below r1"),
        (lambda r: r.update(asr=None), "asr: None"),
        (lambda r: r.update(drop_interval={}), "drop_interval"),
        (lambda r: r["drop_interval"].update(r1=[0.9, 0.2]), "drop_interval.r1"),
        (lambda r: r["drop_interval"].update(r1=[-0.9, -0.8]), "drop_interval.r1"),
        (lambda r: r["cost"].update(evaluations_per_image=1.0), "cost.evaluations_per_image"),
        (lambda r: r["cost"].update(attack_seconds=-1.0), "cost.attack_seconds"),
        (lambda r: r.update(created="yesterday"), "created: 'yesterday'"),
        (lambda r: r.update(created="2026-01-01T00:00:00"), "no time zone"),
        (lambda r: r.update(controls=[{"name": "mine", "trials": r["clean"]}]), "controls: mine"),
        (lambda r: r.update(left_out={"pgd": "weak"}), "left_out: pgd"),
        (lambda r: r.update(victim_label="a\u202eb"), "characters that cannot be seen"),
        (lambda r: r.update(extra="x" * 3000), "extra: 3000 characters"),
        (lambda r: r.update(extra=[["x" * 1000] * 1100]), "more than 1 MiB"),
    ],
)
def test_a_contradiction_is_named(honest, change, said):
    reasons = judged(changed(honest, change)).reasons
    assert reasons, said
    assert any(one in " ".join(reasons) for one in said.split("|")), reasons


def test_more_budget_is_no_way_out(honest):
    """What was made with 8 levels may be filed under 16: it is weaker there, and within that budget."""

    def raise_budget(record):
        record["config"]["threat"].update(eps="16/255", eps_value=16 / 255)

    assert judged(changed(honest, raise_budget)).reasons == []


# ------------------------------------------------------------- single queries


def repacked(record: dict, name: str, change) -> dict:
    def redo(forged):
        array = CompressedArray.model_validate(forged["per_query"][name]).unpack().copy()
        array = change(array)
        forged["per_query"][name] = json.loads(CompressedArray.pack(array).model_dump_json())

    return changed(record, redo)


def one_worse(array):
    """A first match falls to rank 2, or a precision to its half: less would leave every figure as it is."""
    row, column = np.argwhere(array == 1 if array.dtype.kind == "i" else array > 0)[0]
    array[row, column] = 2 if array.dtype.kind == "i" else array[row, column] * 0.5
    return array


@pytest.mark.parametrize("name", ["clean_rank", "clean_ap", "adversarial_rank", "adversarial_ap"])
def test_one_query_changed_is_seen(honest, name):
    which = name.split("_")[0]
    reasons = judged(repacked(honest, name, one_worse)).reasons
    assert any(which in reason for reason in reasons), reasons


@pytest.mark.parametrize("name", ["clean_rank", "clean_ap", "adversarial_rank", "adversarial_ap"])
@pytest.mark.parametrize(
    "change",
    [
        lambda a: a[:, 1:],
        lambda a: a[1:],
        lambda a: a.astype("f4") if a.dtype.kind == "i" else np.zeros_like(a, dtype="i4"),
        lambda a: np.full_like(a, -1),
        lambda a: a * 0,
        lambda a: np.full_like(a, 2_000_000_000),
    ],
)
def test_arrays_that_are_none_are_refused(honest, name, change):
    reasons = judged(repacked(honest, name, change)).reasons
    assert reasons and all(reason.startswith(("per_query", "asr", "clean", "adv")) for reason in reasons)


def test_missing_and_foreign_arrays_are_named(honest):
    gone = judged(changed(honest, lambda r: r["per_query"].pop("clean_ap"))).reasons
    more = judged(changed(honest, lambda r: r["per_query"].update(mine=r["per_query"]["clean_ap"]))).reasons
    assert "per_query: holds" in gone[0] and "mine" in more[0]


def test_a_bomb_does_not_explode(honest):
    def swell(record):
        for packed in record["per_query"].values():
            packed["shape"] = [1 << 31, 1 << 31]

    assert "per_query.clean_rank: <i4 of shape" in judged(changed(honest, swell)).reasons[0]
    for shape in ([-1, 4], [], [0]):
        forged = changed(honest, lambda r, shape=shape: r["per_query"]["clean_rank"].update(shape=shape))
        assert judged(forged).reasons


# ------------------------------------------------------------- controls and members


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r["controls"].pop(), "controls:"),
        (lambda r: r["controls"].reverse(), "controls:"),
        (lambda r: r["controls"][1].update(name="nothing"), "controls:"),
        (lambda r: r["controls"][1]["trials"].pop(), "controls[1].trials"),
        (lambda r: r["controls"][1]["trials"][0].update(queries=1), "controls[1].trials[0].queries"),
        (lambda r: r["controls"][1]["trials"][0].update(r1=0.123456), "controls[1].trials[0].r1"),
        (lambda r: r.update(stealthy=not r["stealthy"]), "stealthy:"),
        (lambda r: r.update(level="pixel"), "level: 'pixel'"),
    ],
)
def test_controls_belong_to_what_tampers(tampering_record, change, said):
    reasons = judged(changed(tampering_record, change)).reasons
    assert any(reason.startswith(said) for reason in reasons), reasons


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r["members"].pop(), "members"),
        (lambda r: r["members"].reverse(), "members:"),
        (lambda r: r["members"][0].update(label="noise"), "members: noise"),
        (lambda r: r["members"][1].update(knowledge=[]), "members[1].knowledge"),
        (lambda r: r["members"][1].update(universal=False), "members[1].knowledge"),
        (lambda r: r["members"][0].update(won=r["members"][0]["won"] + 0.1), "members.won"),
        (lambda r: r["members"][0].update(asr=0.123456), "members[0].asr"),
        (lambda r: r["config"]["attack"]["members"].pop(), "config.attack.members"),
        (
            lambda r: r["config"]["attack"]["members"][0]["settings"].update(queries=5),
            "config.attack.members",
        ),
        (lambda r: [t.update(map=1e-4, minp=1e-4) for t in r["members"][4]["trials"]], "members[4].trials"),
        (lambda r: r["per_query"].pop("member"), "per_query: holds"),
    ],
)
def test_a_battery_is_whole(battery_record, change, said):
    reasons = judged(changed(battery_record, change)).reasons
    assert any(reason.startswith(said) for reason in reasons), reasons


def test_wins_are_counted_again(battery_record):
    won = [member["won"] for member in battery_record["members"]]
    first, second = won.index(max(won)), won.index(min(won))
    assert won[first] != won[second]

    def swap(record):
        one, other_one = record["members"][first], record["members"][second]
        one["won"], other_one["won"] = other_one["won"], one["won"]

    reasons = judged(changed(battery_record, swap)).reasons
    assert any(".won: " in reason for reason in reasons), reasons
    outside = judged(repacked(battery_record, "member", lambda a: a + 9)).reasons
    assert outside == ["per_query.member: positions outside 0 .. 4"]


# ------------------------------------------------------------- whatever comes


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"id": 3}', b"[" * 100_000, b"NaN"]
)
def test_what_is_no_record_is_no_record(text):
    assert isinstance(parse(text), list)


def test_numbers_as_text_are_refused(honest):
    found = parse(json.dumps(changed(honest, lambda r: r["clean"][0].update(r1="0.5"))).encode())
    assert found == ["clean.0.r1: Input should be a valid number, found '0.5'"]


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("<script>"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_no_junk_anywhere_makes_verification_fail(honest, data):
    """Hypothesis puts anything anywhere, and often hashes again: there is always a verdict."""
    record = copy.deepcopy(honest)
    paths = [path for path in leaves(record) if "data" not in path]
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(paths))
        cut = path[: data.draw(st.integers(1, len(path)))]
        try:
            put(record, cut, data.draw(_JUNK))
        except (KeyError, IndexError, TypeError):
            continue
    try:
        text = json.dumps(record).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError):
        return
    found = parse(text)
    if isinstance(found, Record):
        assert isinstance(verify(found).reasons, (list, tuple))
        assert isinstance(judged(json.loads(text)).reasons, (list, tuple))
    else:
        assert found and all(isinstance(reason, str) for reason in found)


# ------------------------------------------------------------- transfers


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r["config"]["surrogate"].update(name="deen"), "surrogate: 'agw'"),
        (
            lambda r: (r["config"]["surrogate"].update(name="deen"), r.update(surrogate="deen")),
            "its members are",
        ),
        (lambda r: r["config"]["surrogate"]["options"].pop("members"), "its members are ''"),
        (
            lambda r: r["config"]["surrogate"]["options"]["members"][0].update(depth=3),
            "members[0].options.depth",
        ),
        (lambda r: r["config"]["surrogate"].update(weights=3), "config.surrogate.weights"),
        (lambda r: r["config"].pop("surrogate"), "surrogate: 'agw', the configuration says ''"),
    ],
)
def test_a_surrogate_is_named_by_its_members(workshop, change, said):
    reasons = judged(changed(workshop.transferred(), change)).reasons
    assert any(said in reason for reason in reasons), reasons


def test_a_surrogate_of_others_is_marked(workshop):
    def rename(record):
        record["config"]["surrogate"]["options"]["members"][0]["name"] = "mine"
        record["config"]["surrogate"]["name"] = record["surrogate"] = "mine"

    verdict = judged(changed(workshop.transferred(), rename))
    assert verdict.reasons == [] and Mark.FOREIGN_SURROGATE in verdict.marks
    assert Mark.FOREIGN_VICTIM not in verdict.marks
