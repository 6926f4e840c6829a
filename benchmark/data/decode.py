"""One image file to one 8-bit RGB array of a given size."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import Image

from vbench.errors import BadInput

FILTERS = {"lanczos": Image.Resampling.LANCZOS, "bilinear": Image.Resampling.BILINEAR}

#: Modes taken as they are or with an unambiguous way to RGB: grey becomes three equal channels, a palette
#: its colours. Others (CMYK, 16 bit, transparency) have several readings, so they are refused.
_MODES = ("RGB", "L", "P")

#: A picture of a person is far smaller; a damaged header may claim gigabytes.
_MOST_PIXELS = 40_000_000


class Unreadable(Exception):
    """Why a file cannot be used as an image; the text is a few words."""


def decode(path: Path, size: tuple[int, int], resize_filter: str) -> np.ndarray:
    """Return ``path`` as H x W x 3 uint8, resized from its own size to ``size`` = (H, W) in one step.

    ``resize_filter`` is "lanczos" or "bilinear" (Pillow's, which widen their support when shrinking).
    Raises :class:`Unreadable`.
    """
    height, width = size
    return np.asarray(open_rgb(path).resize((width, height), FILTERS[resize_filter]))


def open_rgb(path: Path) -> Image.Image:
    """Decode a whole file to an RGB image of its own size; raises :class:`Unreadable`."""
    try:
        with Image.open(path) as image:
            if image.mode not in _MODES:
                raise Unreadable(f"mode {image.mode}; save it as 8-bit RGB or grey-scale")
            if image.width * image.height > _MOST_PIXELS:
                raise Unreadable(
                    f"{image.width} x {image.height} pixels, too large for a picture of a person"
                )
            image.load()
            return image if image.mode == "RGB" else image.convert("RGB")
    except FileNotFoundError:
        raise Unreadable("missing") from None
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        IndexError,
        TypeError,
        KeyError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        raise Unreadable(_reason(path, error)) from None


def check_size(size: tuple[int, int], resize_filter: str) -> None:
    """Refuse a size that is not two positive whole numbers, or an unknown filter, with :class:`BadInput`."""
    if len(size) != 2 or any(not isinstance(side, int) or side < 1 for side in size):
        raise BadInput(f"image size must be (height, width) in whole pixels, got {size}")
    if resize_filter not in FILTERS:
        raise BadInput(f"unknown resize filter '{resize_filter}'; known: {', '.join(FILTERS)}")


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "empty file" if path.stat().st_size == 0 else "not an image"
    if isinstance(error, OSError) and error.errno is not None:
        return (error.strerror or "cannot be opened").lower()
    return str(error).splitlines()[0] if str(error) else type(error).__name__
