"""The views of input diversity: sizes, places and chance, and those of torchattacks."""

from __future__ import annotations

import itertools

import pytest
import torch
import torchattacks

from vbench.attacks.steps import InputDiversity


def test_every_view_of_a_square_image_is_one_that_torchattacks_could_draw(monkeypatch):
    images = torch.rand(40, 3, 10, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    views = InputDiversity(range(40), chance=1.0, rate=0.7)(images)
    theirs = torchattacks.DIFGSM(torch.nn.Identity(), resize_rate=0.7, diversity_prob=2.0)
    places = set()
    for image, view in zip(images, views, strict=True):
        possible = []
        for size in (7, 8, 9):
            for top, left in itertools.product(range(10 - size + 1), repeat=2):
                draws = iter([size, top, left])
                fixed = lambda *_, d=draws, **__: torch.tensor([next(d)], dtype=torch.int32)  # noqa: E731
                monkeypatch.setattr(torch, "randint", fixed)
                same = torch.allclose(theirs.input_diversity(image[None])[0], view, atol=1e-12)
                monkeypatch.undo()
                possible += [(size, top, left)] if same else []
        assert len(possible) == 1
        places.update(possible)
    assert {size for size, _, _ in places} == {7, 8, 9} and len(places) > 15


def test_views_of_a_tall_image_keep_its_shape_and_its_proportions():
    images = torch.ones(60, 3, 16, 8, dtype=torch.float64)
    views = InputDiversity(range(60), chance=1.0, rate=0.5)(images)
    assert views.shape == images.shape
    sizes = {tuple(int(view[0].any(axis).sum()) for axis in (1, 0)) for view in views}
    assert {tall for tall, _ in sizes} == set(range(8, 16))
    assert all(abs(tall / 2 - wide) <= 0.5 for tall, wide in sizes)
    assert all(view.sum() == 3 * view[0].any(1).sum() * view[0].any(0).sum() for view in views)


@pytest.mark.parametrize("chance", [0.25, 0.75])
def test_as_many_views_are_changed_as_the_chance_says(chance):
    images = torch.ones(400, 3, 8, 4)
    changed = (InputDiversity(range(400), chance, 0.5)(images) == 0).flatten(1).any(1)
    assert changed.float().mean() == pytest.approx(chance, abs=0.08)


def test_every_step_draws_another_view():
    diversity = InputDiversity([3], chance=1.0, rate=0.5)
    first, second = (diversity(torch.ones(1, 3, 32, 16)) for _ in range(2))
    assert not torch.equal(first, second)


def test_a_view_of_one_pixel_is_the_image():
    image = torch.rand(1, 3, 1, 1)
    assert torch.equal(InputDiversity([0], 1.0, 0.5)(image), image)
