"""Figures from records alone: the data drawn are those of the records, and what differs is said."""

from __future__ import annotations

import numpy as np
import pytest
from fabricated import PROTOCOL, ranks, record, text_of

from vbench.core.errors import BadInput
from vbench.records.record import CompressedArray, MemberRecord, Record
from vbench.reports.figures import cmc, cost, eps, transfer
from vbench.reports.figures.panels import Facet
from vbench.reports.figures.panels import cmc as curve_of


def literal_cmc(found: np.ndarray, deepest: int) -> np.ndarray:
    """Trials x ranks, percent, by loops: the share of queries with a match that have it by rank k."""
    lines = []
    for trial in found:
        matched = [rank for rank in trial if rank != 0]
        lines.append([100 * sum(rank <= k for rank in matched) / len(matched) for k in range(1, deepest + 1)])
    return np.array(lines)


def drawn(axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the line with this label."""
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def points(records):
    return cost.points(Facet({}, records), "r1")


def lines(records):
    return eps.lines(Facet({}, records), "r1")


def test_cmc_curves_are_those_of_the_stored_ranks():
    seeds = [record(seed=0), record(seed=1)]
    (axes,) = cmc.draw(seeds).axes
    x, y = drawn(axes, "uap")
    assert x.tolist() == list(range(1, len(x) + 1)) and len(x) == 20
    expected = np.concatenate([literal_cmc(ranks(6, seed=2 + seed), len(x)) for seed in (0, 1)])
    assert y == pytest.approx(expected.mean(0))
    assert drawn(axes, "clean")[1] == pytest.approx(literal_cmc(ranks(1, seed=1), len(x)).mean(0))
    spread = curve_of(seeds, "adversarial").spread
    assert spread == pytest.approx(expected.std(0, ddof=1)[: len(spread)])
    assert y[0] == pytest.approx(100 * np.mean([one.mean("adversarial", "r1") for one in seeds]))


def test_records_of_an_archive_give_four_points_and_the_figure_says_so():
    whole = record()
    archived = Record.model_validate_json(whole.model_dump_json(exclude={"per_query"}))
    figure = cmc.draw([archived])
    x, y = drawn(figure.axes[0], "uap")
    assert x.tolist() == [1, 5, 10, 20]
    wanted = [100 * archived.mean("adversarial", f"r{k}") for k in (1, 5, 10, 20)]
    assert y == pytest.approx(wanted)
    assert "archive" in text_of(figure) and "archive" not in text_of(cmc.draw([whole]))


def test_broken_ranks_are_refused():
    broken = record()
    broken.per_query["adversarial_rank"] = CompressedArray.pack([1, 2, 3])
    with pytest.raises(BadInput, match="not trials x queries"):
        cmc.draw([broken])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"eps": "4/255"}, ("L_inf 4/255", "L_inf 8/255")),
        ({"protocol": "sysu/indoor/single/ir2vis/seed10"}, (PROTOCOL, "sysu/indoor/single/ir2vis/seed10")),
        ({"victim": "ddag"}, ("agw", "ddag")),
        ({"side": "both"}, ("query side", "both sides")),
        ({"norm": "l2", "eps": "3"}, ("L_inf 8/255", "L2 3")),
        ({"synthetic": False}, (f"SYNTHETIC {PROTOCOL}", f"\n{PROTOCOL}")),
    ],
)
@pytest.mark.parametrize("draw", [cmc.draw, cost.draw])
def test_what_does_not_compare_never_shares_axes(draw, other, said):
    figure = draw([record(), record(**other)])
    assert len(figure.axes) == 2
    text = "\n" + text_of(figure)
    assert all(part in text for part in said)


def test_data_of_one_name_and_other_images_are_told_apart():
    twin = record(seed=3)
    twin.config["dataset"]["fingerprint"] = "another1234"
    assert "data another1" in text_of(cmc.draw([record(), twin]))


def test_synthetic_protocol_budget_and_side_stand_over_every_figure():
    figures = [
        cmc.draw([record()]),
        cost.draw([record()]),
        eps.draw([record(), record(eps="4/255")]),
        transfer.draw([record(surrogate="ddag")]),
    ]
    for figure in figures:
        text = text_of(figure)
        assert f"SYNTHETIC {PROTOCOL} (3 trials)" in text and "query side" in text
    assert "SYNTHETIC" not in text_of(cmc.draw([record(synthetic=False)]))


def test_of_many_attacks_the_strongest_are_drawn_and_that_is_said():
    many = [record(f"attack{first}", first) for first in range(1, 12)]
    figure = cmc.draw(many)
    labels = {line.get_label() for line in figure.axes[0].get_lines()}
    assert labels == {"clean", *(f"attack{first}" for first in range(6, 12))}
    assert "the 6 strongest of 11 attacks" in text_of(figure)


def test_the_only_attack_of_a_panel_is_its_strongest():
    many = [record(f"attack{first}", first) for first in range(1, 12)]
    figure = cmc.draw([*many, record("alone", 2, victim="caj")])
    assert "alone" in {line.get_label() for line in figure.axes[1].get_lines()}


def test_a_transfer_has_a_panel_of_its_own_and_a_replay_a_curve():
    replayed = record(seed=1)
    replayed.config["perturbation"] = "0123"
    figure = cmc.draw([record(), record(surrogate="ddag"), replayed])
    labels = [[line.get_label() for line in axes.get_lines()] for axes in figure.axes]
    assert labels == [["clean", "uap", "uap (replayed)"], ["clean", "uap from ddag"]]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["", "transfer attacks"]


def test_too_many_panels_are_refused():
    with pytest.raises(BadInput, match=r"13 panels.*--where"):
        cmc.draw([record(victim=f"v{number}") for number in range(13)])


def test_eps_lines_start_at_the_clean_figure_and_hold_every_budget():
    budgets = {"2/255": 2, "4/255": 3, "8/255": 6, "16/255": 12}
    runs = {
        budget: [record(first=first, eps=budget, seed=seed) for seed in (0, 1)]
        for budget, first in budgets.items()
    }
    every = [one for same in runs.values() for one in same]
    (axes,) = eps.draw([*reversed(every), record("pgd", 4)], "map").axes
    (container,) = axes.containers
    line, *_ = container.lines
    assert line.get_xdata().tolist() == pytest.approx([0, 2, 4, 8, 16])
    after = [np.mean([one.mean("adversarial", "map") for one in same]) for same in runs.values()]
    assert [*line.get_ydata()] == pytest.approx([*100 * np.array([every[0].mean("clean", "map"), *after])])
    assert container.get_label() == "uap" and "mAP" in axes.get_ylabel()


MIXED = [("linf", "4/255"), ("linf", "8/255"), ("l2", "1"), ("l2", "2")]


def test_one_budget_makes_no_line_and_norms_do_not_mix():
    with pytest.raises(BadInput, match="two budgets"):
        eps.draw([record(), record("pgd")])
    with pytest.raises(BadInput, match="norm=linf"):
        eps.draw([record(eps=budget, norm=norm) for norm, budget in MIXED])


def test_the_heat_map_holds_the_means_of_its_records():
    moved = [
        record(first=2, victim="agw", surrogate="agw"),
        record(first=9, victim="agw", surrogate="ddag", seed=0),
        record(first=3, victim="agw", surrogate="ddag", seed=1),
        record(first=5, victim="ddag", surrogate="agw"),
    ]
    found = transfer.matrix(moved, "r1")
    assert (found.surrogates, found.victims) == (["agw", "ddag"], ["agw", "ddag"])
    means = [100 * one.mean("adversarial", "r1") for one in moved]
    assert found.values[0].tolist() == pytest.approx([means[0], means[3]])
    assert found.values[1, 0] == pytest.approx((means[1] + means[2]) / 2) and np.isnan(found.values[1, 1])
    (axes,) = transfer.draw(moved).axes
    cells = [text.get_text() for text in axes.texts]
    clean = f"{100 * moved[0].mean('clean', 'r1'):.1f}"
    assert cells == [clean, clean, *(f"{value:.1f}" for value in (means[0], means[3], found.values[1, 0]))]
    frames = [patch for patch in axes.patches if not patch.get_fill()]
    assert [frame.get_xy() for frame in frames] == [(0.04, 1.34)], "crafted on agw, shown to agw"
    assert sum(patch.get_hatch() is not None for patch in axes.patches) == 1


def test_a_heat_map_needs_a_transfer_and_keeps_attacks_apart():
    with pytest.raises(BadInput, match="sweep transfer"):
        transfer.draw([record()])
    figure = transfer.draw([record(surrogate="ddag"), record("pgd", surrogate="ddag")])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["uap", "pgd"]


def test_cost_counts_fits_once_and_images_all_and_tells_kinds_apart():
    seconds = {"attack_seconds": 2.0, "images_per_second": 20.0}
    runs = [
        record("uap", cost={"fit_evaluations": 6400.0, "attack_evaluations": 0.0, **seconds}, universal=True),
        record("pgd", cost={"attack_evaluations": 400.0, **seconds}),
        record("square", cost={"attack_evaluations": 0.0, "queries_per_image": 50.0, **seconds}),
        record("noise", cost={"attack_evaluations": 0.0, **seconds}),
    ]
    member = MemberRecord(label="pgd", trials=runs[1].adversarial, won=1.0)
    runs.append(record("ensemble", cost={"attack_evaluations": 800.0, **seconds}, members=[member]))
    found = {point.attack: point for point in points(runs)}
    assert {name: (point.kind, point.cost) for name, point in found.items()} == {
        "uap": ("universal", 6400),
        "pgd": ("per-image", 400),
        "square": ("query-limited", 2000),
        "noise": ("per-image", 0),
        "ensemble": ("battery", 800),
    }
    drops = 100 * np.array([a.r1 - b.r1 for a, b in zip(runs[1].clean, runs[1].adversarial, strict=True)])
    assert found["pgd"].drop == pytest.approx(drops.mean())
    assert found["pgd"].spread == pytest.approx(drops.std(ddof=1))
    text = text_of(cost.draw(runs))
    assert all(kind in text for kind in cost.KINDS)


def test_alternatives_tell_the_figures():
    runs = [record(), record("pgd", 12), record(eps="4/255", first=2), record(surrogate="ddag")]
    shown = f"{100 * runs[0].mean('adversarial', 'r1'):.1f}"
    assert all(f"uap {shown}" in text for text in (cmc.alt(runs), eps.alt(runs).replace("to ", "uap ")))
    assert f"crafted on ddag: agw {shown}" in transfer.alt(runs)
    drop = f"{100 * (runs[0].mean('clean', 'r1') - runs[0].mean('adversarial', 'r1')):.1f}"
    assert f"uap (per-image) {drop} points for 400" in cost.alt(runs)


def test_models_of_one_name_and_other_weights_are_never_averaged():
    other = record(first=9, surrogate="ddag", seed=1)
    other.config["victim"]["weights"] = "ffff1234"
    found = transfer.matrix([record(surrogate="ddag"), other], "r1")
    assert (
        found.victims == ["agw[weights weights-]", "agw[weights ffff1234]"]
        and not np.isnan(found.values).any()
    )


def versions(**more):
    """Records of two versions of one attack."""
    for version, first in ((1, 3), (2, 9)):
        made = record(first=first, seed=version, **more)
        made.config["attack"]["version"] = version
        yield made


def test_what_differs_in_more_than_its_seed_has_a_curve_a_line_a_point_and_a_panel_of_its_own():
    names = ["uap, version 1", "uap, version 2"]
    both = list(versions())
    (axes,) = cmc.draw(both).axes
    curves = [line for line in axes.get_lines() if line.get_label() != "clean"]
    assert [line.get_label() for line in curves] == names
    assert len({line.get_color() for line in curves}) == 2
    assert sorted(point.attack for point in points(both)) == names
    found = lines([*both, *versions(eps="4/255")])
    assert [line.attack for line in found] == names
    assert [line.values[1].mean for line in found] == [100 * one.mean("adversarial", "r1") for one in both]
    (axes,) = eps.draw([*both, *versions(eps="4/255")]).axes
    assert axes.get_legend_handles_labels()[1] == names
    panels = transfer.draw(list(versions(surrogate="ddag"))).axes
    assert [one.get_title(loc="left") for one in panels] == ["version 1", "version 2"]


def test_the_victim_is_framed_whatever_its_precision():
    own = record(victim="agw (bfloat16)", surrogate="agw")
    own.config["victim"]["name"] = "agw"
    other = record(victim="caj", surrogate="agw")
    (axes,) = transfer.draw([own, other]).axes
    assert sum(not patch.get_fill() for patch in axes.patches) == 1


def replayed(perturbation, **more):
    made = record(**more)
    made.config["perturbation"] = perturbation
    return made


def test_replays_at_several_budgets_are_a_line_and_of_several_surrogates_a_panel():
    runs = [replayed("0123", eps="4/255", first=3), replayed("4567")]
    learnt = [record(eps="4/255"), record(first=9)]
    names = [line.attack for line in lines([*learnt, *runs])]
    assert names == ["uap", "uap (replayed)"]
    (line,) = lines(runs)
    assert [one.mean for one in line.values] == [100 * one.mean("adversarial", "r1") for one in runs]
    moved = [replayed("0123", surrogate="ddag"), replayed("4567", surrogate="caj")]
    (axes,) = transfer.draw(moved).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["(clean)", "ddag", "caj"]


def test_an_attacks_version_is_said_in_all_panels_of_a_figure():
    (first, _), (_, second) = versions(), versions(victim="caj")
    alone = record("pgd", victim="caj")
    labels = [axes.get_legend_handles_labels()[1] for axes in cmc.draw([first, second, alone]).axes]
    assert labels == [["clean", "uap, version 1"], ["clean", "uap, version 2", "pgd"]]
    assert "uap, version 1" in text_of(cost.draw([first, second]))
