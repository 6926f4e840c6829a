"""A set is known by what its images show: hashes, the card made of them, and when a kept hash is believed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import time

import fabricate
import numpy as np
import pytest
from PIL import Image

from vbench.core.errors import BadInput, VbenchError
from vbench.core.types import Modality
from vbench.data import Trial, images, open_dataset
from vbench.data.base import Sample
from vbench.data.images import Images, content_hash, data_card, open_rgb

SIZE = (6, 4)


def sample(name):
    return Sample(name, 1, 1, Modality.VISIBLE)


def paint(path, seed, size=SIZE):
    """A noise image as an uncompressed file: every content of one size has the same length."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "BMP")
    return pixels


@pytest.fixture
def root(tmp_path):
    for number in range(5):
        paint(tmp_path / "data" / f"{number}.bmp", number)
    return tmp_path / "data"


@pytest.fixture
def opened(monkeypatch):
    """The files that were opened as images, as a list that grows."""
    seen, plain = [], images.open_rgb
    monkeypatch.setattr(images, "open_rgb", lambda path: (seen.append(path.name), plain(path))[1])
    return seen


ALL = [sample(f"{number}.bmp") for number in range(5)]


def test_a_hash_is_of_size_and_pixels_alone(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    for name in ("a.png", "a.bmp", "other.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    wanted = hashlib.sha256(b"7 x 5 RGB\n" + pixels.tobytes()).hexdigest()
    assert Images(tmp_path).hashes([sample("a.png"), sample("a.bmp"), sample("other.png")]) == [wanted] * 3
    turned = Image.fromarray(pixels.reshape(7, 5, 3))
    assert content_hash(turned) != wanted, "the same bytes in another shape"
    grey = np.arange(35, dtype=np.uint8).reshape(5, 7)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([grey] * 3, axis=2)).save(tmp_path / "three.png")
    one, three = Images(tmp_path).hashes([sample("grey.png"), sample("three.png")])
    assert one == three


@pytest.mark.parametrize("cached", [False, True])
def test_victims_of_any_size_share_the_hashes(root, tmp_path, cached, opened):
    wanted = [content_hash(open_rgb(root / one.path)) for one in ALL]
    for size in ((3, 2), (8, 8)):
        found = Images(root, tmp_path / "cache" if cached else None, quiet=True)
        found.load(ALL, size)
        opened.clear()
        assert found.hashes(ALL) == wanted and not opened, "hashed as they were decoded"


def test_what_is_vouched_for_is_not_opened_again(root, tmp_path, opened):
    cache = tmp_path / "cache"
    first = Images(root, cache, quiet=True)
    assert first.known(ALL) is None
    wanted = first.hashes(ALL)
    opened.clear()
    later = Images(root, cache, quiet=True)
    assert later.known(ALL) == wanted == later.hashes(ALL) and not opened
    assert later.known([*ALL, sample("none.bmp")]) is None


def keeping_times(path, write):
    before = path.stat()
    write(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def replaced(path):
    """As ``cp -p``, ``rsync -t`` and ``tar`` do it: another file takes the place and the time."""
    new = path.with_name("new")
    paint(new, 99)
    new.replace(path)


def overwritten(path):
    """In place: the inode stays, too."""
    paint(path.with_name("new"), 99)
    path.write_bytes(path.with_name("new").read_bytes())


@pytest.mark.parametrize("write", [replaced, overwritten])
def test_a_change_that_keeps_size_and_time_is_noticed(root, tmp_path, write):
    cache = tmp_path / "cache"
    before = Images(root, cache, quiet=True)
    pixels, known = np.array(before.load(ALL, SIZE)), before.hashes(ALL)
    keeping_times(root / "2.bmp", write)
    after = Images(root, cache, quiet=True)
    assert after.known(ALL) is None
    assert (after.load(ALL, SIZE)[2] == np.asarray(Image.open(root / "2.bmp"))).all()
    assert [one != two for one, two in zip(known, after.hashes(ALL), strict=True)] == [0, 0, 1, 0, 0]
    keeping_times(root / "2.bmp", lambda path: paint(path, 2))
    again = Images(root, cache, quiet=True)
    assert np.array_equal(again.load(ALL, SIZE), pixels) and again.hashes(ALL) == known


def test_a_change_within_a_tick_of_the_clock_is_noticed(root, tmp_path, monkeypatch):
    """Where a file system's clock stands still, no stamp is believed until it has moved on."""
    frozen = images.stamp_of(str(root / "2.bmp")).ctime
    real = images.stamp_of
    monkeypatch.setattr(images, "stamp_of", lambda path: real(path)._replace(ctime=frozen, mtime=frozen))
    monkeypatch.setattr(images, "stamp_of", images.stamp_of)
    monkeypatch.setattr(time, "time_ns", lambda: frozen + 1_000_000)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    before = Images(root, tmp_path / "cache", quiet=True)
    known = before.hashes(ALL)
    overwritten(root / "2.bmp")
    assert Images(root, tmp_path / "cache", quiet=True).hashes(ALL) != known


@pytest.mark.parametrize(
    ("ctime", "at", "believed"),
    [
        (10**18 + 1, 10**18 + 1 + 50_000_000, True),
        (10**18 + 1, 10**18 + 1 + 49_999_999, False),
        (10**18 + 1, 10**18, False),
        (10**18, 10**18 + 1_999_999_999, False),
        (10**18, 10**18 + 2_000_000_000, True),
    ],
    ids=["old", "young", "future", "whole seconds, young", "whole seconds, old"],
)
def test_the_clock_of_a_file_system_may_tick_slowly(ctime, at, believed):
    assert images.vouches(images.Stamp(1, 0, ctime, 1), at) is believed


def test_a_fresh_look_believes_nothing(root, tmp_path, opened):
    cache = tmp_path / "cache"
    Images(root, cache, quiet=True).load(ALL, SIZE)
    (array,) = cache.glob("*.npy")
    (kept,) = cache.glob("*.hashes")
    body = json.loads(kept.read_text().partition("\n")[2])
    body["2.bmp"][-1] = "0" * 64
    text = json.dumps(body)
    kept.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")
    assert Images(root, cache, quiet=True).hashes(ALL)[2] == "0" * 64, "the cache is believed"
    opened.clear()
    fresh = Images(root, cache, fresh=True, quiet=True)
    assert fresh.known(ALL) is None
    found = fresh.load(ALL, SIZE)
    assert len(opened) == 5 and len(list(cache.glob("*.npy"))) == 1 and array.exists()
    assert (found[2] == np.asarray(Image.open(root / "2.bmp"))).all()
    assert Images(root, cache, quiet=True).hashes(ALL) == fresh.hashes(ALL) != "0" * 64
    assert fresh.hashes(ALL)[2] != "0" * 64


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:-9],
        lambda whole: whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
        lambda whole: b"\x80\x04K\x01." * 99,
        lambda whole: b"[" * 100_000,
    ],
    ids=["empty", "truncated", "one bit", "pickle", "nested"],
)
def test_damaged_hashes_are_made_again(root, tmp_path, damage, opened):
    cache = tmp_path / "cache"
    wanted = Images(root, cache, quiet=True).hashes(ALL)
    (kept,) = cache.glob("*.hashes")
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    opened.clear()
    assert Images(root, cache, quiet=True).hashes(ALL) == wanted and len(opened) == 5
    assert json.loads(kept.read_bytes().partition(b"\n")[2]) == json.loads(whole.partition(b"\n")[2])


