"""How much of a head an image shows: all of it, or the brain alone, as after skull stripping.

Whole heads find each other by their outlines, so a template with its skull is squeezed onto a brain without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2star.images import Grid, Image
from r2star.register.align import coarse_copy, sample_at, world_points
from r2star.register.grids import box_grid, pull
from r2star.register.linear import COARSE_MM, register_linear, register_rigid
from r2star.register.masks import head_threshold
from r2star.register.measures import DARK_SHARE, local_correlation
from r2star.register.shading import is_shaded, without_shading
from r2star.register.transforms import Link, Warp, map_points

#: What shows more than this, and has gaps, can't be a brain alone, mm³; more than the largest of brains.
LARGEST_BRAIN_MM3 = 2.1e6
#: Where heads are looked for around a brain: nearer than this a registration's error may matter, farther there is neck.
SHELL_MM = (6.0, 25.0)
#: By so much the brains must correlate better without the template's skull than with it.
LEAST_GAIN = 0.05
#: Brains that correlate better than this lie on each other: squeezed or blown up they reached 0.20 at most, even where
#: template and head had one shape, and T1w of real people 0.35 and more where all was well.
SURE_SIMILARITY = 0.3
#: Two contrasts of one head are freed of shading over so many mm: their folds are the same, and finer than this.
ONE_HEAD_MM = 6.0
#: A brain alone is hardly larger once its gaps are closed; a head is, by its skull: 1.00 to 1.03 and 1.05 to 1.5.
CLOSED_SHARE = 1.05


class Placed(NamedTuple):
    """Two images that lie on each other, as they were compared, and how."""

    fixed: Image  # whole, or its brain alone
    moving: Image  # as it is, or without its shading
    warp: Warp


def register_by_extent(fixed: Image, fixed_mask: Image, moving: Image, **options: Any) -> Placed:
    """Linear registration to the fixed image, or to its brain alone where that fits a skull-stripped image better.

    Where neither brings the brains of a shaded image together, the better one is tried again without its shading.
    ``options`` are those of `register_linear`.
    """
    similarity, placed = _by_likelier_extent(fixed, fixed_mask, moving, **options)
    if similarity > SURE_SIMILARITY or not is_shaded(moving):
        return placed
    even = without_shading(moving)
    warp = register_linear(placed.fixed, even, **options)
    gains = _brain_similarity(placed.fixed, fixed_mask, moving, warp) > similarity
    return Placed(placed.fixed, even, warp) if gains else placed


def _by_likelier_extent(
    fixed: Image, fixed_mask: Image, moving: Image, **options: Any
) -> tuple[float, Placed]:
    """The better of both registrations, and how well its brains correlate.

    What the moving image's outline makes likelier is tried first, and the other one too unless the brains then lie on
    each other and what is around them is bright or dark as it was taken for.
    """

    def tried(head: bool) -> tuple[float, Placed]:
        used = fixed if head else _within(fixed, _on_grid(fixed_mask, fixed.grid) > 0.5)
        warp = register_linear(used, moving, **options)
        return _brain_similarity(used, fixed_mask, moving, warp), Placed(used, moving, warp)

    shown_mm3, closed_share = _shown(moving)
    if closed_share >= CLOSED_SHARE and shown_mm3 > LARGEST_BRAIN_MM3:
        return tried(True)
    found: dict[bool, tuple[float, Placed]] = {}
    for head in (False, True) if closed_share < CLOSED_SHARE else (True, False):
        similarity, placed = found[head] = tried(head)
        if similarity > SURE_SIMILARITY and (
            shows_head(fixed, fixed_mask, moving, placed.warp.fixed_to_moving) is head
        ):
            return found[head]
    return found[found[False][0] <= found[True][0] + LEAST_GAIN]


class OneHead(NamedTuple):
    """Two images of one head that lie on each other, as they were compared, and how."""

    fixed: Image  # as it is, or without its shading
    moving: Image  # likewise
    matched: Image  # the fixed image, or its brain alone
    compared: Image  # mask within which ``matched`` and ``moving`` can be compared
    warp: Warp


def register_rigid_by_extent(fixed: Image, fixed_mask: Image, moving: Image, **options: Any) -> OneHead:
    """Rigid registration of two contrasts of one head, of which the moving one may be a brain alone.

    A brain alone is matched by the fixed image's brain and with its outline, which may be all that it has in common
    with the fixed image. Where the brains do not meet and an image is shaded, both are tried without their shading,
    and what brings the brains together better counts. ``options`` are those of `register_rigid`.
    """
    found = _on_head_or_brain(fixed, fixed_mask, moving, **options)
    similarity = _brain_similarity(fixed, fixed_mask, moving, found.warp)
    if similarity > SURE_SIMILARITY or not (is_shaded(fixed) or is_shaded(moving)):
        return found
    one, other = (without_shading(image, ONE_HEAD_MM) for image in (fixed, moving))
    even = _on_head_or_brain(one, fixed_mask, other, **options)
    return even if _brain_similarity(fixed, fixed_mask, moving, even.warp) > similarity else found


def _on_head_or_brain(fixed: Image, fixed_mask: Image, moving: Image, **options: Any) -> OneHead:
    from scipy.ndimage import distance_transform_edt

    whole = register_rigid(fixed, moving, fixed_mask=fixed_mask, **options)
    if shows_head(fixed, fixed_mask, moving, whole.fixed_to_moving):
        return OneHead(fixed, moving, fixed, fixed_mask, whole)
    inside = np.asarray(fixed_mask.data) > 0.5
    near = distance_transform_edt(~inside, sampling=fixed_mask.grid.voxel_size_mm) < SHELL_MM[0]
    around = replace(fixed_mask, data=near.astype(np.float32))
    brain = _within(fixed, inside)
    return OneHead(fixed, moving, brain, around, register_rigid(brain, moving, **options))


def shows_head(fixed: Image, fixed_mask: Image, moving: Image, chain: Sequence[Link]) -> bool:
    """Whether the moving image shows what the fixed one shows around the brain; also where that shows nothing."""
    from scipy.ndimage import distance_transform_edt

    low, other = coarse_copy(fixed, 4.0), coarse_copy(moving, 4.0)
    inside = np.asarray(coarse_copy(fixed_mask, 4.0).data) > 0.5
    away = distance_transform_edt(~inside, sampling=low.grid.voxel_size_mm)
    around = (low.data > head_threshold(low.data)) & (away > SHELL_MM[0]) & (away < SHELL_MM[1])

    def typical(where: NDArray[np.bool_]) -> float:
        points = world_points(low.grid, np.argwhere(where).astype(np.float64))
        values = sample_at(other, map_points(chain, points))
        return float(np.nanmedian(values)) if np.isfinite(values).any() else float("nan")

    return not typical(around) < DARK_SHARE * typical(inside)


def _on_grid(mask: Image, grid: Grid) -> NDArray[Any]:
    """Values of a mask on a grid, drawn anew only where it lies on another one."""
    return np.asarray(mask.data if mask.grid.same_as(grid) else pull(mask, [], grid).data)


def _within(image: Image, inside: NDArray[np.bool_]) -> Image:
    """An image, dark but for a part of it."""
    return replace(image, data=np.where(inside, image.data, 0).astype(np.float32))


def _shown(image: Image) -> tuple[float, float]:
    """Volume of what is brighter than air, noise or not, in mm³, and how many times as much it is with gaps closed."""
    from scipy.ndimage import binary_closing, binary_fill_holes

    low = coarse_copy(image, 4.0)
    bright = np.pad(np.asarray(low.data) > head_threshold(np.asarray(low.data)), 4)
    closed = binary_fill_holes(binary_closing(bright, iterations=3))
    volume = float(bright.sum()) * low.grid.voxel_volume_mm3
    return volume, float(closed.sum()) / max(int(bright.sum()), 1)


def _brain_similarity(fixed: Image, fixed_mask: Image, moving: Image, found: Warp) -> float:
    """Local correlation of both images in the fixed image's brain."""
    grid = box_grid(fixed_mask.grid, np.asarray(fixed_mask.data) > 0.5, 6.0, COARSE_MM)
    inside = np.asarray(pull(fixed_mask, [], grid).data) > 0.5
    moved = pull(coarse_copy(moving, COARSE_MM), found.fixed_to_moving, grid)
    return local_correlation(pull(coarse_copy(fixed, COARSE_MM), [], grid).data, moved.data, inside, 2)
