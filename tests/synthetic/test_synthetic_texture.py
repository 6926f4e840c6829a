"""Garment patterns against what their names promise."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from vbench.data.synthetic.clothes import second_colour
from vbench.data.synthetic.people import Weave


def pattern(weave, angle=0.0, duty=0.0, period=0.1, pixel=0.002, split=0.5):
    garment = SimpleNamespace(
        weave=np.array([weave]),
        period=np.array([period], np.float32),
        angle=np.array([angle], np.float32),
        duty=np.array([duty], np.float32),
        split=np.array([split], np.float32),
    )
    u = ((np.arange(200) - 99.5) * 0.002).astype(np.float32).reshape(1, 1, -1)
    v = ((np.arange(400) + 0.5) * 0.001).astype(np.float32).reshape(1, -1, 1)
    return second_colour(garment, u, v, np.full((1, 1, 1), 0.1, np.float32), pixel)[0]


def test_plain_cloth_has_one_colour():
    assert not pattern(Weave.PLAIN).any()


def test_stripes_repeat_with_their_period_and_run_across():
    stripes = pattern(Weave.STRIPES)
    assert np.ptp(stripes, axis=1).max() == 0
    assert np.allclose(stripes[100:], stripes[:-100], atol=1e-3)
    assert stripes.mean() == pytest.approx(0.5, abs=0.02)
    assert np.ptp(pattern(Weave.STRIPES, angle=np.pi / 2), axis=0).max() < 1e-3


def test_duty_sets_the_share_of_second_colour():
    assert pattern(Weave.STRIPES, duty=0.3).mean() == pytest.approx(0.35, abs=0.02)


def test_checks_change_along_both_axes():
    checks = pattern(Weave.CHECKS)
    assert checks.mean() == pytest.approx(0.5, abs=0.02)
    assert np.ptp(checks, axis=0).max() == 1 and np.ptp(checks, axis=1).max() == 1


def test_a_pattern_finer_than_a_pixel_fades_to_its_mean():
    assert np.ptp(pattern(Weave.STRIPES, period=0.01, pixel=0.05)) < 0.15


def test_split_band_and_panels_lie_where_they_should():
    split = pattern(Weave.SPLIT)
    assert split[:145].max() == 0 and split[155:].min() == 1
    band = pattern(Weave.BAND)
    assert band[150].min() == 1 and band[:95].max() == 0 and band[205:].max() == 0
    panels = pattern(Weave.PANELS)
    assert panels[:, 99].max() == 0 and panels[:, 20].min() == 1 and panels[:, 180].min() == 1
