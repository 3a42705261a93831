"""Recipes: rigid and affine for whole heads, then a cheap warp of the brain and a fine one of a box.

A chain leads from the fixed image's world to the moving image's; `Warp` holds it and its inverse.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from r2star.errors import Notice, ProcessingError
from r2star.images import Grid, Image
from r2star.register import engine
from r2star.register.align import coarse_copy, find_start, sample_at, world_points
from r2star.register.diffeo import Channel, Level, find_warp, invert_warp
from r2star.register.resample import nearest_by_world
from r2star.register.transforms import (
    Affine,
    Field,
    Link,
    affine_part,
    map_points,
    read_composite,
    write_composite,
)

COARSE_MM = 2.0
#: How far beyond a lesion nothing is matched either.
LESION_RIM_MM = 2.0

#: Whole brain at 8, 4 and 2 mm; the box at 2 and 1 mm; and what tests can wait for, at 8 and 4 mm.
BRAIN_LEVELS = (Level(4, 40), Level(2, 40), Level(1, 20))
FOCUS_LEVELS = (Level(2, 40), Level(1, 30))
#: For another contrast than the template's: stiffer, with a wider view.
OTHER_BRAIN_LEVELS = tuple(
    replace(level, update_sigma=3.0, total_sigma=1.2, radius=3, floor=0.03) for level in BRAIN_LEVELS
)
OTHER_FOCUS_LEVELS = tuple(
    replace(level, update_sigma=3.0, total_sigma=1.2, radius=3, floor=0.03) for level in FOCUS_LEVELS
)
#: Where the box is nearly right already: image and iron together.
REFINE_LEVELS = (Level(2, 20), Level(1, 15))
SLOPPY_LEVELS = (Level(2, 20), Level(1, 10))


@dataclass(frozen=True)
class Warp:
    """A registration: points of the fixed world to the moving world, and back."""

    fixed_to_moving: list[Link]
    moving_to_fixed: list[Link]
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True)
class Pair:
    """Two images of the same thing that drive a warp together with others; the weights of all add up to 1."""

    fixed: Image
    moving: Image
    weight: float = 1.0


def register_linear(
    fixed: Image,
    moving: Image,
    *,
    kinds: Sequence[Literal["Rigid", "Affine"]],
    work_dir: Path,
    seed: int,
    refine_mm: float | None = None,
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    what: str = "registration",
) -> Warp:
    """Linear registration of two heads by mutual information at 4 mm, then at ``refine_mm`` inside ``fixed_mask``.

    Of the moving image, only what ``moving_mask`` holds counts.
    """
    start, notices = find_start(fixed, moving, what)
    found = linear_pass(
        fixed, moving, start, kinds, 4.0, [(2, 1, 100), (1, 0, 30)], (None, moving_mask), work_dir, seed
    )
    if refine_mm is not None:
        found = linear_pass(
            fixed,
            moving,
            found,
            kinds[-1:],
            refine_mm,
            [(1, 0, 30)],
            (fixed_mask, moving_mask),
            work_dir,
            seed,
        )
    return Warp([found], [Affine(np.asarray(np.linalg.inv(found.matrix)))], notices)


def linear_pass(
    fixed: Image,
    moving: Image,
    start: Affine,
    kinds: Sequence[str],
    step_mm: float,
    levels: Sequence[tuple[int, float, int]],
    masks: tuple[Image | None, Image | None],
    work_dir: Path,
    seed: int,
) -> Affine:
    """ANTs' linear stages ``kinds`` from ``start``; of fixed and moving image only what ``masks`` hold counts."""
    one, other = (engine.to_ants(coarse_copy(image, step_mm)) for image in (fixed, moving))
    held = [engine.to_ants_mask(mask) for mask in _both(masks, fixed)]
    mask_words = ["-x", f"[{','.join(map(engine.pointer, held))}]"] if held else []
    with tempfile.TemporaryDirectory(dir=work_dir, prefix="linear-") as folder:
        prefix = Path(folder) / "x_"
        words = ["-r", str(write_composite(Path(folder) / "start.h5", [start]))]
        for kind in kinds:
            words += ["-m", f"MI[{engine.pointer(one)},{engine.pointer(other)},1,32,Regular,0.5]"]
            words += ["-t", f"{kind}[0.1]", *_schedule(levels, 10)]
            words += mask_words
        words += ["-o", str(prefix), "--write-composite-transform", "1"]
        (output,) = engine.run_registration(words, seed, [Path(f"{prefix}Composite.h5")])
        return Affine(affine_part(read_composite(output)))


