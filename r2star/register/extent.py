"""How much of a head an image shows: all of it, or the brain alone, as after skull stripping.

Whole heads find each other by their outlines, so a template with its skull is squeezed onto a brain without one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from r2star.images import Image
from r2star.register.align import coarse_copy
from r2star.register.grids import box_grid, pull
from r2star.register.linear import COARSE_MM, register_linear
from r2star.register.measures import local_correlation
from r2star.register.transforms import Warp

#: Below this share of the bright voxels' value (98th percentile) a voxel is dark.
DARK = 0.01
#: With fewer dark voxels than this an image can't be a brain alone, and nothing more is tried.
LEAST_DARK_SHARE = 0.3
#: By so much the brains must correlate better without the template's skull than with it.
LEAST_GAIN = 0.05


def register_by_extent(fixed: Image, fixed_mask: Image, moving: Image, **options: Any) -> tuple[Image, Warp]:
    """Linear registration to the fixed image, or to its brain alone where that fits a skull-stripped image better.

    Returns the fixed image that was used, whole or without what ``fixed_mask`` leaves out, and the registration.
    ``options`` are those of `register_linear`.
    """
    whole = register_linear(fixed, moving, **options)
    if _dark_share(moving) < LEAST_DARK_SHARE:
        return fixed, whole
    inside = np.asarray(pull(fixed_mask, [], fixed.grid).data) > 0.5
    brain = replace(fixed, data=np.where(inside, fixed.data, 0).astype(np.float32))
    alone = register_linear(brain, moving, **options)
    gain = _brain_similarity(fixed, fixed_mask, moving, alone) - _brain_similarity(
        fixed, fixed_mask, moving, whole
    )
    return (brain, alone) if gain > LEAST_GAIN else (fixed, whole)


def _dark_share(image: Image) -> float:
    """Share of voxels without signal."""
    values = np.nan_to_num(np.asarray(image.data, np.float32))
    return float(np.mean(values <= DARK * np.percentile(values, 98)))


def _brain_similarity(fixed: Image, fixed_mask: Image, moving: Image, found: Warp) -> float:
    """Local correlation of both images in the fixed image's brain."""
    grid = box_grid(fixed_mask.grid, np.asarray(fixed_mask.data) > 0.5, 6.0, COARSE_MM)
    inside = np.asarray(pull(fixed_mask, [], grid).data) > 0.5
    moved = pull(coarse_copy(moving, COARSE_MM), found.fixed_to_moving, grid)
    return local_correlation(pull(coarse_copy(fixed, COARSE_MM), [], grid).data, moved.data, inside, 2)
