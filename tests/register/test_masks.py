"""The brain mask keeps what is dark inside and gives up what is dark at its rim."""

from __future__ import annotations

import numpy as np
import pytest

from r2star.errors import ProcessingError
from r2star.images import Grid
from r2star.register.masks import RIM_MM, refine_brain_mask

SIZE_MM = np.array([1.0, 1.0, 1.5])[:, None, None, None]
GRID = Grid((60, 60, 40), np.diag([1.0, 1.0, 1.5, 1.0]))


def ball(radius_mm: float) -> np.ndarray:
    centre = np.array([30, 30, 20])[:, None, None, None]
    return np.linalg.norm((np.indices(GRID.shape) - centre) * SIZE_MM, axis=0) < radius_mm


def test_an_iron_rich_nucleus_is_kept() -> None:
    signal = np.where(ball(24), 100.0, 1.0)
    signal[26:34, 26:34, 17:23] = 3.0
    mask = refine_brain_mask(ball(24), signal, GRID)
    np.testing.assert_array_equal(mask, ball(24))


@pytest.mark.parametrize("snr", [60.0, 15.0])
@pytest.mark.parametrize("rate_per_s", [80.0, 120.0])
def test_iron_is_kept_to_the_last_voxel(rate_per_s: float, snr: float) -> None:
    """Pallida, and nigrae that come as near to the mask's surface as the atlas', dark in all but the first echoes."""
    rng = np.random.default_rng(6)
    places_mm = (np.indices(GRID.shape) - np.array([30, 30, 20])[:, None, None, None]) * SIZE_MM
    iron = np.zeros(GRID.shape, bool)
    for x, z in ((-10, 0), (10, 0), (-3, -15), (3, -15)):
        iron |= np.linalg.norm(places_mm - np.array([x, 0, z])[:, None, None, None], axis=0) < 4
    r2star, s0 = np.where(iron, rate_per_s, 20.0), np.where(ball(24), 1.0, 0.05)
    squares = []
    for time in (0.0050, 0.0098, 0.0146, 0.0194, 0.0242, 0.0290):
        real, imaginary = rng.normal(size=(2, *GRID.shape)) / snr
        squares.append((s0 * np.exp(-r2star * time) + real) ** 2 + imaginary**2)
    mask = refine_brain_mask(ball(24), np.sqrt(np.mean(squares, axis=0)), GRID)
    assert mask[iron].all()
    assert mask[ball(24)].mean() > 0.995


def test_a_mask_that_reaches_into_the_skull_is_trimmed() -> None:
    mask = refine_brain_mask(ball(24), np.where(ball(22), 100.0, 2.0), GRID)
    np.testing.assert_array_equal(mask, ball(22))


def test_a_mask_is_trimmed_in_its_rim_only() -> None:
    """A dark cap on one side: its outer 5 mm go, what lies deeper stays."""
    cap = ball(24) & (np.indices(GRID.shape)[0] > 42)
    mask = refine_brain_mask(ball(24), np.where(ball(24) & ~cap, 100.0, 2.0), GRID)
    assert mask[ball(24 - RIM_MM - 1.5)].all()
    assert mask[ball(24) & ~cap].all()
    assert not mask[cap & ~ball(24 - RIM_MM + 1.5)].any()


def test_where_the_slab_ends_so_does_the_mask() -> None:
    signal = np.where(ball(24), 100.0, 1.0)
    signal[:, :, 24:] = 0
    mask = refine_brain_mask(ball(24), signal, GRID)
    assert not mask[:, :, 24:].any()
    np.testing.assert_array_equal(mask[:, :, :24], ball(24)[:, :, :24])


def test_a_mask_over_nothing_is_an_error() -> None:
    with pytest.raises(ProcessingError, match="E407"):
        refine_brain_mask(ball(10), np.zeros(GRID.shape), GRID)
