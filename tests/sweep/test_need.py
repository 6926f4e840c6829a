"""What a run may need is estimated from what its victim's layers hold."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import torch
from tiny import SIZE

from vbench.attacks.metric import MetricIFGSM
from vbench.attacks.noise import Noise
from vbench.attacks.uap import UAP
from vbench.sweep.worker import estimate, map_bytes
from vbench.victims.embed import BATCH


def bench(victim, images):
    samples = tuple(range(images))
    return SimpleNamespace(
        victim=victim, dataset=SimpleNamespace(train_visible=samples, train_infrared=samples)
    )


def test_the_maps_of_one_image_are_added_up(victim):
    height, width = SIZE[0] // 2, SIZE[1] // 2
    stem = 6 * height * width
    numbers = 3 * stem + 10 * height * width + 6
    assert map_bytes(bench(victim, 1)) == numbers * 8, "stem, norm, dropout; body; classifier, in float64"
    training = [module.training for module in victim.modules()]
    assert map_bytes(bench(victim.float(), 1)) == numbers * 4
    assert training == [module.training for module in victim.modules()]
    assert not any(module._forward_hooks for module in victim.modules())


def test_training_images_count_for_those_who_see_them(victim, monkeypatch):
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: SimpleNamespace(rss=1000))

    def need(attack, images, source=None):
        return estimate(SimpleNamespace(attack=attack, bench=bench(victim, images), source=source))

    plain = 1000 + int(BATCH * map_bytes(bench(victim, 1)) * 1.5)
    assert need(Noise(), 500) == plain
    assert need(UAP(), 500) == plain + 2 * 500 * SIZE[0] * SIZE[1] * 3
    assert need(MetricIFGSM(guides="training"), 10) - plain == 20 * SIZE[0] * SIZE[1] * 3
    other = bench(torch.nn.Sequential(victim).float()[0], 7)
    assert need(UAP(), 500, other) < need(UAP(), 500), "a transfer attack is learnt on the surrogate"
