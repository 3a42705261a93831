"""Warps: one-to-one, smooth, of the size asked for, and undone by their reverse."""

from __future__ import annotations

import numpy as np
import pytest

from r2star.simulate.warp import Warp, _exponential, _smooth_field, draw_pose, draw_size, draw_warp, rigid

BOX = (-60.0, -80.0, -60.0), (60.0, 80.0, 60.0)


@pytest.fixture(scope="module")
def warp() -> Warp:
    return draw_warp(np.random.default_rng(4), *BOX)


def test_jacobian_is_positive_and_reported(warp: Warp):
    assert 0.3 < warp.jacobian_min < 0.95
    assert 1.05 < warp.jacobian_max < 2.5


def test_displacement_has_about_the_size_asked_for(warp: Warp):
    rms = np.sqrt((warp.displacement_mm**2).mean())
    assert 2.0 < rms < 3.5


def test_a_violent_velocity_is_tamed_until_one_to_one():
    wild = draw_warp(np.random.default_rng(4), *BOX, scales_mm=((20.0, 8.0),))
    assert wild.jacobian_min > 0.3


def test_the_exponential_of_the_negative_velocity_undoes_it(warp: Warp):
    velocity = _smooth_field(np.random.default_rng(9), (30, 34, 30), 3.0, 6.0)
    there, back = _exponential(velocity, 4.0), _exponential(-velocity, 4.0)
    forth = Warp(there.astype(np.float32), np.zeros(3), 4.0, 1, 1)
    return_ = Warp(back.astype(np.float32), np.zeros(3), 4.0, 1, 1)
    points = np.random.default_rng(1).uniform(25, 90, (3, 500)).astype(np.float32)
    moved = np.linalg.norm(forth(points) - points, axis=0)
    left = np.linalg.norm(return_(forth(points)) - points, axis=0)
    assert moved.max() > 3.0
    assert left.max() < 0.1


def test_neighbours_stay_in_order(warp: Warp):
    x = np.linspace(-55, 55, 300, dtype=np.float32)
    for axis in range(3):
        line = np.zeros((3, x.size), np.float32)
        line[axis] = x
        assert np.all(np.diff(warp(line)[axis]) > 0)


def test_equal_generators_give_equal_warps(warp: Warp):
    again = draw_warp(np.random.default_rng(4), *BOX)
    np.testing.assert_array_equal(again.displacement_mm, warp.displacement_mm)
    other = draw_warp(np.random.default_rng(5), *BOX)
    assert np.abs(other.displacement_mm - warp.displacement_mm).max() > 1


def test_rigid_keeps_lengths_and_handedness():
    rng = np.random.default_rng(2)
    for matrix in (rigid((10, -20, 30), (1, 2, 3)), draw_pose(rng, 5, 5)):
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1.0)
    # first about x: y goes to z, and z stays under a turn about z
    np.testing.assert_allclose(rigid((90, 0, 90), (0, 0, 0))[:3, :3] @ [0, 1, 0], [0, 0, 1], atol=1e-12)


def test_sizes_differ_by_a_few_percent():
    volumes = [np.linalg.det(draw_size(np.random.default_rng(k))) for k in range(200)]
    assert 0.03 < np.std(volumes) < 0.1
    assert np.mean(volumes) == pytest.approx(1.0, abs=0.02)
