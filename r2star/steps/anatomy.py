"""Steps from file to file: template, T1w and MEGRE brought together.

Chains of transforms are named by direction: ``from-T1w_to-X`` resamples T1w images on the grid of X. May import
register, atlas and images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2star.atlas import load_atlas
from r2star.errors import InputError, Notice, ProcessingError
from r2star.images import Image, read_grid, read_image, to_canonical, write_image
from r2star.register import engine, grids, linear, measures, resample, stages
from r2star.register.extent import register_rigid_by_extent
from r2star.register.same_head import same_head_measures
from r2star.register.transforms import read_composite, write_composite
from r2star.steps.canonical import Target, read_canonical, read_target
from r2star.steps.refinement import iron_pair
from r2star.steps.verdict import judge, template_measures


class MegreReference(NamedTuple):
    """One image of all echoes, canonical, for registration and pictures."""

    image: Path


class TemplateRegistration(NamedTuple):
    """A head registered to a template."""

    image_to_template: Path  # .h5: resamples the head on the template's grid
    template_to_image: Path  # .h5: resamples template and labels on the head's grid
    brain_mask: Path  # on the head's grid, storage order of its file
    measures: Path  # JSON
    notices: tuple[Notice, ...]


class RigidRegistration(NamedTuple):
    """MEGRE and T1w of one participant, one on the other."""

    megre_to_t1w: Path
    t1w_to_megre: Path
    measures: Path
    notices: tuple[Notice, ...]


class RoughAlignment(NamedTuple):
    """MEGRE on the T1w before either is placed on a template."""

    megre_to_t1w: Path
    notices: tuple[Notice, ...]


class SessionRegistration(NamedTuple):
    """The MEGRE of a session and the one that all sessions share, one on the other."""

    megre_to_reference: Path
    reference_to_megre: Path
    measures: Path
    notices: tuple[Notice, ...]


class JoinedTransforms(NamedTuple):
    """MEGRE and template, one on the other, through a reference."""

    image_to_template: Path
    template_to_image: Path


def combine_echoes(magnitude: tuple[Path, ...], out_dir: Path) -> MegreReference:
    """Root mean square over the echoes, canonical storage order, values that are not finite or below 0 set to 0."""
    total: NDArray[np.float64] | None = None
    for path in magnitude:
        image = read_image(path)
        values = np.clip(
            np.nan_to_num(np.asarray(image.data, np.float64), nan=0, posinf=0, neginf=0), 0, None
        )
        total = values**2 if total is None else total + values**2
    if total is None:
        raise InputError("E408", "there is no magnitude image", "at least one echo")
    data, grid = to_canonical(np.sqrt(total / len(magnitude)), image.grid)
    return MegreReference(write_image(out_dir / "megre_reference.nii.gz", data, grid))


def register_t1w_to_template(
    t1w: Path,
    atlas: str,
    out_dir: Path,
    random_seed: int = 20140,
    n_threads: int = 1,
    sloppy: bool = False,
    lesion_mask: Path | None = None,
) -> TemplateRegistration:
    """Register a T1w to the atlas' template, finely around the atlas' regions.

    ``lesion_mask``, on any grid of the T1w's world, is left out of the similarity: lesions pull nothing.
    """
    run = _Run("T1w", out_dir, random_seed, n_threads, sloppy)
    return _to_template(t1w, atlas, run, lesion_mask=lesion_mask)


def register_megre_to_template(
    megre_reference: Path,
    atlas: str,
    out_dir: Path,
    random_seed: int = 20140,
    n_threads: int = 1,
    sloppy: bool = False,
    r2star_map: Path | None = None,
    lesion_mask: Path | None = None,
) -> TemplateRegistration:
    """Register the MEGRE to the atlas' template where there is no T1w.

    With ``r2star_map`` (1/s, on the MEGRE's grid) iron drives the fine warp too, against an R2* map painted from
    the atlas: it shows the pallidum, the red nucleus and the substantia nigra where magnitude hardly does.
    ``lesion_mask``, on any grid of the MEGRE's world, is left out of the similarity.
    """
    run = _Run("MEGRE", out_dir, random_seed, n_threads, sloppy)
    return _to_template(megre_reference, atlas, run, r2star_map=r2star_map, lesion_mask=lesion_mask)


def register_megre_to_t1w(
    megre_reference: Path,
    t1w: Path,
    t1w_brain_mask: Path,
    out_dir: Path,
    random_seed: int = 20140,
    n_threads: int = 1,
    sloppy: bool = False,
) -> RigidRegistration:
    """Register the MEGRE rigidly to the T1w of the same head. Lesions show in both, so nothing is left out."""
    run = _Run("MEGRE", out_dir, random_seed, n_threads, sloppy)
    return RigidRegistration(*_one_head(megre_reference, t1w, t1w_brain_mask, run, "T1w"))


def align_megre_to_t1w(
    megre_reference: Path,
    t1w: Path,
    out_dir: Path,
    random_seed: int = 20140,
    n_threads: int = 1,
    sloppy: bool = False,
) -> RoughAlignment:
    """Align the MEGRE rigidly to the T1w by whole heads, well enough to bring a lesion mask over.

    The T1w has no brain mask yet: that comes of its registration to the template, from which lesions are left out.
    """
    threads = engine.limit_threads(n_threads)
    fixed, moving = read_canonical(t1w), grids.in_view(read_canonical(megre_reference))
    found = linear.register_rigid(
        fixed, moving, work_dir=out_dir, seed=random_seed, sloppy=sloppy, what="MEGRE to T1w"
    )
    path = write_composite(out_dir / "from-MEGRE_to-T1w_mode-image_xfm.h5", found.fixed_to_moving)
    return RoughAlignment(path, _kept(threads, found.notices))


def register_megre_to_reference(
    megre_reference: Path,
    reference: Path,
    reference_brain_mask: Path,
    out_dir: Path,
    random_seed: int = 20140,
    n_threads: int = 1,
    sloppy: bool = False,
) -> SessionRegistration:
    """Register the MEGRE of one session rigidly to that of another session, which places the regions in both."""
    run = _Run("MEGRE", out_dir, random_seed, n_threads, sloppy)
    return SessionRegistration(*_one_head(megre_reference, reference, reference_brain_mask, run, "reference"))


def join_transforms(
    megre_to_reference: Path,
    reference_to_megre: Path,
    reference_to_template: Path,
    template_to_reference: Path,
    out_dir: Path,
) -> JoinedTransforms:
    """One composite each way between MEGRE and template, through the reference and under the reference's names.

    Its warp is the reference's own, to the bit, so that regions differ between sessions by a rigid motion alone.
    """
    there = [*read_composite(reference_to_template), *read_composite(megre_to_reference)]
    back = [*read_composite(reference_to_megre), *read_composite(template_to_reference)]
    return JoinedTransforms(
        write_composite(out_dir / reference_to_template.name, there),
        write_composite(out_dir / template_to_reference.name, back),
    )


class _Run(NamedTuple):
    """What a registration to the template is called and how it runs."""

    kind: Literal["T1w", "MEGRE"]
    out_dir: Path
    seed: int
    n_threads: int
    sloppy: bool


def _one_head(
    moving_path: Path, fixed_path: Path, fixed_mask: Path, run: _Run, to: Literal["T1w", "reference"]
) -> tuple[Path, Path, Path, tuple[Notice, ...]]:
    """MEGRE rigidly on another image of the same head: both transforms, measures, notices."""
    threads = engine.limit_threads(run.n_threads)
    fixed, whole, mask = (read_canonical(path) for path in (fixed_path, moving_path, fixed_mask))
    head = register_rigid_by_extent(
        fixed,
        mask,
        grids.in_view(whole),
        work_dir=run.out_dir,
        seed=run.seed,
        sloppy=run.sloppy,
        what=f"MEGRE to {to}",
    )
    found = head.warp
    forward = write_composite(run.out_dir / f"from-MEGRE_to-{to}_mode-image_xfm.h5", found.fixed_to_moving)
    backward = write_composite(run.out_dir / f"from-{to}_to-MEGRE_mode-image_xfm.h5", found.moving_to_fixed)
    chain = found.fixed_to_moving
    values = measures.rigid_measures(head.matched, head.moving, head.compared, chain)
    values |= measures.balance_measures(whole, head.compared, chain)
    values |= same_head_measures(
        head.fixed, head.moving, mask, chain, work_dir=run.out_dir, seed=run.seed, n_threads=run.n_threads,
        step_mm=3.0 if run.sloppy else 2.0,
    )  # fmt: skip
    told, doubts = judge(run.out_dir, f"MEGRE_to_{to}", values, measures.T1W_TO_TEMPLATE)
    return forward, backward, told, _kept(threads, (*found.notices, *doubts))


def _to_template(
    path: Path,
    atlas: str,
    run: _Run,
    *,
    r2star_map: Path | None = None,
    lesion_mask: Path | None = None,
) -> TemplateRegistration:
    threads = engine.limit_threads(run.n_threads)
    target, moving = read_target(load_atlas(atlas)), read_canonical(path)
    space, kind = target.atlas.space, run.kind
    found = stages.register_focused(
        target.t1w, target.brain_mask, Image(target.in_regions, target.labels.grid), grids.in_view(moving),
        work_dir=run.out_dir, seed=run.seed, n_threads=run.n_threads, sloppy=run.sloppy,
        same_contrast=kind == "T1w", iron=None if r2star_map is None else iron_pair(r2star_map, target),
        lesions=None if lesion_mask is None else read_canonical(lesion_mask), what=f"{kind} to {space}",
    )  # fmt: skip
    forward = write_composite(
        run.out_dir / f"from-{kind}_to-{space}_mode-image_xfm.h5", found.fixed_to_moving
    )
    backward = write_composite(
        run.out_dir / f"from-{space}_to-{kind}_mode-image_xfm.h5", found.moving_to_fixed
    )
    brain = _brain(target, backward, path, run)
    thresholds = measures.T1W_TO_TEMPLATE if kind == "T1w" else measures.MEGRE_TO_TEMPLATE
    values = template_measures(target, moving, found.fixed_to_moving, backward)
    told, doubts = judge(run.out_dir, f"{kind}_to_template", values, thresholds)
    return TemplateRegistration(forward, backward, brain, told, _kept(threads, (*found.notices, *doubts)))


def _brain(target: Target, backward: Path, path: Path, run: _Run) -> Path:
    """The template's brain mask on the grid of the head's file."""
    grid = read_grid(path)
    brain = resample.resample_mask(target.brain_mask, [backward], grid)
    if not brain.any():
        raise ProcessingError(
            "E407", "the registered brain mask is empty", "a brain inside the image", path=path
        )
    return write_image(run.out_dir / f"space-{run.kind}_brain_mask.nii.gz", brain, grid, dtype=np.uint8)


def _kept(threads: Notice | None, others: tuple[Notice, ...]) -> tuple[Notice, ...]:
    return others if threads is None else (threads, *others)
