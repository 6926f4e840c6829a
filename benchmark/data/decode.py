"""One image file to one 8-bit RGB array of a given size, and to a hash of what it shows."""

from __future__ import annotations

import hashlib
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from vbench.errors import BadInput

FILTERS = {"lanczos": Image.Resampling.LANCZOS, "bilinear": Image.Resampling.BILINEAR}

#: What the data sets' owners ship, and all that is ever opened: Pillow hands some other formats to programs.
FORMATS = ("JPEG", "PNG", "BMP")

#: Told apart by their first bytes, so that whoever has such files hears what they are.
_OTHER_FORMATS = ("TIFF", "GIF", "WEBP", "JPEG2000", "AVIF", "EPS", "PPM", "PSD", "ICO")

#: Modes taken as they are or with an unambiguous way to RGB: grey becomes three equal channels, a palette
#: its colours. Others (CMYK, 16 bit, transparency) have several readings, so they are refused.
_MODES = ("RGB", "L", "P")

#: A picture of a person is far smaller; a damaged header may claim gigabytes.
_MOST_PIXELS = 40_000_000

_ORIENTATION = 0x0112
#: Orientations that turn or mirror the picture; 1 is upright, and other numbers mean nothing.
_TURNED = range(2, 9)


class Unreadable(Exception):
    """Why a file cannot be used as an image; the text is a few words."""


def decode(path: Path, size: tuple[int, int], resize_filter: str) -> tuple[np.ndarray, str]:
    """Return ``path`` as H x W x 3 uint8, resized from its own size to ``size`` = (H, W) in one step.

    And the :func:`content_hash` of the whole image. ``resize_filter`` is "lanczos" or "bilinear" (Pillow's,
    which widen their support when shrinking). Raises :class:`Unreadable`.
    """
    height, width = size
    image = open_rgb(path)
    return np.asarray(image.resize((width, height), FILTERS[resize_filter])), content_hash(image)


def content_hash(image: Image.Image) -> str:
    """SHA-256, as 64 hexadecimal digits, of an RGB image's size and pixels.

    Files that decode to the same picture have the same hash, whatever their format and their name.
    """
    digest = hashlib.sha256(b"%d x %d RGB\n" % image.size)
    digest.update(image.tobytes())
    return digest.hexdigest()


def open_rgb(path: Path) -> Image.Image:
    """Decode a whole file to an RGB image of its own size; raises :class:`Unreadable`.

    Pixel values are taken as they are stored, as the authors of data sets and victims take them: colour
    profiles and gamma are not applied. What programs show in several ways is refused: a file that asks to be
    turned (EXIF orientation; published code ignores it, viewers and OpenCV follow it), one with transparent
    or 16-bit values, one of several pictures.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Unreadable("not a file")
        with Image.open(path, formats=FORMATS) as image:
            _refuse_other_readings(image)
            image.load()
            # A PNG may say so after its pixels.
            _refuse_turned(image)
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
        Image.DecompressionBombWarning,
    ) as error:
        raise Unreadable(_reason(path, error)) from None


@contextmanager
def whole_files_only() -> Iterator[None]:
    """Refuse truncated files inside the block, also where other code told Pillow to fill them up."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def check_size(size: tuple[int, int], resize_filter: str) -> None:
    """Refuse a size that is not two positive whole numbers, or an unknown filter, with :class:`BadInput`."""
    if len(size) != 2 or any(not isinstance(side, int) or side < 1 for side in size):
        raise BadInput(f"image size must be (height, width) in whole pixels, got {size}")
    if resize_filter not in FILTERS:
        raise BadInput(f"unknown resize filter '{resize_filter}'; known: {', '.join(FILTERS)}")


def _refuse_other_readings(image: Image.Image) -> None:
    if image.mode not in _MODES:
        raise Unreadable(f"mode {image.mode}; save it as 8-bit RGB or grey-scale")
    # Pillow drops the lower half of such values without a word.
    if any("16" in str(tile.args) for tile in image.tile if image.format == "PNG"):
        raise Unreadable("16 bits a channel; save it as 8-bit RGB or grey-scale")
    if "transparency" in image.info:
        raise Unreadable("transparent colours; save it as 8-bit RGB or grey-scale")
    pictures = getattr(image, "n_frames", 1)
    if pictures > 1:
        raise Unreadable(f"{pictures} pictures in one file; save the one that counts alone")
    if image.width * image.height > _MOST_PIXELS:
        raise Unreadable(f"{image.width} x {image.height} pixels, too large for a picture of a person")


def _refuse_turned(image: Image.Image) -> None:
    orientation = image.getexif().get(_ORIENTATION)
    if orientation in _TURNED:
        raise Unreadable(
            f"EXIF orientation {orientation}: some programs turn it, others do not; "
            "save the pixels as they should be seen, without the tag"
        )


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return _unidentified(path)
    if isinstance(error, OSError) and error.errno is not None:
        return (error.strerror or "cannot be opened").lower()
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _unidentified(path: Path) -> str:
    """What a file is that none of the formats can open; nothing beyond its first bytes is looked at."""
    with path.open("rb") as file:
        start = file.read(16)
    if len(start) < 16:
        return "not an image" if start else "empty file"
    Image.init()
    for name in _OTHER_FORMATS:
        _, accepts = Image.OPEN.get(name, (None, None))
        if accepts is not None and accepts(start):
            return f"in {name} format; save it as JPEG, PNG or BMP"
    return "not an image"
