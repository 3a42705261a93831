"""The schedules of the warps on shapes whose truth is plain."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from r2star.images import Grid, Image
from r2star.register.stages import FOCUS_LEVELS, Pair, deform, refine_focused
from r2star.register.transforms import Field, Warp

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


def iron_wall(width_mm: float, seed: int, *, t1w: bool) -> Image:
    """The same place without a border on T1w but that of fluid; on R2* the wall holds a little more than tissue."""
    x = np.indices(SHAPE)[0]
    fluid, grey, tissue, noise = (30.0, 80.0, 80.0, 1.5) if t1w else (3.0, 22.0, 20.0, 1.0)
    values = np.where(x < 24, fluid, np.where(x < 24 + width_mm, grey, tissue))
    noisy = np.random.default_rng(seed).normal(scale=noise, size=SHAPE)
    return Image((gaussian_filter(values, 0.6) + noisy).astype(np.float32), Grid(SHAPE, np.eye(4)))


def test_fluid_does_not_drown_the_borders_of_iron() -> None:
    """R2* alone shows that the wall is 2 mm wider; T1w keeps it beside its fluid."""
    image = Pair(iron_wall(8.0, 1, t1w=True), iron_wall(10.0, 2, t1w=True))
    iron = Pair(iron_wall(8.0, 3, t1w=False), iron_wall(10.0, 4, t1w=False))
    everywhere = Image(np.ones(SHAPE, np.float32), Grid(SHAPE, np.eye(4)))
    found = refine_focused(Warp([], []), everywhere, image, iron, [])
    moved = found.fixed_to_moving[0]
    assert isinstance(moved, Field)
    along_x = np.median(moved.displacement_mm[:, 12:-12, 12:-12, 0], axis=(1, 2))
    assert abs(along_x[24]) < 0.2
    assert 1.6 < along_x[32] < 2.2
