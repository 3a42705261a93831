"""The schedules of the warps on shapes whose truth is plain."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from r2star.images import Grid, Image
from r2star.register.stages import FOCUS_LEVELS, Pair, deform

SHAPE = (56, 48, 40)
FLUID, GREY, WHITE = 30.0, 76.0, 83.0


def wall(width_mm: float, seed: int) -> Image:
    """Fluid, a wall of grey, white matter, along x: a caudate beside its ventricle; noise as in a T1w at 1 mm."""
    x = np.indices(SHAPE)[0]
    tissue = np.where(x < 24, FLUID, np.where(x < 24 + width_mm, GREY, WHITE))
    noise = np.random.default_rng(seed).normal(scale=1.5, size=SHAPE)
    return Image((gaussian_filter(tissue, 0.6) + noise).astype(np.float32), Grid(SHAPE, np.eye(4)))


def test_a_faint_border_is_followed_and_a_strong_one_near_it_stays() -> None:
    """The participant's wall is 2 mm wider on the side of white matter; at fluid both are alike."""
    there, _ = deform([Pair(wall(8.0, 1), wall(10.0, 2))], FOCUS_LEVELS)
    along_x = np.median(there.displacement_mm[:, 12:-12, 12:-12, 0], axis=(1, 2))
    assert abs(along_x[24]) < 0.2
    assert 1.6 < along_x[32] < 2.2
