"""The warp: its gradient against finite differences, a planted warp found, threads without effect, its inverse."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates, uniform_filter

from r2star.register import diffeo
from r2star.register.diffeo import Channel, Level, find_warp, gaussian_taps, invert_warp

SHAPE = (40, 44, 36)
INSIDE = (slice(8, -8),) * 3


def texture(seed: int, sigma: float = 2.0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    values = gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return (values / values.std()).astype(np.float32)


def planted(amount: float = 2.0) -> np.ndarray:
    """A smooth displacement that ends at the edges."""
    x, y, z = (np.sin(np.pi * np.arange(n) / (n - 1)) for n in SHAPE)
    bump = x[:, None, None] * y[:, None] * z
    return np.stack([amount * bump, -amount * bump, 0.7 * amount * bump]).astype(np.float32)


def moved_by(values: np.ndarray, moved: np.ndarray) -> np.ndarray:
    return map_coordinates(values, np.indices(values.shape) + moved, order=3, mode="nearest").astype(
        np.float32
    )


def test_smoothing_is_scipys() -> None:
    values = texture(1)
    taps = gaussian_taps(1.7)
    found = diffeo.Slabs(1).smooth(values, taps)
    expected = gaussian_filter(values.astype(np.float64), 1.7, mode="nearest", radius=taps.size // 2)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_sampling_is_scipys() -> None:
    values, moved = texture(2), np.stack([texture(seed, 3) * 2 for seed in (3, 4, 5)])
    found = diffeo.Slabs(1).sample(values, moved)
    expected = map_coordinates(values, np.indices(SHAPE) + moved, order=1, mode="nearest")
    np.testing.assert_allclose(found, expected, atol=2e-5)


def similarity(fixed: np.ndarray, moving: np.ndarray, weight: np.ndarray, floor: float) -> float:
    """Sum over all windows of share·A²/(B·C), written with another library's filters in double precision."""
    f, m, w = (values.astype(np.float64) for values in (fixed, moving, weight))
    share = uniform_filter(w, 5, mode="nearest")

    def mean(values: np.ndarray) -> np.ndarray:
        return uniform_filter(w * values, 5, mode="nearest") / share

    covariance = mean(f * m) - mean(f) * mean(m)
    spread = mean(f * f) - mean(f) ** 2 + floor
    return float((share * covariance**2 / (spread * (mean(m * m) - mean(m) ** 2 + floor))).sum())


@pytest.mark.parametrize("weighted", [False, True])
def test_force_is_the_gradient_of_the_similarity(weighted: bool) -> None:
    """d similarity / d m at single voxels by central differences, against the force over the slope of m."""
    level = Level(1, 1, radius=2, floor=0.01)
    fixed, moving = texture(6, 1.5), texture(7, 1.5)
    weight = np.clip(texture(14) + 1, 0.2, 1).astype(np.float32) if weighted else np.ones(SHAPE, np.float32)
    windows = diffeo._Windows.over(SHAPE, weight if weighted else None, level, diffeo.Slabs(1))
    force = np.zeros((3, *SHAPE), np.float32)
    score = diffeo._add_force(Channel(fixed, moving), windows.moments(fixed), moving, windows, force)
    assert score == pytest.approx(similarity(fixed, moving, weight, level.floor), rel=1e-4)
    for voxel in [(20, 20, 20), (12, 30, 9), (33, 8, 25)]:
        x, y, z = voxel
        slope = moving[x + 1, y, z] - moving[x - 1, y, z]
        up, down = moving.astype(np.float64), moving.astype(np.float64)
        up[voxel] += 1e-3
        down[voxel] -= 1e-3
        rise = similarity(fixed, up, weight, level.floor) - similarity(fixed, down, weight, level.floor)
        assert force[0][voxel] / slope == pytest.approx(rise / 2e-3, rel=5e-3)


def test_a_planted_warp_is_found() -> None:
    moved = planted()
    moving = texture(8)
    fixed = moved_by(moving, moved)
    found, history = find_warp(
        [Channel(fixed, moving)],
        [Level(2, 30, 1.7, 0.7, radius=2, floor=0.003), Level(1, 30, 1.7, 0.3, radius=2, floor=0.003)],
    )
    error = np.linalg.norm(found - moved, axis=0)[INSIDE]
    assert np.median(error) < 0.15
    assert np.linalg.norm(moved, axis=0)[INSIDE].max() > 2.5
    assert history[-1] > 0.9


def test_contrast_and_its_sign_do_not_matter() -> None:
    moved = planted()
    moving = texture(8)
    fixed = 300 - 40 * moved_by(moving, moved)
    found, _ = find_warp(
        [Channel(fixed.astype(np.float32), moving)],
        [Level(2, 30, 1.7, 0.7, radius=2, floor=0.003), Level(1, 30, 1.7, 0.3, radius=2, floor=0.003)],
    )
    assert np.median(np.linalg.norm(found - moved, axis=0)[INSIDE]) < 0.15


def test_threads_change_no_bit() -> None:
    moving = texture(9)
    fixed = moved_by(moving, planted(1.0))
    one, _ = find_warp([Channel(fixed, moving)], [Level(2, 5), Level(1, 5)], n_threads=1)
    three, _ = find_warp([Channel(fixed, moving)], [Level(2, 5), Level(1, 5)], n_threads=3)
    np.testing.assert_array_equal(one, three)


def test_where_the_weight_is_0_nothing_pulls() -> None:
    """A hole in the moving image, as a lesion is, moves the warp unless its weight is 0."""
    moving = texture(10)
    fixed = moving.copy()
    hole = (slice(15, 24), slice(15, 24), slice(12, 22))
    moving[hole] = 4 * texture(11)[hole]
    weight = np.ones(SHAPE, np.float32)
    weight[hole] = 0
    levels = [Level(1, 15)]
    pulled, _ = find_warp([Channel(fixed, moving)], levels)
    free, _ = find_warp([Channel(fixed, moving)], levels, weight=weight)
    # what is left is about one greedy step, which is scaled to half a voxel however small the gradient
    assert np.abs(free).max() < 0.35 * np.abs(pulled).max()


def test_nothing_moves_at_the_edge() -> None:
    moving = texture(12)
    found, _ = find_warp([Channel(texture(13), moving)], [Level(1, 8)])
    for axis in range(1, 4):
        for end in (0, -1):
            assert np.abs(np.take(found, end, axis=axis)).max() == 0


def test_inverse_undoes_the_warp() -> None:
    moved = planted(3.0)
    inverse = invert_warp(moved, tolerance=1e-4, n_iterations=200)
    places = np.indices(SHAPE) + inverse
    back = np.stack([map_coordinates(part, places, order=1, mode="nearest") for part in moved])
    assert np.abs(inverse + back)[(slice(None), *INSIDE)].max() < 1e-3
