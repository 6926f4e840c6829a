"""Batches, augmentation and schedules, each against what its docstring promises."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from vbench.core.errors import BadInput
from vbench.victims.agw import AGW
from vbench.victims.training.batches import PairedSampler, augment
from vbench.victims.training.trainer import held_out_labels, make_optimizer, rate_at, set_rate

VISIBLE = np.array([0] * 5 + [1] * 3 + [2] * 4 + [3] * 1 + [4] * 6 + [9] * 2)
INFRARED = np.array([4] * 2 + [3] * 3 + [2] * 6 + [1] * 3 + [0] * 4 + [8] * 2)


def test_rows_of_a_batch_show_the_same_identity_in_both_modalities():
    sampler = PairedSampler(VISIBLE, INFRARED, identities=2, instances=3)
    for visible, infrared, labels in sampler.epoch(np.random.default_rng(0)):
        assert len(labels) == 6
        assert np.array_equal(VISIBLE[visible], labels)
        assert np.array_equal(INFRARED[infrared], labels)
        assert len(set(labels)) == 2


def test_images_repeat_in_a_batch_only_where_an_identity_has_too_few():
    sampler = PairedSampler(VISIBLE, INFRARED, identities=5, instances=3)
    visible, infrared, labels = sampler.epoch(np.random.default_rng(1))[0]
    for label in set(labels):
        for drawn, all_labels in ((visible[labels == label], VISIBLE), (infrared[labels == label], INFRARED)):
            available = (all_labels == label).sum()
            assert len(set(drawn)) == 3 if available >= 3 else True


def test_identities_come_round_equally_often_and_left_out_ones_never():
    labels = np.repeat(np.arange(9), 4)
    sampler = PairedSampler(labels, labels, identities=2, instances=1, leave_out=(3,))
    counts = np.bincount(
        np.concatenate([batch[2] for batch in sampler.epoch(np.random.default_rng(2))]), minlength=9
    )
    assert sampler.batches == 16
    assert counts.tolist() == [4, 4, 4, 0, 4, 4, 4, 4, 4]


def test_identities_of_one_modality_are_not_drawn():
    sampler = PairedSampler(VISIBLE, INFRARED, identities=5, instances=1)
    assert sampler.labels.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(BadInput, match="needs 6 identities seen in both modalities, the training set has 5"):
        PairedSampler(VISIBLE, INFRARED, identities=6, instances=1)


def pictures(count=64, height=12, width=8):
    rng = np.random.default_rng(5)
    return torch.from_numpy(rng.integers(1, 256, (count, height, width, 3), dtype=np.uint8))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_no_augmentation_is_a_plain_conversion():
    images = pictures()
    expected = images.permute(0, 3, 1, 2).float() / 255
    assert torch.equal(augment(images, generator(), flip=0.0), expected)
    assert torch.equal(augment(images, generator(), flip=1.0), expected.flip(3))


def test_every_shift_is_a_crop_of_the_padded_image_and_flips_are_mixed():
    images = pictures()
    before = images.clone()
    result = (
        (augment(images, generator(), flip=0.5, padding=2) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    )
    assert torch.equal(images, before)
    seen = set()
    for image, moved in zip(images, result, strict=True):
        matches = set()
        for flipped in (False, True):
            source = image.flip(1) if flipped else image
            padded = torch.zeros(16, 12, 3, dtype=torch.uint8)
            padded[2:14, 2:10] = source
            for top in range(5):
                for left in range(5):
                    if torch.equal(padded[top : top + 12, left : left + 8], moved):
                        matches.add((flipped, top, left))
        assert len(matches) == 1
        seen |= matches
    assert {flipped for flipped, _, _ in seen} == {False, True}
    assert {top for _, top, _ in seen} == {left for _, _, left in seen} == set(range(5))


def test_erasing_replaces_one_rectangle_by_the_mean_colour():
    images = pictures(count=200)
    plain = augment(images, generator(), flip=0.0)
    erased = augment(images, generator(), flip=0.0, erasing=0.5)
    changed = (erased != plain).any(dim=1)
    touched = changed.flatten(1).any(dim=1)
    assert 60 < touched.sum() < 140
    for index in torch.nonzero(touched).flatten().tolist():
        rows, columns = torch.nonzero(changed[index]).unbind(1)
        box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        assert changed[index][box].all()
        mean = plain[index].mean(dim=(1, 2))
        inside = erased[index][:, box[0], box[1]]
        torch.testing.assert_close(inside, mean[:, None, None].expand_as(inside))
        assert changed[index].float().mean() < 0.6


def test_augmentation_depends_on_the_generator_alone():
    images = pictures()
    first, second, other = (augment(images, generator(seed), 0.5, 2, 0.5) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.min() >= 0 and first.max() <= 1


def full_agw():
    return AGW(num_classes=3, width=1.0, blocks=(1, 1, 1, 1), input_size=(32, 16))


def test_full_width_recipe_is_the_published_schedule():
    victim = full_agw()
    recipe = victim.recipe()
    published = {0: 0.01, 4: 0.05, 9: 0.1, 10: 0.1, 19: 0.1, 20: 0.01, 49: 0.01, 50: 0.001, 80: 0.001}
    for epoch, rate in published.items():
        assert rate_at(recipe, epoch, 0.0) == pytest.approx(rate)
        assert rate_at(recipe, epoch, 0.9) == pytest.approx(rate)
    optimizer = make_optimizer(victim, recipe)
    set_rate(optimizer, recipe, 15, 0.0)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in victim.named_parameters():
        if name == "neck.bias":
            assert id(parameter) not in rates
        else:
            head = name.split(".")[0] in ("neck", "classifier")
            assert rates[id(parameter)] == pytest.approx(0.1 if head else 0.01), name
    assert all(group["nesterov"] and group["momentum"] == 0.9 for group in optimizer.param_groups)


def test_cosine_schedule_rises_then_falls_to_zero():
    recipe = dataclasses.replace(
        full_agw().recipe(), schedule="cosine", epochs=10, warmup_epochs=2, learning_rate=1.0
    )
    rates = [rate_at(recipe, epoch, fraction) for epoch in range(10) for fraction in (0.0, 0.5)]
    assert max(rates) == rates[4] == 1.0
    assert rates[:5] == sorted(rates[:5])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[12] == pytest.approx(0.5)
    assert 0 < rates[0] < 0.02 and 0 < rates[-1] < 0.02


def test_stretching_keeps_the_shape_of_the_schedule():
    recipe = full_agw().recipe()
    assert recipe.stretched(recipe.epochs) == recipe
    longer = recipe.stretched(2 * recipe.epochs)
    assert longer.milestones == (40, 100)
    assert longer.warmup_epochs == 20


def test_unknown_optimizer_and_schedule_are_refused():
    recipe = full_agw().recipe()
    with pytest.raises(BadInput, match="optimizer 'adagrad'"):
        make_optimizer(full_agw(), dataclasses.replace(recipe, optimizer="adagrad"))
    with pytest.raises(BadInput, match="schedule 'linear'"):
        rate_at(dataclasses.replace(recipe, schedule="linear"), 0, 0.0)


def test_held_out_labels_are_a_repeatable_share():
    from vbench.victims.training.batches import TrainImages

    labels = np.repeat(np.arange(40), 2)
    pixels = np.zeros((80, 4, 2, 3), np.uint8)
    images = TrainImages(pixels, pixels, labels, labels)
    chosen = held_out_labels(images, 0.1, seed=3)
    assert len(chosen) == 4 and chosen == held_out_labels(images, 0.1, seed=3)
    assert chosen != held_out_labels(images, 0.1, seed=4)
    assert held_out_labels(images, 0.0, seed=3) == ()
    assert len(held_out_labels(images, 0.01, seed=3)) == 2
    with pytest.raises(BadInput, match="validation share"):
        held_out_labels(images, 1.0, seed=3)
