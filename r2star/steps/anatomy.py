"""Steps from file to file: template, T1w and MEGRE brought together, labels and masks on the MEGRE's own grid.

Chains of transforms are named by direction: ``from-T1w_to-X`` resamples T1w images on the grid of X. May import
register, atlas, images and files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2star.atlas import Atlas, load_atlas
from r2star.atlas.labels import read_labels
from r2star.errors import InputError, Notice, ProcessingError
from r2star.files import write_text_atomically
from r2star.images import Grid, Image, read_grid, read_image, to_canonical, write_image
from r2star.register import engine, masks, measures, resample, stages
from r2star.register.iron import paint_r2star
from r2star.register.transforms import Link, affine_part, jacobian_determinant, write_composite

#: R2* beyond this counts as this when it drives a registration: veins and calcifications, not nuclei.
HIGHEST_R2STAR_PER_S = 80.0


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


class Resampled(NamedTuple):
    """An image on another grid."""

    image: Path
    notices: tuple[Notice, ...]


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
    t1w: Path, atlas: str, out_dir: Path, random_seed: int = 20140, n_threads: int = 1, sloppy: bool = False
) -> TemplateRegistration:
    """Register a T1w to the atlas' template, finely around the atlas' regions."""
    return _to_template(t1w, atlas, out_dir, "T1w", random_seed, n_threads, sloppy)


def register_megre_to_template(
    megre_reference: Path,
    atlas: str,
    out_dir: Path,
    random_seed: int = 20140,
    n_threads: int = 1,
    sloppy: bool = False,
    r2star_map: Path | None = None,
) -> TemplateRegistration:
    """Register the MEGRE to the atlas' template where there is no T1w.

    With ``r2star_map`` (1/s, on the MEGRE's grid) iron drives the fine warp too, against an R2* map painted from
    the atlas: it shows the pallidum, the red nucleus and the substantia nigra where magnitude hardly does.
    """
    return _to_template(megre_reference, atlas, out_dir, "MEGRE", random_seed, n_threads, sloppy, r2star_map)


def register_megre_to_t1w(
    megre_reference: Path,
    t1w: Path,
    t1w_brain_mask: Path,
    out_dir: Path,
    random_seed: int = 20140,
    n_threads: int = 1,
    sloppy: bool = False,
) -> RigidRegistration:
    """Register the MEGRE rigidly to the T1w of the same head."""
    threads = engine.limit_threads(n_threads)
    fixed, moving, mask = (_canonical(path) for path in (t1w, megre_reference, t1w_brain_mask))
    found = stages.register_rigid(
        fixed, moving, fixed_mask=mask, work_dir=out_dir, seed=random_seed, sloppy=sloppy, what="MEGRE to T1w"
    )
    forward = write_composite(out_dir / "from-MEGRE_to-T1w_mode-image_xfm.h5", found.fixed_to_moving)
    backward = write_composite(out_dir / "from-T1w_to-MEGRE_mode-image_xfm.h5", found.moving_to_fixed)
    values = measures.rigid_measures(fixed, moving, mask, found.fixed_to_moving)
    told, doubts = _judge(out_dir, "MEGRE_to_T1w", values, measures.T1W_TO_TEMPLATE)
    return RigidRegistration(forward, backward, told, _kept(threads, (*found.notices, *doubts)))


def resample_labels(
    labels: Path, transforms: tuple[Path, ...], like: Path, out_dir: Path, name: str = "labels"
) -> Resampled:
    """Bring labels to the grid of ``like``, in its storage order, in one interpolation through all transforms.

    ``transforms`` stand as ANTs takes them: the one next to ``like`` first.
    """
    image = read_labels(labels)
    grid = read_grid(like)
    data = resample.resample_labels_array(_to_canonical(image), transforms, grid)
    return Resampled(write_image(out_dir / f"{name}.nii.gz", data, grid, dtype=np.uint16), image.notices)


def resample_map(
    image: Path, transforms: tuple[Path, ...], like: Path, out_dir: Path, name: str = "map"
) -> Resampled:
    """Bring a map to the grid of ``like``, linearly; NaN has no weight and stays NaN."""
    source = read_image(image)
    grid = read_grid(like)
    data = resample.resample_values(_to_canonical(source), transforms, grid)
    return Resampled(write_image(out_dir / f"{name}.nii.gz", data, grid), source.notices)


def resample_brain_mask(
    brain_mask: Path, transforms: tuple[Path, ...], megre_reference: Path, like: Path, out_dir: Path
) -> Resampled:
    """The template's mask through ``transforms`` on the grid of ``like``, trimmed by the MEGRE at its rim."""
    source = _canonical(brain_mask)
    reference = _canonical(megre_reference)
    share = resample.resample_values(source, transforms, reference.grid, fill=0.0)
    mask = masks.refine_brain_mask(share > 0.5, np.asarray(reference.data), reference.grid)
    grid = read_grid(like)
    stored = resample.nearest_by_world(Image(mask.astype(np.float32), reference.grid), grid)
    return Resampled(write_image(out_dir / "desc-brain_mask.nii.gz", stored > 0.5, grid, dtype=np.uint8), ())


def adopt_brain_mask(given: Path, like: Path, out_dir: Path) -> Resampled:
    """A mask from elsewhere on the grid of ``like``: nearest voxel by world coordinates where the grids differ."""
    source, grid = read_image(given), read_grid(like)
    notices = source.notices
    if source.grid.same_as(grid):
        mask = np.nan_to_num(np.asarray(source.data, np.float64)) > 0.5
    else:
        mask = resample.nearest_by_world(source, grid) > 0.5
        message = "the brain mask lies on another grid; its nearest voxel by world coordinates was taken"
        notices = (*notices, Notice("W442", message, path=str(given)))
    if not mask.any():
        raise InputError(
            "E409",
            "the brain mask is empty on the image's grid",
            "a mask of this participant's brain",
            path=given,
        )
    return Resampled(write_image(out_dir / "desc-brain_mask.nii.gz", mask, grid, dtype=np.uint8), notices)


def _iron_pair(r2star_map: Path, atlas: Atlas, labels: Image, template: Image, mask: Image) -> stages.Pair:
    """The R2* map, with what can be no tissue set to the nearest that can, against the painted template."""
    indices: dict[str, tuple[int, ...]] = {}
    for region in atlas.regions:
        indices[region.name] = indices.get(region.name, ()) + region.indices
    brain = np.asarray(mask.data) > 0.5
    painted = paint_r2star(labels.data, indices, np.asarray(template.data, np.float32), brain)
    found = _canonical(r2star_map)
    values = np.clip(
        np.nan_to_num(np.asarray(found.data, np.float32), posinf=0, neginf=0), 0, HIGHEST_R2STAR_PER_S
    )
    return stages.Pair(Image(painted, template.grid), Image(values, found.grid), 1.0)


def measure_chain(image: Path, atlas: Atlas, chain: list[Link], backward: Path) -> measures.Measures:
    """Measures of any transform between a head and the atlas' template, as the registration steps write them."""
    template, mask, moving = (_canonical(one) for one in (atlas.t1w, atlas.brain_mask, image))
    labels = _to_canonical(read_labels(atlas.labels))
    return _template_measures(
        template, mask, labels, _in_regions(labels, atlas), moving, chain, backward, atlas
    )


def _in_regions(labels: Image, atlas: Atlas) -> NDArray[np.bool_]:
    return np.isin(labels.data, [index for region in atlas.regions for index in region.indices])


def _to_template(
    path: Path,
    atlas_name: str,
    out_dir: Path,
    kind: str,
    seed: int,
    n_threads: int,
    sloppy: bool,
    r2star_map: Path | None = None,
) -> TemplateRegistration:
    threads = engine.limit_threads(n_threads)
    atlas = load_atlas(atlas_name)
    template, mask, moving = (_canonical(one) for one in (atlas.t1w, atlas.brain_mask, path))
    labels = _to_canonical(read_labels(atlas.labels))
    regions = _in_regions(labels, atlas)
    iron = None if r2star_map is None else _iron_pair(r2star_map, atlas, labels, template, mask)
    found = stages.register_focused(
        template, mask, Image(regions, labels.grid), moving, work_dir=out_dir, seed=seed, n_threads=n_threads,
        sloppy=sloppy, same_contrast=kind == "T1w", iron=iron, what=f"{kind} to {atlas.space}",
    )  # fmt: skip
    forward = write_composite(
        out_dir / f"from-{kind}_to-{atlas.space}_mode-image_xfm.h5", found.fixed_to_moving
    )
    backward = write_composite(
        out_dir / f"from-{atlas.space}_to-{kind}_mode-image_xfm.h5", found.moving_to_fixed
    )
    brain = resample.resample_values(mask, [backward], read_grid(path), fill=0.0) > 0.5
    if not brain.any():
        raise ProcessingError(
            "E407", "the registered brain mask is empty", "a brain inside the image", path=path
        )
    brain_path = write_image(
        out_dir / f"space-{kind}_brain_mask.nii.gz", brain, read_grid(path), dtype=np.uint8
    )
    thresholds = measures.T1W_TO_TEMPLATE if kind == "T1w" else measures.MEGRE_TO_TEMPLATE
    values = _template_measures(
        template, mask, labels, regions, moving, found.fixed_to_moving, backward, atlas
    )
    told, doubts = _judge(out_dir, f"{kind}_to_template", values, thresholds)
    return TemplateRegistration(
        forward, backward, brain_path, told, _kept(threads, (*found.notices, *doubts))
    )


def _template_measures(
    template: Image, mask: Image, labels: Image, regions: NDArray[np.bool_], moving: Image,
    chain: list[Link], backward: Path, atlas: Atlas,
) -> measures.Measures:  # fmt: skip
    box = stages.box_grid(labels.grid, regions, 4.0)
    coarse = stages.box_grid(template.grid, np.asarray(mask.data) > 0.5, 6.0, 2.0)
    inside = np.asarray(stages.pull(mask, [], coarse).data, np.float32) > 0.5
    low = stages.pull(moving, chain, coarse)
    determinant = jacobian_determinant(chain, box)
    moved = resample.resample_labels_array(labels, [backward], moving.grid)
    return {
        "box_similarity": measures.local_correlation(
            stages.pull(template, [], box).data,
            stages.pull(moving, chain, box).data,
            np.ones(box.shape, bool),
        ),
        "brain_similarity": measures.local_correlation(
            stages.pull(template, [], coarse).data, low.data, inside, 2
        ),
        "jacobian_min": float(determinant.min()),
        "jacobian_max": float(determinant.max()),
        **measures.scale_measures(affine_part(chain)),
        **measures.volume_measures(
            _volumes(moved, moving.grid, atlas), _volumes(np.asarray(labels.data), labels.grid, atlas)
        ),
    }


def _volumes(labels: NDArray[np.generic], grid: Grid, atlas: Atlas) -> Mapping[tuple[str, str], float]:
    counts = np.bincount(np.asarray(labels, np.int64).ravel(), minlength=1)
    return {
        (region.name, region.hemisphere): float(counts[[i for i in region.indices if i < counts.size]].sum())
        * grid.voxel_volume_mm3
        for region in atlas.regions
    }


def _judge(
    out_dir: Path, name: str, values: measures.Measures, thresholds: measures.Thresholds
) -> tuple[Path, tuple[Notice, ...]]:
    """Write the measures; a doubtful registration is told, a failed one gives no table of plausible numbers."""
    judged = measures.explain(values, thresholds)
    verdict = measures.judge_registration(values, thresholds)
    content = {"verdict": verdict, "measures": {key: float(value) for key, value in values.items()}}
    path = out_dir / f"{name}_measures.json"
    write_text_atomically(path, json.dumps(content, indent=1) + "\n")
    what = name.replace("_", " ")
    told = ", ".join(f"{measure} {value:.3g}" for measure, value, own in judged if own == verdict)
    if verdict == "fail":
        raise ProcessingError(
            "E410",
            f"the registration {what} failed its checks ({told})",
            "images of one head in a plausible place are needed",
            "look at the images: orientation, coverage, another person's T1w",
        )
    if verdict == "doubtful":
        return path, (Notice("W443", f"the registration {what} is doubtful ({told})", "look at the regions"),)
    return path, ()


def _canonical(path: Path) -> Image:
    return _to_canonical(read_image(path))


def _to_canonical(image: Image) -> Image:
    data, grid = to_canonical(image.data, image.grid)
    return replace(image, data=np.ascontiguousarray(data), grid=grid)


def _kept(threads: Notice | None, others: tuple[Notice, ...]) -> tuple[Notice, ...]:
    return others if threads is None else (threads, *others)
