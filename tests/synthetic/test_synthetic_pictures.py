"""What a synthetic picture depends on, and what it must not depend on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vbench.core.types import Modality
from vbench.data.synthetic.people import Material, draw_people
from vbench.data.synthetic.render import Shot, render

SIZE = (64, 32)


def take(pids, modality, number=1, cam=None, seed=0, size=SIZE, people=None):
    cam = cam or (1 if modality is Modality.VISIBLE else 3)
    shots = [Shot(pid, cam, modality, number) for pid in pids]
    return render(people or draw_people(seed, pids), shots, seed, size)


@pytest.mark.parametrize("modality", list(Modality))
@pytest.mark.parametrize("size", [(64, 32), (50, 31)])
def test_a_picture_does_not_depend_on_its_batch(modality, size):
    pids = list(range(1, 24))
    together = take(pids, modality, size=size)
    alone = np.concatenate([take([pid], modality, size=size) for pid in pids])
    backwards = take(pids[::-1], modality, size=size)[::-1]
    assert np.array_equal(together, alone)
    assert np.array_equal(together, backwards)


@pytest.mark.parametrize("modality", list(Modality))
def test_seed_person_camera_and_shot_all_matter(modality):
    base = take([1], modality)
    others = {
        "seed": take([1], modality, seed=1),
        "person": take([2], modality),
        "camera": take([1], modality, cam=6),
        "shot": take([1], modality, number=2),
    }
    for what, other in others.items():
        assert np.abs(base.astype(int) - other).mean() > 2, what


def test_infrared_pictures_do_not_see_colour():
    people = draw_people(0, range(1, 9))
    repainted = dataclasses.replace(people, palette=1 - people.palette[::-1])
    shots = [Shot(pid, 3, Modality.INFRARED, 1) for pid in range(1, 9)]
    assert np.array_equal(render(people, shots, 0, SIZE), render(repainted, shots, 0, SIZE))
    seen = [Shot(pid, 1, Modality.VISIBLE, 1) for pid in range(1, 9)]
    assert not np.array_equal(render(people, seen, 0, SIZE), render(repainted, seen, 0, SIZE))


def test_visible_pictures_do_not_see_reflectance():
    people = draw_people(0, range(1, 9))
    other = dataclasses.replace(people, reflectance=people.reflectance[::-1].copy())
    shots = [Shot(pid, 1, Modality.VISIBLE, 1) for pid in range(1, 9)]
    assert np.array_equal(render(people, shots, 0, SIZE), render(other, shots, 0, SIZE))


def test_reflectance_cannot_be_told_from_colour():
    people = draw_people(0, range(1, 2001))
    red, green, blue = np.moveaxis(people.palette, 2, 0)
    views = {"red-green": red - green, "green-blue": green - blue}
    printed = {Material.UPPER_SECOND, Material.LOWER_SECOND, Material.INNER, Material.LOGO, Material.BAG}
    for material in Material:
        hints = dict(views) if material in printed else {**views, "brightness": red + green + blue}
        for name, hint in hints.items():
            correlation = np.corrcoef(hint[:, material], people.reflectance[:, material])[0, 1]
            assert abs(correlation) < 0.08, (material, name)


def test_infrared_has_three_equal_channels_and_visible_has_not():
    infrared, visible = take(range(1, 5), Modality.INFRARED), take(range(1, 5), Modality.VISIBLE)
    assert infrared.dtype == visible.dtype == np.uint8
    assert infrared.shape == visible.shape == (4, *SIZE, 3)
    assert np.array_equal(infrared[..., :1].repeat(3, axis=3), infrared)
    assert (visible.std(axis=3) > 5).mean() > 0.3


def test_identity_values_stay_in_range():
    people = draw_people(3, range(1, 1001))
    for values in (people.palette, people.reflectance):
        assert values.min() >= 0 and values.max() <= 1
    gap = np.abs(people.reflectance[:, Material.UPPER] - people.reflectance[:, Material.UPPER_SECOND])
    assert gap.min() > 0.2, "a pattern must be visible in infrared"
    assert not np.array_equal(people.reflectance[0], people.reflectance[1])


def row_profiles(pictures):
    """Mean brightness of each row of the middle third, centred: a crude look at who this is."""
    width = pictures.shape[2]
    rows = pictures[:, :, width // 3 : -(width // 3), 0].astype(float).mean(axis=2)
    rows -= rows.mean(axis=1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_infrared_pictures_of_one_person_are_more_alike_than_of_two():
    pids = range(1, 61)
    first, second = (row_profiles(take(pids, Modality.INFRARED, number=number)) for number in (1, 2))
    alike = first @ second.T
    same, different = np.diag(alike), alike[~np.eye(len(alike), dtype=bool)]
    assert same.mean() > different.mean() + 0.3
    right = (alike.argmax(axis=1) == np.arange(len(alike))).mean()
    assert 0.3 < right < 1.0, "neither hopeless nor trivial for a crude statistic"


def test_more_pixels_show_the_same_scene_in_more_detail():
    small = take(range(1, 9), Modality.VISIBLE, size=(64, 32)).astype(float)
    large = take(range(1, 9), Modality.VISIBLE, size=(256, 128)).astype(float)
    shrunk = large.reshape(8, 64, 4, 32, 4, 3).mean(axis=(2, 4))
    assert np.abs(shrunk - small).mean() < 6
    blocks = shrunk.repeat(4, axis=1).repeat(4, axis=2)
    assert np.abs(large - blocks).mean() > 2
