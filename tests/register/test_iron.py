"""The painted R2* template, and iron that shows a warp what magnitude does not."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from r2star.images import Grid, Image
from r2star.register.iron import FLUID_R2STAR_PER_S, TISSUE_R2STAR_PER_S, TYPICAL_R2STAR_PER_S, paint_r2star
from r2star.register.stages import OTHER_FOCUS_LEVELS, Pair, deform

SHAPE = (48, 48, 40)
GRID = Grid(SHAPE, np.eye(4))


def ball(centre: tuple[int, int, int], radius: float) -> np.ndarray:
    return np.linalg.norm(np.indices(SHAPE) - np.reshape(centre, (3, 1, 1, 1)), axis=0) < radius


def test_regions_tissue_fluid_and_air_are_painted() -> None:
    labels = np.where(ball((16, 24, 20), 6), 5, 0) + np.where(ball((32, 24, 20), 6), 105, 0)
    brain = ball((24, 24, 20), 19)
    t1w = np.where(ball((24, 38, 20), 4), 20.0, 100.0)
    painted = paint_r2star(labels, {"pallidum": (5, 105), "unheard_of": (7,)}, t1w, brain)
    assert abs(painted[16, 24, 20] - TYPICAL_R2STAR_PER_S["pallidum"]) < 0.1
    assert abs(painted[32, 24, 20] - TYPICAL_R2STAR_PER_S["pallidum"]) < 0.1
    assert abs(painted[24, 38, 20] - FLUID_R2STAR_PER_S) < 0.1
    assert abs(painted[24, 14, 20] - TISSUE_R2STAR_PER_S) < 0.1
    assert painted[0, 0, 0] == 0


def test_iron_moves_a_nucleus_that_magnitude_does_not_show() -> None:
    """The nucleus lies 2 mm aside in the participant; magnitude is texture that did not move and ends around it."""
    rng = np.random.default_rng(2)
    texture = gaussian_filter(rng.normal(size=SHAPE), 2).astype(np.float32)
    blank = ball((24, 24, 20), 15)
    magnitude = Image(np.where(blank, 0, texture / texture.std()).astype(np.float32), GRID)
    here, there = (20 + 18 * gaussian_filter(ball((x, 24, 20), 6).astype(float), 0.7) for x in (24, 26))
    fixed, moving = (
        Image((part + rng.normal(size=SHAPE)).astype(np.float32), GRID) for part in (here, there)
    )
    blind, _ = deform([Pair(magnitude, magnitude)], OTHER_FOCUS_LEVELS)
    seeing, _ = deform([Pair(magnitude, magnitude), Pair(fixed, moving)], OTHER_FOCUS_LEVELS)
    core = ball((24, 24, 20), 6)
    assert abs(np.median(blind.displacement_mm[core, 0])) < 0.1
    assert 1.2 < np.median(seeing.displacement_mm[core, 0]) < 2.5


def test_without_a_difference_hardly_anything_moves() -> None:
    """The floor under the variances rewards contrast a little: a fifth of a voxel at most, next to nothing mostly."""
    texture = gaussian_filter(np.random.default_rng(3).normal(size=SHAPE), 2).astype(np.float32)
    there, back = deform([Pair(Image(texture, GRID), Image(texture, GRID))], OTHER_FOCUS_LEVELS)
    for field in (there, back):
        assert np.abs(field.displacement_mm).max() < 0.2
        assert np.median(np.abs(field.displacement_mm)) < 0.02
