"""Whatever vbench writes is accepted: no check may refuse an honest record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from handed_in import FEATURE, UAP, judged

from vbench.core.threat import ThreatModel
from vbench.records.record import Record
from vbench.reports.verify import Mark, parse, verify

ROOT = Path(__file__).parents[2]

RUNS = {
    "noise": {"attack": "noise"},
    "classification": {"attack": "pgd[steps=2]"},
    "metric": {"attack": "metric_ifgsm[steps=3]", "seed": 5},
    "training": {"attack": "metric_fgsm[guides=training]"},
    "gallery knowledge": {"attack": "metric_fgsm[guides=gallery]"},
    "preset": {"attack": "metric_ifgsm[preset=query]"},
    "black box": {"attack": "square[queries=3]"},
    "black box by ranking": {"attack": "simba[queries=3,feedback=ranking]"},
    "universal": {"attack": UAP},
    "tampering": {"attack": FEATURE},
    "library": {"attack": "torchattacks:FGSM"},
    "L2": {"attack": "metric_fgsm", "threat": ThreatModel("0.5", "l2")},
    "L2 in floats": {"attack": "noise", "threat": ThreatModel("0.3", "l2", quantize=False)},
    "floats": {"attack": "fgsm", "threat": ThreatModel("0.03", quantize=False)},
    "a decimal budget": {"attack": "fgsm", "threat": ThreatModel("0.0313725490196")},
    "one level": {"attack": "noise", "threat": ThreatModel("1/255")},
    "gallery side": {"attack": "metric_fgsm", "threat": ThreatModel("8/255", side="gallery")},
    "both sides": {"attack": "noise", "threat": ThreatModel("8/255", side="both")},
    "visible queries": {"protocol": "sysu/indoor/single/vis2ir/seed10"},
    "multi-shot": {"protocol": "sysu/all/multi/ir2vis/seed10"},
    "regdb": {"layout": "regdb", "attack": "metric_ifgsm[steps=2]"},
    "regdb, another trial": {"layout": "regdb", "protocol": "regdb/ir2vis/trial-7"},
    "llcm": {"layout": "llcm"},
    "llcm, visible queries": {"layout": "llcm", "protocol": "llcm/vis2ir/seed10"},
    "a setting of the ranking": {"victim": "flipped"},
    "a victim of others": {"victim": "tiny"},
    "an attack of others": {"attack": "stranger"},
}
MARKS = {
    "library": [Mark.LIBRARY_ATTACK],
    "a victim of others": [Mark.FOREIGN_VICTIM],
    "an attack of others": [Mark.FOREIGN_ATTACK],
}


@pytest.mark.parametrize("what", RUNS)
def test_a_run_stands_with_the_marks_it_deserves(what, workshop):
    record = workshop.run(**RUNS[what])
    verdict = judged(record, hashed=False)
    assert verdict.reasons == []
    assert [mark for mark in verdict.marks if mark is not Mark.TIES] == MARKS.get(what, [])


def test_a_transfer_and_another_precision_stand(workshop):
    transferred = workshop.transferred()
    assert transferred["surrogate"] == "agw"
    assert judged(transferred, hashed=False).reasons == []
    lower = workshop.in_bfloat16()
    assert lower["victim_label"] == "agw (bfloat16, channels-last)"
    assert judged(lower, hashed=False).reasons == []


def test_a_battery_stands(battery_record):
    assert len(battery_record["members"]) == 5
    assert judged(battery_record, hashed=False).reasons == []


def test_without_single_queries_a_record_stands_as_less_checked(workshop):
    record = workshop.run("noise")
    record["per_query"] = {}
    assert judged(record, hashed=False).marks[:1] == [Mark.TOTALS_ONLY]


@pytest.mark.parametrize("name", ["zoo", "ingredients"])
def test_archives_of_this_project_stand(name):
    lines = (ROOT / "docs" / "ablation" / f"{name}.jsonl").read_bytes().splitlines()
    for line in lines[::7]:
        record = parse(line)
        assert isinstance(record, Record), record
        assert verify(record).reasons == []


def test_a_record_of_another_version_may_know_other_settings(workshop):
    record = workshop.run("metric_ifgsm[steps=3]")
    record["config"]["attack"]["settings"]["sharpness"] = 3
    assert any("sharpness" in reason for reason in judged(record).reasons)
    record["environment"]["versions"]["vbench"] = "9.9.9"
    verdict = judged(record)
    assert verdict.reasons == [] and Mark.OTHER_VERSION in verdict.marks
    del record["config"]["attack"]["settings"]["sharpness"]
    del record["config"]["attack"]["settings"]["steps"]
    record["label"] = "metric_ifgsm"
    assert judged(json.loads(json.dumps(record))).reasons == [], (
        "a setting that was not there yet has its default"
    )
