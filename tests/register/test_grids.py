"""Grids around what matters, and the part of an image that was in view."""

from __future__ import annotations

import numpy as np
import pytest

from r2star.images import Grid, Image
from r2star.register.align import sample_at
from r2star.register.grids import in_view

TILTED = np.array([[1.5, 0.2, 0, -40], [-0.2, 1.0, 0.1, 12], [0, -0.1, 2.0, 7], [0, 0, 0, 1.0]])


def ball(n: int = 30) -> np.ndarray:
    """A head in air without noise: planes at its ends are small."""
    where = np.indices((n, n, n)) - (n - 1) / 2
    return np.asarray(((where**2).sum(axis=0) < (0.4 * n) ** 2) * 100.0, np.float32)


def image_of(data: np.ndarray) -> Image:
    return Image(data.astype(np.float32), Grid((data.shape[0], data.shape[1], data.shape[2]), TILTED))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("noisy_air", [True, False])
def test_zeros_around_a_slab_are_out_of_view(axis: int, noisy_air: bool) -> None:
    data = ball() + noisy_air
    along = np.moveaxis(np.broadcast_to(np.arange(30)[:, None, None], data.shape), 0, axis)
    whole = image_of(np.where((along >= 9) & (along < 21), data, 0))
    slab = in_view(whole)
    assert slab.grid.shape[axis] == 12
    corner = np.zeros(3)
    corner[axis] = 9
    point = TILTED[:3, :3] @ (corner + 5) + TILTED[:3, 3]
    assert np.array_equal(slab.data, np.take(whole.data, range(9, 21), axis=axis))
    assert sample_at(slab, point[None]) == pytest.approx(sample_at(whole, point[None]))


def test_air_around_a_head_is_in_view() -> None:
    for data in (ball(), ball() + 1.0, np.zeros((8, 8, 8))):
        whole = image_of(data)
        same = in_view(whole)
        assert same.grid.shape == whole.grid.shape
        assert np.array_equal(same.grid.affine, TILTED)
        assert np.array_equal(same.data, whole.data)
