"""One head, the same mirrored, and another head: told apart by what mirroring and warping do to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from r2star.images import Grid, Image
from r2star.register.measures import T1W_TO_TEMPLATE, Measures, judge_registration
from r2star.register.same_head import same_head_measures
from r2star.register.transforms import Affine

GRID = Grid((60, 66, 56), np.diag([3.0, 3, 3, 1]))
_AXES = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in GRID.shape), indexing="ij"))
INSIDE = (_AXES**2).sum(0) < 0.7


def folds(seed: int) -> np.ndarray:
    """What no two heads share."""
    values = gaussian_filter(np.random.default_rng(seed).normal(size=GRID.shape), 1.6)
    return np.where(INSIDE, 100 + 15 * values / values.std(), 0).astype(np.float32)


def measured(moving: np.ndarray, work_dir: Path, motion_mm: float = 2.0) -> Measures:
    """Against another contrast of head 1, well registered."""
    rng = np.random.default_rng(9)
    fixed = np.where(INSIDE, 200 - folds(1), 5) + rng.normal(size=GRID.shape)
    affine = GRID.affine.copy()
    affine[2, 3] += motion_mm
    chain = [Affine(affine @ np.linalg.inv(GRID.affine))]
    images = (Image(fixed.astype(np.float32), GRID), Image(moving, Grid(GRID.shape, affine)))
    mask = Image(INSIDE.astype(np.float32), GRID)
    return same_head_measures(*images, mask, chain, work_dir=work_dir, seed=1, step_mm=3.0)


def test_one_head_passes(tmp_path: Path) -> None:
    found = measured(folds(1), tmp_path)
    assert found["mirror_contrast"] > 0.5
    assert abs(found["warp_gain"]) < 0.1
    assert judge_registration(found, T1W_TO_TEMPLATE) == "pass"


def test_a_slab_of_one_head_passes(tmp_path: Path) -> None:
    slab = folds(1)
    slab[:, :, :15] = slab[:, :, 40:] = 0
    assert judge_registration(measured(slab, tmp_path), T1W_TO_TEMPLATE) == "pass"


@pytest.mark.parametrize("case", ["mirrored", "another head"])
def test_what_is_not_this_head_fails(case: str, tmp_path: Path) -> None:
    other = np.ascontiguousarray(folds(1)[::-1]) if case == "mirrored" else folds(2)
    found = measured(other, tmp_path)
    assert judge_registration(found, T1W_TO_TEMPLATE) == "fail"
    if case == "mirrored":
        assert found["mirror_contrast"] < -1
    else:
        assert found["warp_gain"] > 0.5
