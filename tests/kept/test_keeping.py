"""What a run keeps is what its victim was shown, and its rankings are those of the protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from kept_runs import kept_run, tiny_bench, tiny_dataset

from vbench.attacks import Battery
from vbench.attacks.build import build_attack
from vbench.core.threat import ThreatModel
from vbench.core.types import Side
from vbench.metrics.change import PerturbationSize
from vbench.records.files import DEPTH, RANDOM, WORST, read_embeddings, read_images
from vbench.run.craft import Plan, craft_side
from vbench.run.execute import Run
from vbench.victims.embed import embed

SIDES = (Side.QUERY, Side.GALLERY)
UAP = "uap[evaluations=64,batch=16]"


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return tiny_bench(tiny_dataset(tmp_path_factory.mktemp("kept") / "data"))


def ranking(bench, vectors, query, gallery):
    """Gallery positions, best first, by loops and the words of the protocol alone."""
    asked, found = bench.dataset.query[query], []
    for order, position in enumerate(gallery):
        shown = bench.dataset.gallery[position]
        if bench.dataset.metric == "sysu" and asked.cam == 3 and shown.cam == 2:
            continue
        if bench.dataset.metric == "llcm" and (asked.pid, asked.cam) == (shown.pid, shown.cam):
            continue
        first, second = vectors[Side.QUERY][query], vectors[Side.GALLERY][position]
        found.append(
            (-float(first @ second / np.linalg.norm(first) / np.linalg.norm(second)), order, position)
        )
    return [position for *_, position in sorted(found)]


@pytest.mark.parametrize(
    ("attack", "side"),
    [("metric_ifgsm[steps=3]", "query"), (UAP, "gallery"), ("metric_ifgsm[steps=3]", "both")],
)
def test_kept_images_are_those_that_the_victim_was_shown(bench, tmp_path, attack, side):
    record = kept_run(bench, attack, tmp_path, side)
    images, vectors = read_images(tmp_path, record), read_embeddings(tmp_path, record)
    attacked = [one for one in SIDES if side in (one.value, "both")]
    assert images.meta.attacked == vectors.meta.attacked == attacked
    for one in SIDES:
        rows = images.position[one]
        assert np.array_equal(images.clean[one], bench.pixels[one][rows])
        change = np.abs(images.shown[one].astype(int) - images.clean[one]).max()
        assert (4 < change <= 16) if one in attacked else change == 0
        again = embed(bench.victim, images.shown[one], bench.modality(one), quiet=True).embeddings.numpy()
        assert again == pytest.approx(vectors.shown[one][rows], abs=1e-3)
        assert vectors.clean[one] == pytest.approx(bench.clean[one].embeddings.numpy(), abs=1e-3)
        samples = bench.dataset.query if one is Side.QUERY else bench.dataset.gallery
        assert images.ids[one].tolist() == [samples[row].pid for row in rows]
        assert vectors.cams[one].tolist() == [sample.cam for sample in samples]


@pytest.mark.parametrize("layout", ["sysu", "llcm", "regdb"])
def test_kept_rankings_are_those_of_the_protocol(tmp_path, layout):
    bench = tiny_bench(tiny_dataset(tmp_path / "data", layout))
    record = kept_run(bench, "metric_ifgsm[steps=3]", tmp_path)
    kept = read_images(tmp_path, record)
    clean = {side: bench.clean[side].embeddings.double().numpy() for side in SIDES}
    attacked = embed(bench.victim, kept.shown[Side.QUERY], bench.modality(Side.QUERY), quiet=True)
    trial, gallery = bench.dataset.trials[0], kept.position[Side.GALLERY]
    for row, query in enumerate(kept.position[Side.QUERY]):
        before = ranking(bench, clean, query, trial.gallery)
        shown = dict(clean)
        shown[Side.QUERY] = {query: attacked.embeddings[row].double().numpy()}
        after = ranking(bench, shown, query, trial.gallery)
        assert gallery[kept.before[row]].tolist() == before[:DEPTH]
        assert gallery[kept.after[row]].tolist() == after[:DEPTH]
        pid = bench.dataset.query[query].pid
        right = [position for position in before if bench.dataset.gallery[position].pid == pid]
        assert gallery[kept.match[row]] == right[0]
        told = kept.right(kept.after)[row].tolist()
        assert told == [bench.dataset.gallery[position].pid == pid for position in after[:DEPTH]]


def test_the_worst_queries_are_kept_and_some_others(bench, tmp_path):
    record = kept_run(bench, "metric_ifgsm[steps=3]", tmp_path)
    kept = read_images(tmp_path, record)
    trial = bench.dataset.trials[0]
    before, after = (record.per_query[name].unpack()[0] for name in ("clean_ap", "adversarial_ap"))
    loss = {int(query): lost for query, lost in zip(trial.query, before - after, strict=True)}
    assert kept.meta.chosen == ["worst"] * WORST + ["random"] * RANDOM
    rows = kept.position[Side.QUERY].tolist()
    assert len(set(rows)) == WORST + RANDOM
    rest = [lost for query, lost in loss.items() if query not in rows[:WORST]]
    assert min(loss[query] for query in rows[:WORST]) >= max(rest) - 1e-6
    place = [list(trial.query).index(query) for query in rows]
    for column, which in enumerate(("clean", "adversarial")):
        ranks, precision = (record.per_query[f"{which}_{name}"].unpack()[0] for name in ("rank", "ap"))
        assert kept.rank[:, column].tolist() == ranks[place].tolist()
        assert kept.precision[:, column] == pytest.approx(precision[place], abs=1e-6)


def test_a_battery_keeps_the_image_of_the_member_that_wins(bench, tmp_path):
    @dataclass(frozen=True)
    class Two(Battery):
        """Two attacks."""

        name: ClassVar[str] = "two"
        summary: ClassVar[str] = "for a test"

        def members(self):
            return build_attack("noise"), build_attack("metric_ifgsm[steps=3]")

    record = kept_run(bench, Two(), tmp_path)
    kept = read_images(tmp_path, record)
    alone = [kept_images_of(bench, member) for member in Two().members()]
    winner = dict(zip(bench.dataset.trials[0].query, record.per_query["member"].unpack()[0], strict=True))
    assert set(winner.values()) == {0, 1}
    for row, query in enumerate(kept.position[Side.QUERY]):
        assert np.array_equal(kept.shown[Side.QUERY][row], alone[winner[query]][query])


def kept_images_of(bench, attack):
    """All attacked queries of a run of one attack."""
    plan = Plan(attack, ThreatModel("16/255"), 0)
    return craft_side(bench, Side.QUERY, plan, PerturbationSize(), quiet=True, keep=True).images


def test_a_transfer_keeps_what_the_victim_was_shown(bench, tmp_path):
    source = tiny_bench(bench.dataset, seed=5)
    record = kept_run(bench, "metric_ifgsm[steps=3]", tmp_path, source=source)
    images, vectors = read_images(tmp_path, record), read_embeddings(tmp_path, record)
    rows = images.position[Side.QUERY]
    again = embed(bench.victim, images.shown[Side.QUERY], bench.modality(Side.QUERY), quiet=True).embeddings
    assert again.numpy() == pytest.approx(vectors.shown[Side.QUERY][rows], abs=1e-3)


def test_keeping_changes_nothing_of_the_result(bench, tmp_path):
    kept = kept_run(bench, UAP, tmp_path)
    plain, _ = Run(bench, build_attack(UAP), ThreatModel("16/255"), ignore_gates=True).execute(True)
    assert plain.id == kept.id and plain.adversarial == kept.adversarial
    assert plain.per_query == kept.per_query


def test_kept_embeddings_rank_as_the_full_ones_do(bench, tmp_path):
    record = kept_run(bench, "metric_ifgsm[steps=3]", tmp_path)
    kept = read_embeddings(tmp_path, record)
    (query, gallery), *_ = kept.trials.values()
    ids = {side: kept.ids[side] for side in SIDES}
    stored = record.per_query["adversarial_ap"].unpack()[0]
    found = []
    for row in query:
        order = ranking(bench, kept.shown, row, gallery)
        hits = np.array([ids[Side.GALLERY][position] == ids[Side.QUERY][row] for position in order])
        found.append((np.cumsum(hits)[hits] / (np.flatnonzero(hits) + 1)).mean())
    assert np.mean(found) == pytest.approx(float(np.mean(stored)), abs=0.005)
