"""Files that programs read in several ways, or that must not reach a program: one answer each."""

from __future__ import annotations

import io
import os
import struct
import zlib

import fabricate
import numpy as np
import pytest
from PIL import Image, ImageFile

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.data.base import Sample
from vbench.data.images import FORMATS, Unreadable, load_images, open_rgb
from vbench.data.verify import verify

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)


def save(path, image=None, **options):
    (image or Image.fromarray(PIXELS)).save(path, **options)
    return path


def refused(path):
    with pytest.raises(Unreadable) as refusal:
        open_rgb(path)
    text = str(refusal.value)
    assert text and "\n" not in text
    return text


def oriented(number):
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("number", range(2, 9))
def test_a_file_that_asks_to_be_turned_is_refused(tmp_path, name, number):
    text = refused(save(tmp_path / name, exif=oriented(number)))
    assert f"EXIF orientation {number}" in text and "without the tag" in text


@pytest.mark.parametrize("number", [0, 1, 9, 300])
def test_a_file_that_is_upright_or_says_nothing_is_taken(tmp_path, number):
    path = save(tmp_path / "a.png", exif=oriented(number))
    assert np.array_equal(np.asarray(open_rgb(path)), PIXELS)


def test_an_orientation_in_xmp_counts(tmp_path):
    words = b'<rdf:Description tiff:Orientation="6"/>'
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF>' + words + b"</rdf:RDF></x:xmpmeta>"
    assert "EXIF orientation 6" in refused(save(tmp_path / "a.jpg", xmp=xmp))


def test_verify_lists_files_that_ask_to_be_turned(tmp_path):
    root = fabricate.sysu(tmp_path)
    turned = sorted(root.glob("cam3/*/*.jpg"))[0]
    save(turned, exif=oriented(8))
    ((path, why),) = verify("sysu", root, quiet=True).unreadable
    assert path == turned.relative_to(root).as_posix() and "EXIF orientation 8" in why


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(depth, colour, row_bytes, *more):
    """A PNG file of 4 x 4 zeros, of which Pillow can write only some kinds."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(row_bytes) for _ in range(4))))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (png(16, 2, 24), "16 bits a channel"),
        (png(16, 0, 8), "mode I;16"),
        (png(16, 6, 32), "mode RGBA"),
        (png(8, 2, 12, chunk(b"tRNS", b"\0" * 6)), "transparent"),
        (png(8, 0, 4, chunk(b"tRNS", b"\0\0")), "transparent"),
        (png(8, 3, 4, chunk(b"PLTE", b"\1" * 6), chunk(b"tRNS", b"\0\xff")), "transparent"),
    ],
    ids=["16-bit RGB", "16-bit grey", "16-bit RGBA", "key colour", "key grey", "palette"],
)
def test_values_that_do_not_fit_8_bit_rgb_are_refused(tmp_path, content, words):
    (tmp_path / "a.png").write_bytes(content)
    text = refused(tmp_path / "a.png")
    assert words in text and "8-bit RGB or grey-scale" in text


@pytest.mark.parametrize("depth", [2, 4, 8])
def test_grey_of_few_levels_is_spread_over_eight_bits(tmp_path, depth):
    row = b"\xff" * (depth // 2)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, depth, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + row) * 4))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + pixels + chunk(b"IEND", b""))
    assert (np.asarray(open_rgb(tmp_path / "a.png")) == 255).all()


def test_several_pictures_in_one_file_are_refused(tmp_path):
    pictures = [Image.fromarray(np.full((9, 7, 3), value, np.uint8)) for value in (1, 2, 3)]
    rest = {"save_all": True, "append_images": pictures[1:]}
    for name, kind in (("a.png", "PNG"), ("a.jpg", "MPO")):
        assert "3 pictures in one file" in refused(save(tmp_path / name, pictures[0], format=kind, **rest))


def test_profiles_and_gamma_leave_values_as_they_are_stored(tmp_path):
    gamma = chunk(b"gAMA", struct.pack(">I", 10_000))
    (tmp_path / "g.png").write_bytes(png(8, 2, 12, gamma))
    assert not np.asarray(open_rgb(tmp_path / "g.png")).any()
    path = save(tmp_path / "p.png", icc_profile=b"\0" * 200)
    assert np.array_equal(np.asarray(open_rgb(path)), PIXELS)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_is_refused_whatever_other_code_told_pillow(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    (tmp_path / "a").write_bytes(buffer.getvalue()[:-3000])
    with pytest.raises(BadInput, match=r"a \(.*truncated"):
        load_images([Sample("a", 1, 1, Modality.VISIBLE)], tmp_path, (4, 4), quiet=True)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True, "left as it was found"


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 32\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.eps"])
@pytest.mark.parametrize(
    "start", [b"", b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 12, 80)], ids=["text", "binary"]
)
def test_postscript_runs_no_program(tmp_path, name, start, monkeypatch):
    """Whatever the file is called: Pillow would start the program gs."""
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\necho 10.0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / name).write_bytes(start + EPS)
    assert refused(tmp_path / name) == "in EPS format; save it as JPEG, PNG or BMP"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PPM", "ICO", "JPEG2000"])
def test_other_formats_are_named(tmp_path, kind):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, kind)
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    assert refused(tmp_path / "a.jpg") == f"in {kind} format; save it as JPEG, PNG or BMP"


@pytest.mark.parametrize("kind", FORMATS)
def test_the_format_is_told_by_the_content(tmp_path, kind):
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", kind)
    assert open_rgb(tmp_path / "a.jpg").size == (7, 9)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    assert refused(tmp_path / "pipe.jpg") == refused(tmp_path / "folder.jpg") == "not a file"
    assert "symbolic links" in refused(tmp_path / "loop.jpg")
    assert refused(tmp_path / "gone.jpg") == "missing"
