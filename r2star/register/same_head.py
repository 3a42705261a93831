"""Are two images of one head, and the same way round? Numpy and scipy, and the recipes.

Any two heads can be laid on each other, and mutual information hardly tells. But only in images of one head do the
folds meet, so that the local correlation falls when one image is mirrored and rises little when it may be warped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r2star.images import Image
from r2star.register.align import coarse_copy
from r2star.register.diffeo import Level
from r2star.register.grids import box_grid, pull
from r2star.register.linear import linear_pass
from r2star.register.measures import Measures, local_correlation
from r2star.register.stages import Pair, deform
from r2star.register.transforms import Affine, Link

MIRROR_STEP_MM = 2.0
_WARP_STEP = 1.5  # times the other
_RADIUS = 3
#: A stiff warp: it takes up what differs between two heads, not the noise of one.
_LEVELS = (
    Level(2, 30, update_sigma=3.0, total_sigma=1.0, floor=0.03),
    Level(1, 20, update_sigma=3.0, total_sigma=1.0, floor=0.03),
)


def same_head_measures(
    fixed: Image, moving: Image, mask: Image, chain: Sequence[Link], *, work_dir: Path, seed: int, n_threads: int = 1,
    step_mm: float = MIRROR_STEP_MM,
) -> Measures:  # fmt: skip
    """Of a rigid registration of two contrasts: what mirroring takes from their local correlation, and a warp adds.

    ``mirror_contrast`` is 1 − (correlation with the moving image mirrored and registered anew) / (correlation found):
    below 0 where one of them is stored mirrored, about 0 where they are two persons. ``warp_gain`` is
    (correlation after a stiff warp) / (correlation found) − 1: about 0 in one head. Both inside ``mask`` of the fixed
    image and the view of the moving one; NaN where these do not meet.
    """
    return {
        "mirror_contrast": _mirror_contrast(fixed, moving, mask, chain, step_mm, work_dir, seed),
        "warp_gain": _warp_gain(fixed, moving, mask, chain, _WARP_STEP * step_mm, n_threads),
    }


def _mirror_contrast(
    fixed: Image, moving: Image, mask: Image, chain: Sequence[Link], step_mm: float, work_dir: Path, seed: int
) -> float:
    there, inside, here, seen = _on_one_grid(fixed, moving, mask, chain, step_mm)
    mirrored, mirrored_seen = (
        Image(np.ascontiguousarray(image.data[::-1]), image.grid) for image in (here, seen)
    )
    found = Affine(np.eye(4))
    for step, n_iterations, held in ((2 * step_mm, 60, None), (step_mm, 30, inside)):
        levels = [(1, 0.0, n_iterations)]
        found = linear_pass(there, mirrored, found, ("Rigid",), step, levels, (held, None), work_dir, seed)
    where = _inner(inside, seen) & _inner(inside, pull(mirrored_seen, [found], there.grid))
    right = local_correlation(there.data, here.data, where, _RADIUS)
    wrong = local_correlation(there.data, pull(mirrored, [found], there.grid).data, where, _RADIUS)
    return 1 - wrong / right if right > 0 else float("nan")


def _warp_gain(
    fixed: Image, moving: Image, mask: Image, chain: Sequence[Link], step_mm: float, n_threads: int
) -> float:
    there, inside, here, seen = _on_one_grid(fixed, moving, mask, chain, step_mm)
    warp, _ = deform([Pair(there, here)], _LEVELS, weight=seen, n_threads=n_threads)
    where = _inner(inside, seen)
    before = local_correlation(there.data, here.data, where, _RADIUS)
    after = local_correlation(there.data, pull(here, [warp], there.grid).data, where, _RADIUS)
    return after / before - 1 if before > 0 else float("nan")


def _on_one_grid(
    fixed: Image, moving: Image, mask: Image, chain: Sequence[Link], step_mm: float
) -> tuple[Image, Image, Image, Image]:
    """Fixed image, mask, moving image and what it sees, on a grid around the mask."""
    grid = box_grid(fixed.grid, np.asarray(mask.data) > 0.5, 16.0, step_mm)
    seen = Image(np.ones(moving.grid.shape, np.float32), moving.grid)
    return (
        pull(coarse_copy(fixed, step_mm), [], grid),
        pull(mask, [], grid),
        pull(coarse_copy(moving, step_mm), chain, grid),
        pull(seen, chain, grid),
    )


def _inner(inside: Image, seen: Image) -> NDArray[np.bool_]:
    """Where the mask lies and all of a window is seen."""
    from scipy.ndimage import minimum_filter

    whole: NDArray[np.bool_] = minimum_filter(seen.data, 2 * _RADIUS + 1) > 0.99
    return whole & (np.asarray(inside.data) > 0.5)
