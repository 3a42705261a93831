"""Recipes of warps: rigid and affine for whole heads, then a cheap warp of the brain and a fine one of a box.

A chain leads from the fixed image's world to the moving image's; `Warp` holds it and its inverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r2star.errors import ProcessingError
from r2star.images import Grid, Image
from r2star.register.align import coarse_copy
from r2star.register.diffeo import Channel, Level, find_warp, invert_warp
from r2star.register.extent import register_by_extent
from r2star.register.grids import box_grid, pull
from r2star.register.linear import COARSE_MM
from r2star.register.resample import nearest_by_world
from r2star.register.transforms import Field, Link, Warp

#: How far beyond a lesion nothing is matched either.
LESION_RIM_MM = 2.0

#: Whole brain at 8, 4 and 2 mm; the box at 1 mm; and what tests can wait for, at 8 and 4 mm. The floors are low as
#: grey beside white matter varies a tenth of what fluid beside tissue does; voxels of 2 mm hold less noise.
BRAIN_LEVELS = (Level(4, 40, floor=0.03), Level(2, 40, floor=0.03), Level(1, 20, floor=0.03))
FOCUS_LEVELS = (Level(1, 40, floor=0.05),)
#: For another contrast than the template's: stiffer, with a wider view, and the box at 2 mm first.
OTHER_BRAIN_LEVELS = tuple(replace(level, update_sigma=3.0, total_sigma=1.2) for level in BRAIN_LEVELS)
OTHER_FOCUS_LEVELS = tuple(
    Level(shrink, iterations, update_sigma=3.0, total_sigma=1.2, floor=0.03)
    for shrink, iterations in ((2, 40), (1, 30))
)
#: Where the box is nearly right already: image and iron together.
REFINE_LEVELS = (Level(2, 20, floor=0.05), Level(1, 15, floor=0.05))
SLOPPY_LEVELS = (Level(2, 20), Level(1, 10))


@dataclass(frozen=True)
class Pair:
    """Two images of the same thing that drive a warp together with others; the weights of all add up to 1."""

    fixed: Image
    moving: Image
    weight: float = 1.0


def deform(
    pairs: Sequence[Pair], levels: Sequence[Level], *, weight: Image | None = None, n_threads: int = 1
) -> tuple[Field, Field]:
    """A diffeomorphic warp and its inverse between images that already lie on one grid.

    ``weight`` says what each place counts, 0 to 1: nothing is matched where it is 0, as in a lesion.
    """
    grid = pairs[0].fixed.grid
    total = sum(pair.weight for pair in pairs)
    channels = [Channel(_values(pair.fixed), _values(pair.moving), pair.weight / total) for pair in pairs]
    moved, _ = find_warp(
        channels, levels, weight=None if weight is None else _values(weight), n_threads=n_threads
    )
    return _field(moved, grid), _field(invert_warp(moved, n_threads=n_threads), grid)


def _values(image: Image) -> NDArray[np.float32]:
    return np.ascontiguousarray(image.data, dtype=np.float32)


def _field(moved: NDArray[np.float32], grid: Grid) -> Field:
    """Displacements in voxels (3, X, Y, Z) as a field in world millimetres."""
    world = np.einsum("ij,jxyz->xyzi", grid.affine[:3, :3], moved, dtype=np.float64)
    if not np.isfinite(world).all():
        raise ProcessingError("E404", "the warp holds values that are not finite", "a finite warp")
    return Field(world.astype(np.float32), grid)


def _leave_out(lesions: Image, image: Image) -> tuple[Image, Image]:
    """The image with lesions filled from the nearest sound voxel, and 1 where it is sound.

    What lies within ``LESION_RIM_MM`` counts as ill too. Filled, as smoothing would carry lesions outwards.
    """
    from scipy.ndimage import distance_transform_edt

    size = image.grid.voxel_size_mm
    ill = nearest_by_world(lesions, image.grid) > 0.5
    if not ill.any():
        return image, Image(np.ones(image.grid.shape, np.float32), image.grid)
    ill = distance_transform_edt(~ill, sampling=size) <= LESION_RIM_MM
    nearest = distance_transform_edt(ill, sampling=size, return_distances=False, return_indices=True)
    filled = np.asarray(image.data)[tuple(nearest)]
    return replace(image, data=filled), Image((~ill).astype(np.float32), image.grid)


def register_focused(
    fixed: Image,
    fixed_mask: Image,
    focus: Image,
    moving: Image,
    *,
    work_dir: Path,
    seed: int,
    n_threads: int = 1,
    sloppy: bool = False,
    same_contrast: bool = True,
    focus_margin_mm: float = 14.0,
    iron: Pair | None = None,
    lesions: Image | None = None,
    what: str = "registration to the template",
) -> Warp:
    """Affine, a cheap warp of the brain at 2 mm, and a fine one in a box around ``focus`` at the fixed voxels.

    A moving image without its skull is matched by the brain of the fixed one alone.

    Each warp ends with no displacement at the edge of its own grid, so the fine one blends into the coarse one.
    ``iron`` adds an R2* map against one of the template to the fine warp; the images' own weight is 1.
    ``lesions``, in the moving world, and what lies within 2 mm of them, are left out of every similarity.
    """
    sound = None
    if lesions is not None:
        moving, sound = _leave_out(lesions, moving)
    fixed, seen, linear = register_by_extent(
        fixed,
        fixed_mask,
        moving,
        kinds=("Rigid", "Affine"),
        work_dir=work_dir,
        seed=seed,
        moving_mask=sound,
        what=what,
    )
    # the stiff warp of another contrast would follow the noise where shading left no signal
    moving = seen if same_contrast else moving
    step = 4.0 if sloppy else COARSE_MM
    brain_levels = BRAIN_LEVELS if same_contrast else OTHER_BRAIN_LEVELS
    focus_levels = FOCUS_LEVELS if same_contrast else OTHER_FOCUS_LEVELS
    grid = box_grid(fixed.grid, np.asarray(fixed_mask.data) > 0.5, 12.0, step)
    fixed_low, moving_low = coarse_copy(fixed, step), coarse_copy(moving, step)
    low = Pair(pull(fixed_low, [], grid), pull(moving_low, linear.fixed_to_moving, grid))
    there, back = deform(
        [low],
        SLOPPY_LEVELS if sloppy else brain_levels,
        weight=None if sound is None else pull(sound, linear.fixed_to_moving, grid),
        n_threads=n_threads,
    )
    forward: list[Link] = [there, *linear.fixed_to_moving]
    backward: list[Link] = [*linear.moving_to_fixed, back]
    if sloppy:
        return Warp(forward, backward, linear.notices)
    box = box_grid(fixed.grid, np.asarray(focus.data) > 0, focus_margin_mm)
    near = Pair(pull(fixed, [], box), pull(moving, forward, box))
    pairs = [near]
    if iron is not None:
        pairs.append(Pair(pull(iron.fixed, [], box), pull(iron.moving, forward, box), iron.weight))
    weight = None if sound is None else pull(sound, forward, box)
    there, back = deform(pairs, focus_levels, weight=weight, n_threads=n_threads)
    return Warp([there, *forward], [*backward, back], linear.notices)


def refine_focused(
    start: Warp, focus: Image, image: Pair, iron: Pair, iron_chain: Sequence[Link], *, lesions: Image | None = None,
    n_threads: int = 1, focus_margin_mm: float = 14.0,
) -> Warp:  # fmt: skip
    """A registration with one more warp in the box around ``focus``, driven by the image and by iron together.

    ``iron_chain`` leads on from the moving image's world to that of the R2* map; ``lesions`` lie in the former.
    """
    sound = None
    moving = image.moving
    if lesions is not None:
        moving, sound = _leave_out(lesions, moving)
    chain = start.fixed_to_moving
    box = box_grid(image.fixed.grid, np.asarray(focus.data) > 0, focus_margin_mm)
    pairs = [
        Pair(pull(image.fixed, [], box), pull(moving, chain, box), image.weight),
        Pair(pull(iron.fixed, [], box), pull(iron.moving, [*chain, *iron_chain], box), iron.weight),
    ]
    weight = None if sound is None else pull(sound, chain, box)
    there, back = deform(pairs, REFINE_LEVELS, weight=weight, n_threads=n_threads)
    return Warp([there, *chain], [*start.moving_to_fixed, back])
