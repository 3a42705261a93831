"""One head, the same mirrored, and another head: told apart by what mirroring and warping do to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

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


def measured(moving: np.ndarray, work_dir: Path, slices: slice = slice(None)) -> Measures:
    """Against another contrast of head 1, well registered, 2 mm aside."""
    rng = np.random.default_rng(9)
    fixed = np.where(INSIDE, 200 - folds(1), 5) + rng.normal(size=GRID.shape)
    motion = np.eye(4)
    motion[2, 3] = 2.0
    seen = np.ascontiguousarray(moving[:, :, slices])
    affine = motion @ GRID.affine
    affine[2, 3] += 3 * (slices.start or 0)
    images = (Image(fixed.astype(np.float32), GRID), Image(seen, Grid(seen.shape, affine)))
    mask = Image(INSIDE.astype(np.float32), GRID)
    return same_head_measures(*images, mask, [Affine(motion)], work_dir=work_dir, seed=1, step_mm=3.0)


def test_one_head_passes(tmp_path: Path) -> None:
    found = measured(folds(1), tmp_path)
    assert found["mirror_contrast"] > 0.5
    assert abs(found["warp_gain"]) < 0.1
    assert judge_registration(found, T1W_TO_TEMPLATE) == "pass"


def test_a_slab_of_one_head_passes(tmp_path: Path) -> None:
    found = measured(folds(1), tmp_path, slice(15, 40))
    assert judge_registration(found, T1W_TO_TEMPLATE) == "pass", found


def alike(amount_voxels: float = 2.5) -> np.ndarray:
    """A head like the first one, as people are: its folds elsewhere by up to some millimetres."""
    rng = np.random.default_rng(3)
    moved = np.stack([gaussian_filter(rng.normal(size=GRID.shape), 7) for _ in range(3)])
    places = np.indices(GRID.shape) + amount_voxels * moved / moved.std()
    return np.asarray(map_coordinates(folds(1), places, order=1), np.float32)


def test_mirrored_data_fail(tmp_path: Path) -> None:
    found = measured(np.ascontiguousarray(folds(1)[::-1]), tmp_path)
    assert found["mirror_contrast"] < -1
    assert judge_registration(found, T1W_TO_TEMPLATE) == "fail"


@pytest.mark.parametrize("other", [folds(2), alike()], ids=["other folds", "folds elsewhere"])
def test_another_head_fails(other: np.ndarray, tmp_path: Path) -> None:
    found = measured(other, tmp_path)
    assert found["mirror_contrast"] < 0.05 or found["warp_gain"] > 0.5
    assert judge_registration(found, T1W_TO_TEMPLATE) == "fail"
