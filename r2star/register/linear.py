"""Rigid and affine registration of whole heads by ANTs, from a start that `align` finds."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from r2star.images import Image
from r2star.register import engine
from r2star.register.align import coarse_copy, find_start
from r2star.register.transforms import Affine, Warp, read_affine, write_composite

#: Voxels of the brain's warp, and those at which a rigid registration is refined.
COARSE_MM = 2.0


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
        return Affine(read_affine(output))


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
