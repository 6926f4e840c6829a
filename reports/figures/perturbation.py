"""The perturbation itself: on an image, amplified, its spectrum, and its energy by frequency."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vbench.core.types import Modality, Side
from vbench.records.files import KeptImages, learnt_file, missing, read_images
from vbench.records.record import Record
from vbench.reports.figures.panels import attack_of, facts, picture, row_of, small, victim_of
from vbench.reports.figures.style import MUTED, PALETTE, new_figure, styled, width_of

_BINS = 24


@dataclass(frozen=True)
class Change:
    """The change, H x W x 3 float64 in [-1, 1], and its source; a kept image without and with it."""

    values: np.ndarray
    source: str
    clean: np.ndarray | None = None
    shown: np.ndarray | None = None


def change_of(record: Record, runs: Path, query: int | None = None) -> Change:
    """The learnt perturbation of a universal attack, else the change of a kept image of an attacked side.

    Raises BadInput if the run stored neither, or a file is broken.
    """
    learnt = _learnt(record, runs) if record.universal else None
    if learnt is not None and missing(runs, record, ["images"]):
        return Change(learnt, "as learnt")
    kept = read_images(runs, record)
    clean, shown, where = _example(kept, query)
    where += ", kept as 8 bits" if kept.meta.rounded else ""
    if learnt is not None and learnt.shape == clean.shape:
        return Change(learnt, "as learnt", clean, shown)
    return Change((shown.astype(np.float64) - clean) / 255, f"of {where}", clean, shown)


def draw(record: Record, change: Change, width: str | None = None) -> Figure:
    """Pictures: clean and attacked image if kept, the change amplified around grey, its amplitude spectrum.

    Below: mean amplitude by frequency, divided by its mean; white noise is flat at 1.
    """
    inches = width_of(width or "column")
    amplify = gain(record, change.values)
    spectrum = amplitude(change.values)
    pictures = [
        (name, image)
        for name, image in (("clean", change.clean), ("attacked", change.shown))
        if image is not None
    ]
    pictures.append((f"change ×{amplify:.3g}", np.clip(0.5 + amplify * change.values, 0, 1)))
    height, wide = change.values.shape[:2]
    cell = min((inches - 0.5) / 4.6, 1.0)
    with styled():
        subject = f"Perturbation of {attack_of(record)} on {victim_of(record)}"
        note = f"{change.source}, amplified around grey; spectrum: log amplitude, mean over channels"
        figure = new_figure(inches, cell * height / wide + 1.75, subject, facts(record, note))
        ratios = [cell * height / wide + 0.4, 1.35]
        (top,), (bottom,) = figure.subfigures(2, 1, squeeze=False, height_ratios=ratios)
        row = top.subplots(1, len(pictures) + 1)
        for axes, (name, image) in zip(row, pictures, strict=False):
            pixels = image if image.dtype == np.uint8 else np.round(255 * image).astype(np.uint8)
            picture(axes, small(pixels), name)
        _spectrum(row[-1], spectrum, height / wide)
        _profile(bottom.subplots(), spectrum)
        return figure


def alt(record: Record, change: Change) -> str:
    """Size and frequencies of the change in words."""
    frequency, mean = profile(amplitude(change.values))
    low = mean[frequency < 0.125].sum() / max(mean.sum(), 1e-12)
    return (
        f"Perturbation of {attack_of(record)} on {victim_of(record)}, {change.source}: at most "
        f"{255 * np.abs(change.values).max():.0f} levels; {low:.0%} of its mean amplitude by frequency lies "
        "below an eighth of a cycle per pixel."
    )


def amplitude(values: np.ndarray) -> np.ndarray:
    """H x W amplitude of the 2-D spectrum, mean over channels, frequency 0 in the middle."""
    return np.fft.fftshift(np.abs(np.fft.fft2(values, axes=(0, 1))).mean(2))


def profile(spectrum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean amplitude by frequency: middles of bins in cycles per pixel from 0 to 0.5, without frequency 0."""
    height, wide = spectrum.shape
    rows, columns = (np.fft.fftshift(np.fft.fftfreq(size)) for size in (height, wide))
    radius = np.hypot(rows[:, None], columns)
    edges = np.linspace(0, 0.5, _BINS + 1)
    place = np.digitize(radius, edges) - 1
    inside = (radius > 0) & (place < _BINS)
    count = np.bincount(place[inside], minlength=_BINS)
    total = np.bincount(place[inside], weights=spectrum[inside], minlength=_BINS)
    some = count > 0
    return ((edges[:-1] + edges[1:]) / 2)[some], total[some] / count[some]


def gain(record: Record, values: np.ndarray) -> float:
    """Amplification factor of a change: half the range at the L_inf budget, or at its largest value."""
    threat = record.config["threat"]
    largest = float(np.abs(values).max())
    if threat["norm"] == "linf":
        largest = max(largest, float(threat.get("eps_value", largest)))
    return 0.5 / largest if largest else 1.0


def _example(kept: KeptImages, query: int | None) -> tuple[np.ndarray, np.ndarray, str]:
    row = row_of(kept, query)
    if Side.QUERY in kept.meta.attacked:
        return kept.clean[Side.QUERY][row], kept.shown[Side.QUERY][row], f"query {row}"
    place = kept.match[row]
    what = f"query {row}'s nearest right gallery image"
    return kept.clean[Side.GALLERY][place], kept.shown[Side.GALLERY][place], what


def _learnt(record: Record, runs: Path) -> np.ndarray | None:
    """The learnt pixels, H x W x 3; None without a file, or if a network generates a change per image."""
    # Imported here because it imports torch, which no other figure needs.
    from vbench.attacks.perturbation import GENERATOR, Perturbation

    path = learnt_file(runs, record)
    if path is None:
        return None
    found = Perturbation.load(path)
    if any(name.startswith(GENERATOR) for name in found.modules):
        return None
    # The modality of the attacked side, whose perturbation may be its own.
    infrared = ("ir2vis" in record.protocol) == (record.config["threat"]["side"] != "gallery")
    own = found.delta_of(Modality.INFRARED if infrared else Modality.VISIBLE)
    return own.permute(1, 2, 0).double().numpy()


def _spectrum(axes: Axes, spectrum: np.ndarray, tall: float) -> None:
    floor = max(spectrum.max() * 1e-4, 1e-12)
    axes.imshow(
        np.log10(np.maximum(spectrum, floor)),
        extent=(-0.5, 0.5, 0.5, -0.5),
        aspect=tall,
        cmap="cividis",
        interpolation="nearest",
    )
    axes.set_title("spectrum")
    axes.set_xticks([-0.5, 0, 0.5], ["-.5", "0", ".5"])
    axes.set_yticks([-0.5, 0, 0.5], ["-.5", "0", ".5"])
    axes.grid(False)
    axes.set_xlabel("cycles/pixel")


def _profile(axes: Axes, spectrum: np.ndarray) -> None:
    frequency, mean = profile(spectrum)
    axes.plot(frequency, mean / max(mean.mean(), 1e-12), color=PALETTE[0], marker="o", markersize=2)
    axes.axhline(1, color=MUTED, linestyle="--", linewidth=0.8)
    axes.text(0.5, 1, "white noise", color=MUTED, size=6, ha="right", va="bottom")
    axes.set_xlim(0, 0.5)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("frequency, cycles/pixel")
    axes.set_ylabel("amplitude / mean")
