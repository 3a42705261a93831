"""Unwrapping in space and in time."""

from __future__ import annotations

import numpy as np
import pytest

from r2star.field.lines import PhaseLines
from r2star.field.unwrap import mean_of_neighbours, unwrap_in_space

CYCLE = 2 * np.pi


def _wrap(phase):
    return np.angle(np.exp(1j * phase))


def _bowl(shape=(24, 26, 20)):
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    phase = 14 * np.exp(-((x - 0.2) ** 2 + y**2 + (z + 0.5) ** 2) / 0.3) + 4 * x
    return phase, x**2 + y**2 + z**2 < 0.95


def test_a_field_of_several_wraps_comes_back_up_to_one_constant():
    phase, mask = _bowl()
    noisy = phase + np.random.default_rng(0).normal(0, 0.1, phase.shape)
    unwrapped = unwrap_in_space(_wrap(noisy), mask)
    assert np.isnan(unwrapped[~mask]).all()
    turns = (unwrapped - noisy)[mask] / CYCLE
    assert np.ptp(phase[mask]) > 2 * CYCLE
    np.testing.assert_allclose(turns, np.round(turns[0]), atol=1e-5)
    assert abs(np.nanmedian(unwrapped)) <= np.pi


def test_parts_that_do_not_touch_agree_with_the_largest():
    x = np.arange(40.0)[:, None, None] * np.ones((1, 6, 5))
    mask = (x < 25) | (x > 26)
    ramp = 0.9 * x
    unwrapped = unwrap_in_space(_wrap(ramp), mask)
    # from edge to edge 3 voxels at 0.9 rad are less than half a cycle; the part behind is far more
    offset = (unwrapped - ramp)[mask]
    assert np.ptp(offset) < 1e-3


@pytest.mark.parametrize("shape", [(30, 20, 1), (1, 30, 1), (12, 1, 10)])
def test_thin_volumes_unwrap_in_the_dimensions_they_have(shape):
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    ramp = 0.7 * axes[0] + 0.5 * axes[1] + 0.6 * axes[2]
    unwrapped = unwrap_in_space(_wrap(ramp), np.ones(shape, bool))
    assert np.ptp(unwrapped - ramp) < 1e-4


def test_the_same_input_gives_the_same_bytes():
    rng = np.random.default_rng(5)
    phase, mask = rng.uniform(-np.pi, np.pi, (20, 20, 12)), np.ones((20, 20, 12), bool)
    first, second = unwrap_in_space(phase, mask), unwrap_in_space(phase, mask)
    assert first.tobytes() == second.tobytes()


def test_an_empty_mask_gives_nothing():
    assert np.isnan(unwrap_in_space(np.ones((4, 4, 4)), np.zeros((4, 4, 4), bool))).all()


def test_a_ramp_is_the_mean_of_its_neighbours_and_the_mask_limits_them():
    x = np.arange(15.0, dtype=np.float32)[:, None, None] * np.ones((1, 12, 10), np.float32)
    mask = np.ones(x.shape, bool)
    inside = (slice(1, -1),) * 3
    np.testing.assert_allclose(mean_of_neighbours(2.9 * x, mask)[inside], (2.9 * x)[inside], rtol=1e-5)
    mask[8:] = False
    np.testing.assert_allclose(mean_of_neighbours(x, mask)[7, 1:-1, 1:-1], (7 * 8 + 6 * 9) / 17, rtol=1e-5)
    alone = np.zeros(x.shape, bool)
    alone[3, 3, 3] = True
    assert mean_of_neighbours(x, alone)[3, 3, 3] == 3.0


@pytest.mark.parametrize(
    "times", [np.linspace(0.005, 0.029, 8), np.array([0.004, 0.0075, 0.0125, 0.016, 0.023])]
)
def test_time_unwraps_far_beyond_one_cycle(times):
    rng = np.random.default_rng(1)
    b0 = rng.uniform(-400, 400, 5000)
    start = (b0 + rng.normal(0, 25, 5000)).astype(np.float32)
    phase = _wrap(1.0 + CYCLE * b0 * times[:, None]).astype(np.float32)
    lines = PhaseLines(times, b0.size, 1 / np.diff(times).min(), 1.0)
    lines.fit(phase, np.ones_like(phase), start, span_s=0.0)
    assert np.abs(CYCLE * b0 * (times[-1] - times[0])).max() > 5 * CYCLE
    np.testing.assert_allclose(lines.slope_hz, b0, atol=0.01)
