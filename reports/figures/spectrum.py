"""A visible/infrared pair rebuilt from its amplitude alone and from its phase alone."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from vbench.core.types import Modality, Side
from vbench.records.files import KeptImages
from vbench.records.record import Record
from vbench.reports.figures.panels import attack_of, facts, picture, representative, row_of, small, victim_of
from vbench.reports.figures.style import SMALL_SIZE, new_figure, styled, width_of

_ROWS = ("image", "amplitude only", "phase only")


def amplitude_only(image: np.ndarray) -> np.ndarray:
    """H x W x C with the image's amplitude spectrum and phase zero, channel by channel."""
    return np.fft.ifft2(np.abs(np.fft.fft2(image, axes=(0, 1))), axes=(0, 1)).real


def phase_only(image: np.ndarray) -> np.ndarray:
    """H x W x C with the image's phase spectrum and amplitude one, channel by channel."""
    return np.fft.ifft2(np.exp(1j * np.angle(np.fft.fft2(image, axes=(0, 1)))), axes=(0, 1)).real


def pair(kept: KeptImages, row: int) -> list[tuple[str, np.ndarray]]:
    """A kept query and its nearest correct gallery image: visible, infrared, then attacked versions."""
    places = {Side.QUERY: row, Side.GALLERY: int(kept.match[row])}
    sides = sorted(places, key=lambda side: kept.modality(side) is not Modality.VISIBLE)
    found = [(kept.modality(side).value, kept.clean[side][places[side]]) for side in sides]
    for side in sides:
        if side in kept.meta.attacked:
            found.append((f"{kept.modality(side).value},\nattacked", kept.shown[side][places[side]]))
    return [(name, image.astype(np.float64) / 255) for name, image in found]


def draw(record: Record, kept: KeptImages, query: int | None = None, width: str | None = None) -> Figure:
    """Columns: a pair, clean and attacked. Rows: the image, rebuilt from its amplitude, from its phase.

    As many pairs as fit the width, or that of one kept query. Rebuilt images are stretched to the full range,
    equally in all channels; those from amplitude have their origin in the middle.
    """
    inches = width_of(width or "column")
    fitting = max(1, int((inches - 0.2) / 0.5 / len(pair(kept, 0))))
    rows = [row_of(kept, query)] if query is not None else representative(kept, fitting)
    columns = [column for row in rows for column in pair(kept, row)]
    height, wide = columns[0][1].shape[:2]
    cell = min((inches - 0.25) / len(columns) - 0.04, 0.62)
    one = f"query {rows[0]} and its"
    which = one if len(rows) == 1 else f"queries {', '.join(map(str, rows))}, each with its"
    with styled():
        subject = f"Amplitude and phase under {attack_of(record)}"
        note = f"{victim_of(record)}; {which} nearest right gallery image; contrast stretched"
        figure = new_figure(inches, 3 * (cell * height / wide + 0.04) + 0.4, subject, facts(record, note))
        grid = figure.subplots(3, len(columns), squeeze=False)
        for column, (name, image) in enumerate(columns):
            parts = (image, _seen(np.fft.fftshift(amplitude_only(image), (0, 1))), _seen(phase_only(image)))
            for line, part in enumerate(parts):
                axes = grid[line, column]
                picture(axes, small(np.round(255 * part).astype(np.uint8)), name if line == 0 else "")
                axes.title.set_size(SMALL_SIZE)
                if column == 0:
                    axes.set_ylabel(_ROWS[line])
        return figure


def alt(record: Record, kept: KeptImages, query: int | None = None) -> str:
    """How much the attack changes amplitude and phase, in words."""
    columns = pair(kept, row_of(kept, query))
    parts = []
    for name, image in columns[2:]:
        clean = next(found for modality, found in columns[:2] if name.startswith(modality))
        before, after = (np.fft.fft2(one, axes=(0, 1)) for one in (clean, image))
        amplitude = np.abs(np.abs(after) - np.abs(before)).sum() / np.abs(before).sum()
        turned = np.abs(np.angle(after * before.conj())).mean()
        parts.append(
            f"the attack changes the {name.split(',')[0]} image's amplitude by {amplitude:.0%} and turns its "
            f"phase by {np.degrees(turned):.0f} degrees on average"
        )
    about = (
        "A visible and an infrared image of one identity, rebuilt from amplitude alone and from phase alone"
    )
    return f"{about}, clean and under {attack_of(record)}; {'; '.join(parts)}."


def _seen(image: np.ndarray) -> np.ndarray:
    """Stretched so that all but the outermost hundredth of the values fills [0, 1]."""
    low, high = np.percentile(image, (1, 99))
    return np.clip((image - low) / max(high - low, 1e-12), 0, 1)
