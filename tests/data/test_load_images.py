"""Decoding once: pixels, refusals, the cache and its races."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading

import fabricate
import numpy as np
import pytest
from PIL import Image

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.data import images
from vbench.data.base import Sample
from vbench.data.images import load_images


def samples(*names):
    return [Sample(name, 1, 1, Modality.VISIBLE) for name in names]


def save(root, name, image, **options):
    image.save(root / name, **options)
    return samples(name)[0]


@pytest.fixture
def many(tmp_path):
    root = tmp_path / "root"
    for index in range(7):
        fabricate.write(root / f"{index}.jpg", fabricate.jpeg(index))
    return root, samples(*(f"{index}.jpg" for index in range(7)))


@pytest.fixture
def decodes(monkeypatch):
    """How many files were decoded, as a list that grows."""
    seen, lock, real = [], threading.Lock(), images.decode

    def counting(path, *rest):
        with lock:
            seen.append(path)
        return real(path, *rest)

    monkeypatch.setattr(images, "decode", counting)
    return seen


@pytest.mark.parametrize(
    ("name", "pillow"), [("lanczos", Image.Resampling.LANCZOS), ("bilinear", Image.Resampling.BILINEAR)]
)
def test_pixels_are_pillows_resize_in_the_order_of_the_samples(many, name, pillow):
    root, listed = many
    listed = listed[::-1]
    found = load_images(listed, root, (8, 5), name, quiet=True)
    assert found.shape == (7, 8, 5, 3)
    assert found.dtype == np.uint8
    for row, sample in zip(found, listed, strict=True):
        assert np.array_equal(row, np.asarray(Image.open(root / sample.path).resize((5, 8), pillow)))


def test_more_images_than_one_portion_keep_their_order(tmp_path):
    values = [index % 251 for index in range(600)]
    for index, value in enumerate(values):
        Image.new("L", (1, 1), value).save(tmp_path / f"{index}.png")
    listed = samples(*(f"{index}.png" for index in range(600)))
    for cache in (None, tmp_path / "cache"):
        assert (
            load_images(listed, tmp_path, (1, 1), cache_dir=cache, quiet=True)[:, 0, 0, 0].tolist() == values
        )


def test_the_right_size_is_left_alone(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    sample = save(tmp_path, "a.png", Image.fromarray(pixels))
    assert np.array_equal(load_images([sample], tmp_path, (6, 4), quiet=True)[0], pixels)


def test_grey_becomes_three_equal_channels_and_palettes_their_colours(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (6, 4), dtype=np.uint8)
    one = save(tmp_path, "grey.bmp", Image.fromarray(grey))
    two = save(
        tmp_path,
        "palette.png",
        Image.new("RGB", (4, 6), (10, 200, 30)).convert("P", palette=Image.Palette.ADAPTIVE),
    )
    found = load_images([one, two], tmp_path, (6, 4), quiet=True)
    assert np.array_equal(found[0], np.repeat(grey[:, :, None], 3, axis=2))
    assert np.array_equal(found[1], np.broadcast_to(np.uint8([10, 200, 30]), (6, 4, 3)))


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.jpg", "CMYK"), ("a.png", "RGBA"), ("a.png", "I;16"), ("a.png", "LA")],
)
def test_ambiguous_modes_are_refused_by_path(tmp_path, name, mode):
    sample = save(tmp_path, name, Image.new(mode, (4, 6)))
    with pytest.raises(BadInput, match=rf"{name} \(mode .*8-bit RGB or grey-scale"):
        load_images([sample], tmp_path, (6, 4), quiet=True)


@pytest.mark.parametrize("cached", [False, True])
def test_all_broken_files_are_counted_and_the_first_five_named(many, tmp_path, cached):
    root, listed = many
    fabricate.write(root / "0.jpg", b"")
    fabricate.write(root / "1.jpg", fabricate.jpeg()[:-40])
    fabricate.write(root / "2.jpg", b"GIF8 no")
    (root / "3.jpg").unlink()
    fabricate.write(root / "5.jpg", b"")
    fabricate.write(root / "6.jpg", b"")
    cache = tmp_path / "cache" if cached else None
    with pytest.raises(BadInput) as refusal:
        load_images(listed, root, (8, 5), cache_dir=cache, quiet=True)
    text = str(refusal.value)
    assert text.startswith("6 of 7 images")
    for part in (
        "0.jpg (empty file)",
        "1.jpg (",
        "truncated",
        "2.jpg (not an image)",
        "3.jpg (missing)",
        "5.jpg",
        "...",
    ):
        assert part in text
    assert "4.jpg" not in text
    assert "6.jpg" not in text
    assert "vbench data verify" in text
    assert len(text.splitlines()) == 1
    assert not cached or not [p for p in cache.iterdir() if p.suffix != ".lock"]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_damaged_bytes_never_escape_as_anything_but_bad_input(tmp_path, kind):
    generator = np.random.default_rng(1)
    buffer = io.BytesIO()
    Image.fromarray(generator.integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(buffer, kind)
    whole = buffer.getvalue()
    refused = 0
    for index in range(30):
        damaged = bytearray(whole if index % 2 else whole[: generator.integers(0, len(whole))])
        for _ in range(index % 5):
            if damaged:
                damaged[generator.integers(0, min(len(damaged), 80))] = generator.integers(0, 256)
        fabricate.write(tmp_path / "x", bytes(damaged))
        try:
            found = load_images(samples("x"), tmp_path, (4, 4), quiet=True)
        except BadInput:
            refused += 1
        else:
            assert found.shape == (1, 4, 4, 3)
    assert refused > 6


@pytest.mark.parametrize(("size", "name"), [((0, 4), "lanczos"), ((4, 2.5), "lanczos"), ((4, 4), "cubic")])
def test_bad_size_or_filter_is_refused(many, size, name):
    root, listed = many
    with pytest.raises(BadInput):
        load_images(listed, root, size, name, quiet=True)


def test_a_second_call_decodes_nothing(many, tmp_path, decodes):
    root, listed = many
    first = load_images(listed, root, (8, 5), cache_dir=tmp_path / "cache", quiet=True)
    assert len(decodes) == 7
    second = load_images(listed, root, (8, 5), cache_dir=tmp_path / "cache", quiet=True)
    assert len(decodes) == 7
    assert isinstance(second, np.memmap)
    assert not second.flags.writeable
    assert np.array_equal(first, second)
    assert np.array_equal(second, load_images(listed, root, (8, 5), quiet=True))


def test_any_change_decodes_again(many, tmp_path, decodes):
    root, listed = many
    cache = tmp_path / "cache"

    def decoded(*args):
        before = len(decodes)
        result = load_images(*args, cache_dir=cache, quiet=True)
        return len(decodes) - before, result

    assert decoded(listed, root, (8, 5))[0] == 7
    assert decoded(listed, root, (5, 8))[0] == 7
    assert decoded(listed, root, (8, 5), "bilinear")[0] == 7
    assert decoded(listed[:6], root, (8, 5))[0] == 6
    assert decoded(listed[::-1], root, (8, 5))[0] == 7
    fabricate.write(root / "3.jpg", fabricate.jpeg(99))
    number, changed = decoded(listed, root, (8, 5))
    assert number == 7
    assert np.array_equal(changed[3], load_images(samples("3.jpg"), root, (8, 5), quiet=True)[0])
    assert decoded(listed, root, (8, 5))[0] == 0


def test_a_file_rewritten_at_the_same_length_decodes_again(tmp_path):
    def paint(value):
        Image.new("RGB", (4, 6), (value, 0, 0)).save(tmp_path / "a.bmp")
        os.utime(tmp_path / "a.bmp", ns=(value, value))
        return load_images(samples("a.bmp"), tmp_path, (6, 4), cache_dir=tmp_path / "cache", quiet=True)

    assert (paint(10)[..., 0] == 10).all()
    assert (paint(20)[..., 0] == 20).all()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-40],
        lambda content: b"",
        lambda content: b"\x80\x04K\x01." + content[5:],
        lambda content: bytes(len(content)),
        lambda content: content[:400] + bytes([content[400] ^ 1]) + content[401:],
        lambda content: content + b"more",
    ],
    ids=["truncated", "empty", "pickle", "zeros", "one bit", "longer"],
)
def test_a_damaged_cache_file_is_rebuilt(many, tmp_path, decodes, damage):
    root, listed = many
    cache = tmp_path / "cache"
    wanted = np.array(load_images(listed, root, (8, 5), cache_dir=cache, quiet=True))
    (stored,) = cache.glob("*.npy")
    assert np.array_equal(np.load(stored, allow_pickle=False), wanted)
    stored.write_bytes(damage(stored.read_bytes()))
    assert np.array_equal(load_images(listed, root, (8, 5), cache_dir=cache, quiet=True), wanted)
    assert len(decodes) == 14
    load_images(listed, root, (8, 5), cache_dir=cache, quiet=True)
    assert len(decodes) == 14


def test_what_a_killed_process_left_is_overwritten(many, tmp_path):
    root, listed = many
    cache = tmp_path / "cache"
    wanted = np.array(load_images(listed, root, (8, 5), cache_dir=cache, quiet=True))
    (stored,) = cache.glob("*.npy")
    stored.unlink()
    stored.with_suffix(".part").write_bytes(b"half" * 1000)
    assert np.array_equal(load_images(listed, root, (8, 5), cache_dir=cache, quiet=True), wanted)
    assert not list(cache.glob("*.part"))


RACER = """
import sys, time
from pathlib import Path
from vbench.data import images
from vbench.data.base import Sample
from vbench.core.types import Modality

real, count = images.decode, []

def slow(*args):
    count.append(1)
    time.sleep(0.02)
    return real(*args)

images.decode = slow
root = Path(sys.argv[1])
listed = [Sample(f"{i}.jpg", 1, 1, Modality.VISIBLE) for i in range(7)] * 10
array = images.load_images(listed, root, (8, 5), cache_dir=Path(sys.argv[2]), quiet=True)
print(len(count), int(array.astype("int64").sum()))
"""


def test_processes_at_once_decode_once_and_agree(many, tmp_path):
    root, listed = many
    command = [sys.executable, "-c", RACER, str(root), str(tmp_path / "cache")]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [racer.communicate(timeout=60)[0].split() for racer in racers]
    assert sum(int(count) for count, _ in answers) == 70
    expected = int(load_images(listed * 10, root, (8, 5), quiet=True).astype("int64").sum())
    assert {int(total) for _, total in answers} == {expected}


def test_no_samples_give_an_empty_array(tmp_path):
    assert load_images([], tmp_path, (8, 5), cache_dir=tmp_path, quiet=True).shape == (0, 8, 5, 3)
