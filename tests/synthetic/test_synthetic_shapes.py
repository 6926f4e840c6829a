"""Shapes against areas and distances known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from vbench.data.synthetic.canvas import Canvas, coverage, ellipse, line, rounded_box, segment

ONE = np.ones(1, dtype=np.float32)


def grid(size=(400, 200)):
    canvas = Canvas.blank(1, 1, size)
    return canvas.x, canvas.y, canvas.pixel


def area(alpha, pixel):
    return float(alpha.sum() * pixel * pixel)


@pytest.mark.parametrize("size", [(64, 32), (400, 200)])
def test_areas_match_geometry_at_any_resolution(size):
    x, y, pixel = grid(size)
    oval = coverage(ellipse(x, y, (0 * ONE, 0.5 * ONE), (0.1 * ONE, 0.2 * ONE)), pixel)
    assert area(oval, pixel) == pytest.approx(np.pi * 0.1 * 0.2, rel=0.02)
    box = coverage(rounded_box(x, y, (0 * ONE, 0.5 * ONE), (0.1 * ONE, 0.2 * ONE), 0.05 * ONE), pixel)
    assert area(box, pixel) == pytest.approx(0.2 * 0.4 - (4 - np.pi) * 0.05**2, rel=0.02)
    axis, _ = segment(x, y, (-0.1 * ONE, 0.3 * ONE), (0.1 * ONE, 0.6 * ONE))
    limb = coverage(axis - np.float32(0.04), pixel)
    length = np.hypot(0.2, 0.3)
    assert area(limb, pixel) == pytest.approx(length * 0.08 + np.pi * 0.04**2, rel=0.02)


def test_a_thin_line_keeps_its_mean_darkness():
    for size in ((64, 32), (400, 200)):
        x, _, pixel = grid(size)
        share = line(x - np.float32(0.013), 0.006, pixel)
        assert float(share.sum() * pixel) == pytest.approx(0.006, rel=0.05)


def test_segment_measures_distance_and_progress():
    x = np.array([[[0.0, 1.0, 2.0, 3.0]]], dtype=np.float32)
    y = np.array([[[1.0]]], dtype=np.float32)
    distance, along = segment(x, y, (1 * ONE, 0 * ONE), (2 * ONE, 0 * ONE))
    assert np.allclose(distance[0, 0], [2**0.5, 1, 1, 2**0.5])
    assert np.allclose(along[0, 0], [0, 0, 1, 1])


def test_painting_mixes_by_coverage():
    canvas = Canvas.blank(2, 3, (4, 2))
    alpha = np.full((2, 4, 2), 0.25, dtype=np.float32)
    canvas.paint(alpha, np.array([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]], dtype=np.float32))
    assert np.allclose(canvas.pixels[0, :, 0, 0], [0.25, 0.125, 0])
    assert np.allclose(canvas.pixels[1, :, 3, 1], [0, 0.125, 0.25])


def test_a_strip_shares_pixels_and_covers_its_range():
    canvas = Canvas.blank(1, 1, (100, 50))
    strip = canvas.rows(np.array([0.3]), np.array([0.4]))
    assert strip.y.min() < 0.3 and strip.y.max() > 0.4
    strip.pixels[...] = 1
    assert 10 <= canvas.pixels[0, 0, :, 0].sum() <= 20