def _both(masks: tuple[Image | None, Image | None], fixed: Image) -> list[Image]:
    """The masks as ANTs takes them: none, the fixed image's, or those of both."""
    inside, sound = masks
    if sound is None:
        return [] if inside is None else [inside]
    return [inside or Image(np.ones(fixed.grid.shape, np.float32), fixed.grid), sound]


def _schedule(levels: Sequence[tuple[int, float, int]], window: int) -> list[str]:
    """ANTs' words for levels of (shrink factor, smoothing in voxels, iterations), coarse to fine."""
    factors, sigmas, iterations = zip(*levels)
    return [
        "-c", f"[{'x'.join(map(str, iterations))},1e-6,{window}]",
        "-s", "x".join(f"{sigma:g}" for sigma in sigmas) + "vox",
        "-f", "x".join(map(str, factors)),
    ]  # fmt: skip


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


def pull(moving: Image, chain: Sequence[Link], grid: Grid) -> Image:
    """The moving image on a grid of the fixed world, through the chain; 0 where it has no values."""
    slabs = []
    axes = [np.arange(n, dtype=np.float64) for n in grid.shape]
    for index in np.array_split(axes[0], max(1, grid.shape[0] // 16)):
        voxels = np.stack(np.meshgrid(index, axes[1], axes[2], indexing="ij"), -1)
        slabs.append(sample_at(moving, map_points(chain, world_points(grid, voxels))))
    return Image(np.nan_to_num(np.concatenate(slabs)).astype(np.float32), grid)


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


def box_grid(grid: Grid, inside: NDArray[np.bool_], margin_mm: float, step_mm: float | None = None) -> Grid:
    """The sub-grid around the ``inside`` voxels with a margin, optionally of another voxel size."""
    where = np.argwhere(inside)
    margin = margin_mm / np.array(grid.voxel_size_mm)
    low = np.maximum(np.floor(where.min(axis=0) - margin), 0)
    high = np.minimum(np.ceil(where.max(axis=0) + margin), np.array(grid.shape) - 1)
    factor = 1.0 if step_mm is None else step_mm / np.array(grid.voxel_size_mm)
    shape = np.floor((high - low) / factor).astype(int) + 1
    affine = grid.affine.copy()
    affine[:3, :3] = affine[:3, :3] * factor
    affine[:3, 3] = world_points(grid, low)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


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

    Each warp ends with no displacement at the edge of its own grid, so the fine one blends into the coarse one.
    ``iron`` adds an R2* map against one of the template to the fine warp; the images' own weight is 1.
    ``lesions``, in the moving world, and what lies within 2 mm of them, are left out of every similarity.
    """
    sound = None
    if lesions is not None:
        moving, sound = _leave_out(lesions, moving)
    linear = register_linear(
        fixed, moving, kinds=("Rigid", "Affine"), work_dir=work_dir, seed=seed, moving_mask=sound, what=what
    )
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


def register_rigid(
    fixed: Image,
    moving: Image,
    *,
    work_dir: Path,
    seed: int,
    fixed_mask: Image | None = None,
    sloppy: bool = False,
    what: str = "registration",
) -> Warp:
    """Rigid registration of two contrasts of one head, refined at 2 mm inside the mask."""
    refine = None if sloppy else COARSE_MM
    return register_linear(
        fixed,
        moving,
        kinds=("Rigid",),
        work_dir=work_dir,
        seed=seed,
        refine_mm=refine,
        fixed_mask=fixed_mask,
        what=what,
    )