def test_a_cache_that_cannot_be_used_is_one_line(root, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(VbenchError, match="cannot use the image cache") as refusal:
        Images(root, tmp_path / "file", quiet=True).hashes(ALL)
    assert "\n" not in str(refusal.value)


def test_files_that_are_gone_are_forgotten(root, tmp_path):
    cache = tmp_path / "cache"
    Images(root, cache, quiet=True).hashes(ALL)
    for number in range(4):
        (root / f"{number}.bmp").rename(root / f"new-{number}.bmp")
    found = [sample(f"new-{number}.bmp") for number in range(4)]
    Images(root, cache, quiet=True).hashes(found)
    (kept,) = cache.glob("*.hashes")
    assert json.loads(kept.read_text().partition("\n")[2]).keys() == {
        "4.bmp",
        *(f"new-{number}.bmp" for number in range(4)),
    }


def test_two_processes_lose_nothing_of_each_other(root, tmp_path, opened):
    cache = tmp_path / "cache"
    one, two = (Images(root, cache, quiet=True) for _ in range(2))
    one.known(ALL), two.known(ALL)
    one.hashes(ALL[:3])
    two.hashes(ALL[3:])
    opened.clear()
    assert Images(root, cache, quiet=True).known(ALL) is not None and not opened


def test_a_file_that_changes_while_it_is_in_use_ends_the_work(root, tmp_path):
    found = Images(root, tmp_path / "cache", quiet=True)
    found.hashes(ALL)
    paint(root / "2.bmp", 99)
    with pytest.raises(VbenchError, match=r"2\.bmp was changed while it was in use"):
        found.load(ALL, SIZE)


def test_a_file_that_changes_while_it_is_read_is_named(root, monkeypatch):
    real = images.decode

    def meddling(path, *rest):
        found = real(path, *rest)
        if path.name == "2.bmp":
            paint(path, 99)
        return found

    monkeypatch.setattr(images, "decode", meddling)
    with pytest.raises(BadInput, match=r"2\.bmp \(changed while it was read\)"):
        Images(root, quiet=True).load(ALL, SIZE)


def test_copies_of_a_set_share_their_decoded_images(root, tmp_path):
    cache, copy = tmp_path / "cache", shutil.copytree(root, tmp_path / "copy")
    first = Images(root, cache, quiet=True).load(ALL, SIZE)
    again = Images(copy, cache, quiet=True).load(ALL, SIZE)
    assert np.array_equal(first, again) and len(list(cache.glob("*.npy"))) == 1


@pytest.fixture(scope="module")
def sysu(tmp_path_factory):
    """Every image another one; the training images of camera 1 are left alone."""
    root = fabricate.sysu(tmp_path_factory.mktemp("sysu"))
    for number, path in enumerate(sorted(root.glob("cam*/*/*.jpg"))):
        path.write_bytes(fabricate.jpeg(number))
    return root


def cards(dataset):
    card = data_card(dataset, training=True)
    return card["fingerprint"], card["training"]


def test_a_card_is_of_the_contract(sysu):
    dataset = open_dataset("sysu", sysu)
    card = data_card(dataset)
    assert list(card) == ["name", "protocol", "split", "synthetic", "fingerprint"]
    assert (card["name"], card["protocol"], card["split"]) == ("sysu", dataset.protocol, "sysu")
    assert len(card["fingerprint"]) == 16 and int(card["fingerprint"], 16)
    assert data_card(dataset, training=True) == {**card, "training": cards(dataset)[1]}


def test_the_same_pictures_elsewhere_are_the_same_set(sysu, tmp_path):
    copy = shutil.copytree(sysu, tmp_path / "copy")
    for path in sorted(copy.glob("cam*/*/*.jpg")):
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    assert cards(open_dataset("sysu", copy)) == cards(open_dataset("sysu", sysu))


def one_changed(samples, **changes):
    return (*samples[:3], dataclasses.replace(samples[3], **changes), *samples[4:])


@pytest.mark.parametrize("part", ["query", "gallery", "train_visible", "train_infrared"])
@pytest.mark.parametrize("change", ["pid", "cam", "modality", "order", "one less", "picture"])
def test_a_card_covers_every_fact(sysu, part, change):
    dataset = open_dataset("sysu", sysu)
    samples = getattr(dataset, part)
    changed = {
        "pid": lambda: one_changed(samples, pid=9999),
        "cam": lambda: one_changed(samples, cam=9),
        "modality": lambda: one_changed(samples, modality=samples[3].modality.other),
        "order": lambda: (samples[1], samples[0], *samples[2:]),
        "one less": lambda: samples[:-1],
        "picture": lambda: one_changed(samples, path=samples[0].path),
    }[change]()
    fingerprint, training = cards(dataset)
    other = cards(dataclasses.replace(dataset, **{part: changed}))
    assert (other[0] != fingerprint) == (not part.startswith("train"))
    assert (other[1] != training) == part.startswith("train")


def test_a_card_covers_rule_trials_and_which_list_is_which(sysu):
    dataset = open_dataset("sysu", sysu)
    first = dataset.trials[0]
    others = [
        {"metric": "llcm"},
        {"query": dataset.gallery, "gallery": dataset.query},
        {"trials": dataset.trials[:-1]},
        {"trials": dataset.trials[::-1]},
        {"trials": (Trial(first.name, first.query[::-1], first.gallery), *dataset.trials[1:])},
        {"trials": (Trial(first.name, first.query, first.gallery[:-1]), *dataset.trials[1:])},
    ]
    found = [data_card(dataclasses.replace(dataset, **changes))["fingerprint"] for changes in ({}, *others)]
    assert len(set(found)) == len(found)
    switched = {"train_visible": dataset.train_infrared, "train_infrared": dataset.train_visible}
    assert cards(dataclasses.replace(dataset, **switched))[1] != cards(dataset)[1]


def test_paths_notes_and_names_of_trials_are_not_part_of_it(sysu, tmp_path):
    dataset = open_dataset("sysu", sysu)
    renamed = tuple(dataclasses.replace(trial, name="x") for trial in dataset.trials)
    assert cards(dataclasses.replace(dataset, notes=("x",), trials=renamed)) == cards(dataset)
