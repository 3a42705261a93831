"""Whole heads and brains alone, told apart with noise in the air, and placed by the outline that a brain alone has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from round_head import BRAIN_MM, GRID, HEAD_MM, MASK, PLACES_MM, within
from scipy.ndimage import gaussian_filter

from r2star.images import Grid, Image
from r2star.register import extent
from r2star.register.extent import (
    CLOSED_SHARE,
    LARGEST_BRAIN_MM3,
    _shown,
    register_by_extent,
    register_rigid_by_extent,
    shows_head,
)
from r2star.register.measures import rigid_measures
from r2star.register.transforms import Affine, Warp, map_points


def t1w() -> Image:
    """A head with folds in its brain, dark around that, bright scalp."""
    rng = np.random.default_rng(3)
    folds = gaussian_filter(rng.normal(size=GRID.shape), 1.5)
    values = np.where(within(BRAIN_MM), 100 + 20 * folds / folds.std(), 0)
    values[within(HEAD_MM) & ~within(HEAD_MM - 9)] = 150
    return Image(np.abs(values + 3 * rng.normal(size=GRID.shape)).astype(np.float32), GRID)


def megre(motion: np.ndarray, scalp: float) -> Image:
    """The same head after a motion, all of its brain alike, with noise in the air."""
    rng = np.random.default_rng(4)
    inverse = np.linalg.inv(motion)
    places = PLACES_MM @ inverse[:3, :3].T + inverse[:3, 3]
    values = 100.0 * within(BRAIN_MM, places)
    values[within(HEAD_MM, places) & ~within(HEAD_MM - 9, places)] = scalp
    noise = 4 * rng.normal(size=(2, *GRID.shape))
    return Image(np.hypot(gaussian_filter(values, 0.4) + noise[0], noise[1]).astype(np.float32), GRID)


STILL = [Affine(np.eye(4))]


@pytest.mark.parametrize(("scalp", "expected"), [(60.0, True), (0.0, False)])
def test_a_brain_alone_is_told_from_a_head(scalp: float, *, expected: bool) -> None:
    moving = megre(np.eye(4), scalp)
    assert shows_head(t1w(), MASK, moving, STILL) is expected
    shown_mm3, closed_share = _shown(moving)
    assert (shown_mm3 > LARGEST_BRAIN_MM3) is False  # what the scalp adds to this brain is little
    assert (closed_share > CLOSED_SHARE) is expected
    slab = Grid(
        (65, 65, 12), GRID.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 28], [0, 0, 0, 1]])
    )
    assert shows_head(t1w(), MASK, Image(moving.data[:, :, 28:40], slab), STILL) is expected


def test_where_the_fixed_image_is_a_brain_alone_nothing_is_missing() -> None:
    bare = Image(np.where(within(BRAIN_MM), t1w().data, 0), GRID)
    assert shows_head(bare, MASK, megre(np.eye(4), 0.0), STILL)


def brain_alone() -> Image:
    """The T1w's brain alone, with other noise."""
    noise = 3 * np.random.default_rng(9).normal(size=GRID.shape)
    return Image(np.abs(np.where(within(BRAIN_MM), t1w().data, 0) + noise).astype(np.float32), GRID)


@pytest.mark.parametrize(
    ("moving", "shift_mm", "tried"),
    [
        (brain_alone(), 0.0, [False]),
        (t1w(), 0.0, [True]),
        (brain_alone(), 20.0, [False, True]),
        (t1w(), 20.0, [True, False]),
    ],
)
def test_the_likelier_registration_is_enough_where_it_is_sure(
    monkeypatch: pytest.MonkeyPatch, moving: Image, shift_mm: float, tried: list[bool]
) -> None:
    """Which fixed images are registered: whole (True) or brain alone; both where the first one comes out wrong."""
    asked: list[bool] = []
    found = np.eye(4)
    found[0, 3] = shift_mm

    def registered(fixed: Image, _: Image) -> Warp:
        asked.append(bool(np.asarray(fixed.data)[~within(BRAIN_MM)].any()))
        return Warp([Affine(found)], [Affine(np.linalg.inv(found))])

    monkeypatch.setattr(extent, "register_linear", registered)
    used = register_by_extent(t1w(), MASK, moving).fixed
    assert asked == tried
    if shift_mm == 0:
        assert bool(np.asarray(used.data)[~within(BRAIN_MM)].any()) is tried[0]


def test_a_brain_alone_without_contrast_is_placed_by_its_outline(tmp_path: Path) -> None:
    """Inside the mask there is nothing to go by, and the scalp of the T1w has no counterpart."""
    motion = np.eye(4)
    motion[:3, 3] = [4.0, -3.0, 5.0]
    head = register_rigid_by_extent(t1w(), MASK, megre(motion, 0.0), work_dir=tmp_path, seed=1)
    used, found = head.matched, head.warp
    points = PLACES_MM[within(BRAIN_MM)][::50]
    away = map_points(found.fixed_to_moving, points) - points - motion[:3, 3]
    assert np.linalg.norm(away, axis=1).max() < 1.0
    assert not np.asarray(used.data)[~within(BRAIN_MM)].any()
    told = rigid_measures(used, megre(motion, 0.0), head.compared, found.fixed_to_moving)
    assert told["peak_contrast"] > 0.5  # by the outline; within the brain there is none
    inside = rigid_measures(t1w(), megre(motion, 0.0), MASK, found.fixed_to_moving)
    assert inside["peak_contrast"] < 0.1
