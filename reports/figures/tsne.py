"""t-SNE of embeddings before and after: colours are identities, marks are modalities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vbench.core.errors import BadInput
from vbench.core.types import Modality, Side
from vbench.records.files import KeptEmbeddings
from vbench.records.record import Record
from vbench.reports.figures.panels import attack_of, facts, victim_of
from vbench.reports.figures.style import MUTED, PALETTE, Legend, new_figure, styled, width_of

#: The style's colours, and four of Paul Tol's muted scheme.
_COLOURS = (*PALETTE, "#332288", "#882255", "#999933", "#DDDDDD")

#: Number of identities, and most images of each per side, as in figure 4 of the paper of fsam_uap.
IDENTITIES, IMAGES = len(_COLOURS), 20
_MARKS = {Modality.VISIBLE: "o", Modality.INFRARED: "^"}
_PERPLEXITY = 20


@dataclass(frozen=True)
class Points:
    """N embeddings for one t-SNE: their identities, modalities, and the panels in which they are drawn."""

    vectors: np.ndarray
    ids: np.ndarray
    modality: np.ndarray
    before: np.ndarray
    after: np.ndarray


def points(kept: KeptEmbeddings, seed: int = 0) -> Points:
    """The embeddings of some identities of any trial, sampled with ``seed`` from those on both sides.

    Attacked images occur twice, clean and changed; images of the other side once, in both panels. Vectors
    have unit length unless the victim compares by Euclidean distance.
    """
    listed_by_side = zip((Side.QUERY, Side.GALLERY), zip(*kept.trials.values(), strict=True), strict=True)
    rows = {side: np.unique(np.concatenate(lists)) for side, lists in listed_by_side}
    on_both = np.intersect1d(*(kept.ids[side][listed] for side, listed in rows.items()))
    if len(on_both) < 2:
        raise BadInput("t-SNE needs two identities with images on both sides; these trials have fewer")
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.permutation(on_both)[:IDENTITIES])
    parts = []
    for side, listed in rows.items():
        picked = np.concatenate(
            [generator.permutation(listed[kept.ids[side][listed] == pid])[:IMAGES] for pid in chosen]
        )
        picked = np.sort(picked)
        attacked = side in kept.meta.attacked
        parts.append((side, picked, kept.clean[side], True, not attacked))
        if attacked:
            parts.append((side, picked, kept.shown[side], False, True))
    vectors = np.concatenate([vectors[picked] for _, picked, vectors, *_ in parts]).astype(np.float64)
    if kept.meta.similarity != "euclidean":
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    sizes = [len(picked) for _, picked, *_ in parts]
    return Points(
        vectors,
        np.concatenate([kept.ids[side][picked] for side, picked, *_ in parts]),
        np.repeat([kept.modality(side).value for side, *_ in parts], sizes),
        np.repeat([before for *_, before, _ in parts], sizes),
        np.repeat([after for *_, after in parts], sizes),
    )


def placed(found: Points, seed: int = 0) -> np.ndarray:
    """N x 2 coordinates of all points from one t-SNE, so that both panels share one map."""
    # Imported here because scikit-learn is slow to import and only this figure needs it.
    from sklearn.manifold import TSNE

    perplexity = _perplexity(found)
    method = "exact" if len(found.vectors) <= 500 else "barnes_hut"
    return TSNE(perplexity=perplexity, init="pca", random_state=seed, method=method).fit_transform(
        found.vectors
    )


def draw(record: Record, kept: KeptEmbeddings, width: str | None = None) -> Figure:
    """Two panels on one map, before and after the attack. Distances between far clusters mean nothing."""
    found = points(kept)
    places = placed(found)
    pids = np.unique(found.ids)
    inches = width_of(width or "column")
    note = f"{len(pids)} identities, at most {IMAGES} images a side; "
    note += f"one t-SNE of {len(places)} points, perplexity {_perplexity(found):.0f}"
    colours = dict(zip(pids.tolist(), _COLOURS, strict=False))
    legend = Legend([*(m.value for m in _MARKS), *(f"identity {pid}" for pid in colours)], inches, handle=1.0)
    handles = [_handle(mark, MUTED) for mark in _MARKS.values()] + [
        _handle("s", colour) for colour in colours.values()
    ]
    with styled():
        height = inches / 2 + 0.1 + legend.height
        subject = f"Embeddings of {victim_of(record)} before and after {attack_of(record)}"
        figure = new_figure(inches, height, subject, facts(record, note))
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for axes, title, here in zip(panels, ("before", "after"), (found.before, found.after), strict=True):
            _panel(axes, title, places, found, here, pids)
        legend.write(figure, handles)
        return figure


def _perplexity(found: Points) -> float:
    return min(_PERPLEXITY, (len(found.vectors) - 1) / 3)


def alt(record: Record, kept: KeptEmbeddings) -> str:
    """How often the nearest image of the other modality has the same identity, before and after, in words."""
    found = points(kept)
    shares = [_mixed(found, here) for here in (found.before, found.after)]
    return (
        f"t-SNE of embeddings of {victim_of(record)} before and after {attack_of(record)}. Of the images "
        f"drawn, {shares[0]:.0%} have their own identity as the nearest of the other modality before, "
        f"{shares[1]:.0%} after."
    )


def _mixed(found: Points, here: np.ndarray) -> float:
    vectors, ids, modality = found.vectors[here], found.ids[here], found.modality[here]
    distance = ((vectors[:, None] - vectors[None]) ** 2).sum(2)
    distance[modality[:, None] == modality[None]] = np.inf
    return float((ids[distance.argmin(1)] == ids).mean())


def _panel(
    axes: Axes, title: str, places: np.ndarray, found: Points, here: np.ndarray, pids: np.ndarray
) -> None:
    for pid, colour in zip(pids, _COLOURS, strict=False):
        for modality, mark in _MARKS.items():
            part = here & (found.ids == pid) & (found.modality == modality.value)
            across, up = places[part].T
            axes.scatter(across, up, s=9, marker=mark, color=colour, edgecolor="white", linewidth=0.3)
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(True)


def _handle(mark: str, colour: str) -> Line2D:
    return Line2D([], [], linestyle="", marker=mark, color=colour)
