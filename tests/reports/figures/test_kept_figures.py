"""Figures of one run: what is drawn is what was kept, and the arithmetic is that of the textbook."""

from __future__ import annotations

import re

import numpy as np
import pytest
from fabricated import text_of
from kept_runs import kept_run, tiny_bench, tiny_dataset
from sklearn.manifold import TSNE

from vbench.attacks.perturbation import Perturbation
from vbench.core.errors import BadInput
from vbench.core.types import Side
from vbench.records.files import kept_file, read_embeddings, read_images
from vbench.records.store import RunStore
from vbench.reports.figures import draw, drawable, perturbation, spectrum, strips, tsne
from vbench.reports.figures.style import RIGHT, WRONG
from vbench.reports.printed import printed

UAP = "uap[evaluations=64,batch=16]"
SIDES = (Side.QUERY, Side.GALLERY)
SINGLE = ("tsne", "strips", "spectrum", "perturbation")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder of runs: a per-image attack on queries, a universal one on the gallery, one on both sides."""
    runs = tmp_path_factory.mktemp("runs")
    bench = tiny_bench(tiny_dataset(runs / "data"))
    attacks = (("metric_ifgsm[steps=3]", "query"), (UAP, "gallery"), ("noise", "both"))
    return runs, {side: kept_run(bench, attack, runs, side) for attack, side in attacks}


@pytest.mark.parametrize(
    ("name", "side"),
    [
        pytest.param(name, side, marks=[pytest.mark.slow] * (name == "tsne" and side != "query"))
        for name in SINGLE
        for side in ("query", "gallery", "both")
    ],
)
def test_every_figure_of_every_side_is_drawn_and_says_what_it_is(kept, name, side):
    runs, records = kept
    record = records[side]
    text = " ".join(text_of(draw(name, [record], runs)).split())
    assert "SYNTHETIC SYSU-MM01, all search, single-shot, infrared to visible (10 trials)" in text
    assert f"L_inf 16/255, {'both sides' if side == 'both' else side + ' side'}, 8-bit, seed 0" in text
    assert printed(record.label).partition("[")[0] in text, "settings stand in the caption"


@pytest.mark.parametrize("side", ["query", "both"])
def test_the_points_of_tsne_are_images_of_a_few_identities_clean_and_attacked(kept, side):
    runs, records = kept
    found = read_embeddings(runs, records[side])
    points = tsne.points(found)
    lists = zip(*found.trials.values(), strict=True)
    trial = {side: np.unique(np.concatenate(listed)) for side, listed in zip(SIDES, lists, strict=True)}
    there = [set(found.ids[one][trial[one]].tolist()) for one in SIDES]
    pids = set(points.ids.tolist())
    both = there[0] & there[1]
    assert len(pids) == min(10, len(both)) and pids <= both
    for panel, vectors in ((points.before, found.clean), (points.after, found.shown)):
        for one in SIDES:
            here = panel & (points.modality == found.modality(one).value)
            listed = found.ids[one][trial[one]]
            unit = vectors[one][trial[one]]
            unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
            used = set()
            for vector, pid in zip(points.vectors[here], points.ids[here], strict=True):
                distance = np.abs(unit - vector).max(1)
                used.add(int(distance.argmin()))
                assert distance.min() < 1e-5 and listed[distance.argmin()] == pid
            wanted = sum(min(tsne.IMAGES, int((listed == pid).sum())) for pid in pids)
            assert len(used) == here.sum() == wanted
    once = points.before & points.after
    assert once.any() == (side == "query"), "what is not attacked is one point in both panels"


@pytest.mark.slow
def test_tsne_is_that_of_scikit_learn_on_these_points_and_repeats(kept):
    runs, records = kept
    points = tsne.points(read_embeddings(runs, records["query"]))
    perplexity = min(20, (len(points.vectors) - 1) / 3)
    expected = TSNE(perplexity=perplexity, init="pca", random_state=0, method="exact").fit_transform(
        points.vectors
    )
    assert np.array_equal(tsne.placed(points), expected)
    axes = tsne.draw(records["query"], read_embeddings(runs, records["query"])).axes
    shown = [np.concatenate([one.get_offsets() for one in panel.collections]) for panel in axes]
    for panel, here in zip(shown, (points.before, points.after), strict=True):
        assert {tuple(place) for place in panel.tolist()} == {
            tuple(place) for place in expected[here].tolist()
        }


def test_frames_of_strips_say_right_and_wrong(kept):
    runs, records = kept
    found = read_images(runs, records["both"])
    figure = strips.draw(records["both"], found, query=2)
    (axes,) = figure.axes
    query, gallery = found.ids[Side.QUERY][2], found.ids[Side.GALLERY]
    expected = [pid == query for rows in (found.before, found.after) for pid in gallery[rows[2]]]
    frames = list(axes.patches)
    assert [frame.get_linestyle() == "-" for frame in frames] == expected
    colours = {"solid": RIGHT, "dashed": WRONG}
    for frame, right in zip(frames, expected, strict=True):
        rgb = tuple(round(255 * part) for part in frame.get_edgecolor()[:3])
        assert "#{:02X}{:02X}{:02X}".format(*rgb) == colours["solid" if right else "dashed"]
    images = [picture.get_array() for picture in axes.images]
    clean, shown = ([which[one] for one in SIDES] for which in (found.clean, found.shown))
    wanted = [clean[0][2], *clean[1][found.before[2]], shown[0][2], *shown[1][found.after[2]]]
    assert len(images) == len(wanted)
    assert all(np.array_equal(image, want) for image, want in zip(images, wanted, strict=True))


def test_strips_show_the_worst_and_some_drawn_at_random(kept):
    runs, records = kept
    text = text_of(strips.draw(records["query"], read_images(runs, records["query"])))
    assert re.findall(r"query (\d), ([a-z ]+):", text) == [
        ("0", "loses most"),
        ("1", "loses most"),
        ("4", "drawn at random"),
    ]
    with pytest.raises(BadInput, match="the run kept 0 to 7"):
        draw("strips", [records["query"]], runs, query=8)


@pytest.mark.parametrize("shape", [(16, 8, 3), (15, 7, 3)])
def test_amplitude_only_has_the_amplitude_and_no_phase_and_phase_only_the_reverse(shape):
    image = np.random.default_rng(0).random(shape)
    for channel in range(3):
        wanted = np.fft.fft2(image[:, :, channel])
        amplitude = np.fft.fft2(spectrum.amplitude_only(image)[:, :, channel])
        assert np.abs(amplitude) == pytest.approx(np.abs(wanted))
        assert np.angle(amplitude) == pytest.approx(np.zeros(shape[:2]), abs=1e-9)
        phase = np.fft.fft2(spectrum.phase_only(image)[:, :, channel])
        assert np.abs(phase) == pytest.approx(np.ones(shape[:2]))
        turned = np.angle(phase * wanted.conj())
        assert turned == pytest.approx(np.zeros(shape[:2]), abs=1e-9)
    both = np.fft.fft2(spectrum.amplitude_only(image), axes=(0, 1)) * np.fft.fft2(
        spectrum.phase_only(image), axes=(0, 1)
    )
    assert np.fft.ifft2(both, axes=(0, 1)).real == pytest.approx(image)


def test_a_pair_is_a_query_and_its_nearest_right_image(kept):
    runs, records = kept
    found = read_images(runs, records["gallery"])
    names, images = zip(*spectrum.pair(found, 3), strict=True)
    assert names == ("visible", "infrared", "visible,\nattacked")
    place = found.match[3]
    assert np.array_equal(np.round(255 * images[0]), found.clean[Side.GALLERY][place])
    assert np.array_equal(np.round(255 * images[1]), found.clean[Side.QUERY][3])
    assert np.array_equal(np.round(255 * images[2]), found.shown[Side.GALLERY][place])
    assert found.ids[Side.GALLERY][place] == found.ids[Side.QUERY][3]


def test_the_perturbation_is_the_learnt_one_or_what_was_done_to_an_image(kept, tmp_path):
    runs, records = kept
    learnt = Perturbation.load(RunStore(runs).perturbation_path(records["gallery"], "uap"))
    change = perturbation.change_of(records["gallery"], runs)
    assert change.source == "as learnt" and change.clean is not None
    assert change.values == pytest.approx(learnt.delta.permute(1, 2, 0).numpy())
    found = read_images(runs, records["query"])
    change = perturbation.change_of(records["query"], runs, 1)
    assert change.source == "of query 1"
    wanted = found.shown[Side.QUERY][1].astype(float) - found.clean[Side.QUERY][1]
    assert change.values * 255 == pytest.approx(wanted)
    alone = RunStore(tmp_path).perturbation_path(records["gallery"], "uap")
    learnt.save(alone)
    assert perturbation.change_of(records["gallery"], tmp_path).clean is None
    assert perturbation.gain(records["query"], change.values) == pytest.approx(0.5 / (16 / 255))


def test_the_spectrum_of_a_wave_lies_at_its_frequency():
    rows = np.arange(32)[:, None, None]
    wave = np.broadcast_to(np.cos(2 * np.pi * 0.25 * rows), (32, 16, 3)) / 16
    found = perturbation.amplitude(wave)
    peaks = {tuple(place) for place in np.argwhere(found > found.max() / 2).tolist()}
    assert peaks == {(16 - 8, 8), (16 + 8, 8)}
    frequency, mean = perturbation.profile(found)
    assert frequency[mean.argmax()] == pytest.approx(0.25, abs=0.5 / 24)
    noise = np.random.default_rng(0).uniform(-1, 1, (64, 64, 3))
    _, level = perturbation.profile(perturbation.amplitude(noise))
    assert level[2:] / level.mean() == pytest.approx(np.ones(len(level) - 2), abs=0.25)


@pytest.mark.slow
def test_a_page_gets_the_kept_figures_on_request(kept, tmp_path):
    runs, records = kept
    every = [records["query"], records["both"]]
    assert {one.name for one in drawable(every, runs)} == {"cmc"}
    found = drawable(every, runs, kept=True)
    assert [one.name for one in found if one.name in SINGLE] == [name for name in SINGLE for _ in every]
    ids = [name for one in found for name in re.findall(r'\sid="([^"]*)"', one.svg)]
    assert len(ids) == len(set(ids))
    assert [one.name for one in drawable(every, tmp_path, kept=True)] == ["cmc"] * 2


def test_a_broken_kept_file_costs_a_page_its_figure_and_no_more(kept, tmp_path, capsys):
    runs, records = kept
    record = records["query"]
    for what in ("images", "embeddings"):
        path = kept_file(tmp_path, record.id, what)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = kept_file(runs, record.id, what).read_bytes()
        path.write_bytes(content[:-8] if what == "images" else content)
    assert [one.name for one in drawable([record], tmp_path, kept=True)] == ["cmc", "tsne"]


def test_several_runs_are_refused_with_their_ids(kept):
    runs, records = kept
    with pytest.raises(BadInput, match="shows one run; choose it with --run") as refused:
        draw("strips", list(records.values()), runs)
    assert all(record.id in str(refused.value) for record in records.values())
    with pytest.raises(BadInput, match="--keep embeddings"):
        draw("tsne", [records["query"]], runs / "elsewhere")
