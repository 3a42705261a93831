"""Steps: masks, maps and segmentations of other programs brought to the grid of the MEGRE images.

May import register, atlas, bids, images and files. ``transforms`` bring an image of the file's own world to the
MEGRE; without any the file lies in the MEGRE's world, on whatever grid.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2star.atlas.lookup import Lookup, freesurfer_lookup, lookup_from_names, read_lookup
from r2star.bids.sidecars import write_lookup
from r2star.errors import InputError, Notice
from r2star.files import sha256_of, write_text_atomically
from r2star.images import Grid, Image, read_grid, read_image, write_image
from r2star.regions.labelled import whole_labels
from r2star.regions.sides import exchanged_sides
from r2star.steps.canonical import canonical_image
from r2star.steps.coverage import volumes_in_view

#: A segmentation without a label table is FreeSurfer's if it has this many of FreeSurfer's deep labels.
_FEWEST_FREESURFER_LABELS = 4
_GRID_TOLERANCE_MM = 0.01
#: A mask has 0, a value or a few, or numbers that count lesions; with more it is told, as percentages would be.
_MOST_MASK_VALUES = 20


class AdoptedMask(NamedTuple):
    """A mask on the MEGRE grid, and its volume on its own grid, mm³."""

    image: Path
    volume_mm3: float
    hashes: Path
    notices: tuple[Notice, ...]


class AdoptedMap(NamedTuple):
    """A map on the MEGRE grid."""

    image: Path
    hashes: Path
    notices: tuple[Notice, ...]


class AdoptedSegmentation(NamedTuple):
    """Labels on the MEGRE grid, their table, and their regions as JSON."""

    image: Path
    lookup: Path
    described: Path
    hashes: Path
    notices: tuple[Notice, ...]


def adopt_mask(
    given: Path,
    like: Path,
    out_dir: Path,
    kind: str = "brain",
    transforms: tuple[Path, ...] = (),
    others: tuple[Path, ...] = (),
) -> AdoptedMask:
    """A mask (``kind`` ``brain`` or ``lesions``): what is above 0.5, or interpolates to more than that.

    Raises
    ------
    InputError
        E409 where a brain mask is empty on the MEGRE grid, E475 where the file is no 3D mask, E478 where its values
        are those of an image.
    """
    image = _read(given)
    grid = read_grid(like)
    inside = np.nan_to_num(np.asarray(image.data, np.float64)) > 0.5
    notices = (*image.notices, *_check_mask_values(image.data, given))
    if transforms:
        mask = _moved(replace(image, data=inside.astype(np.float32)), transforms, grid, fill=0.0) > 0.5
    elif image.grid.same_as(grid, _GRID_TOLERANCE_MM):
        mask = inside
    else:
        from r2star.register.resample import nearest_by_world

        mask = nearest_by_world(Image(inside.astype(np.float32), image.grid), grid) > 0.5
        told = {
            "brain": Notice(
                "W442", "the brain mask lies on another grid: its nearest voxels were taken", path=given.name
            ),
            "lesions": Notice(
                "W469", "the lesion mask lies on another grid: its nearest voxels were taken", path=given.name
            ),
        }
        notices = (*notices, told[kind])
    if kind == "brain" and not mask.any():
        raise InputError(
            "E409",
            "the brain mask is empty on the MEGRE grid",
            "a mask of this participant's brain",
            path=given,
        )
    path = write_image(out_dir / f"desc-{kind}_mask.nii.gz", mask, grid, dtype=np.uint8)
    volume = float(np.count_nonzero(inside)) * image.grid.voxel_volume_mm3
    return AdoptedMask(path, volume, _write_hashes(out_dir, given, image, others), notices)


def _check_mask_values(data: NDArray[np.generic], given: Path) -> list[Notice]:
    """Refuse values below 0, and fractions above 1: of percentages and of brightness 0.5 is no threshold."""
    values = np.unique(data[np.isfinite(data)])
    above = values[values > 1]
    if values.size and (values[0] < 0 or (above != np.rint(above)).any()):
        raise InputError(
            "E478", f"the mask holds values from {values[0]:g} to {values[-1]:g}, as an image does",
            "0 and 1, or probabilities from 0 to 1, are needed", "binarise it", path=given,
        )  # fmt: skip
    if len(above) <= _MOST_MASK_VALUES:
        return []
    found = f"the mask holds {len(values)} values up to {values[-1]:g}; all voxels above 0.5 count"
    return [Notice("W445", found, "binarise it if these are percentages or brightness", given.name)]


def adopt_map(
    given: Path,
    like: Path,
    out_dir: Path,
    name: str,
    transforms: tuple[Path, ...] = (),
    others: tuple[Path, ...] = (),
) -> AdoptedMap:
    """A map, interpolated linearly in one step; NaN has no weight. Values are taken as they are, in their unit."""
    image = _read(given)
    grid = read_grid(like)
    same = not transforms and image.grid.same_as(grid, _GRID_TOLERANCE_MM)
    data = np.asarray(image.data) if same else _moved(image, transforms, grid)
    path = write_image(out_dir / f"{name}.nii.gz", data, grid)
    return AdoptedMap(path, _write_hashes(out_dir, given, image, others), image.notices)


def adopt_segmentation(
    given: Path,
    name: str,
    like: Path,
    out_dir: Path,
    lookup: Path | None = None,
    transforms: tuple[Path, ...] = (),
    to_source: tuple[Path, ...] = (),
    others: tuple[Path, ...] = (),
) -> AdoptedSegmentation:
    """Labels of a participant's own segmentation: ``seg-<name>_dseg`` with its table.

    Labels that are no region are left out; labels on another grid of the MEGRE's world are told (W444).
    ``to_source`` brings images of the MEGRE to the segmentation: with it the coverage of each region is counted.

    Raises
    ------
    InputError
        E461 where a value is no whole number, E475 where the file is no 3D image, E476 for a label table that can't
        be read, E477 where there is no label table and the numbers are not FreeSurfer's, or no label is there, E479
        where left and right are exchanged.
    """
    image = _read(given, labels=True)
    regions = _lookup(image, lookup, given)
    kept = np.where(np.isin(image.data, list(regions.names)), image.data, 0).astype(np.uint16)
    if not kept.any():
        raise InputError(
            "E477", "the segmentation holds none of the labels of its table", "its labels are needed",
            "check that image and label table belong together", path=given.name,
        )  # fmt: skip
    if exchanged := exchanged_sides(kept, image.grid.affine, regions.regions):
        raise InputError(
            "E479", f"left of {', '.join(exchanged[:3])} lies farther right than right",
            "left and right in their places are needed",
            "check the label table, and how the image was converted", path=given.name,
        )  # fmt: skip
    image = replace(image, data=kept)
    grid = read_grid(like)
    notices = image.notices
    if not transforms and not image.grid.same_as(grid, _GRID_TOLERANCE_MM):
        found = "the segmentation lies on another grid: its labels were taken by their place"
        notices = (*notices, Notice("W444", found, path=given.name))
    path = write_image(
        out_dir / f"seg-{name}_dseg.nii.gz", _labels_on(image, transforms, grid), grid, dtype=np.uint16
    )
    table = write_lookup(
        out_dir / f"seg-{name}_dseg.tsv", [{"index": i, "name": label} for i, label in regions.names.items()]
    )
    volumes = volumes_in_view(image, to_source, grid)
    told = {
        "name": name,
        "regions": [[one.name, one.hemisphere, list(one.indices)] for one in regions.regions],
        "expected_mm3": volumes.expected_mm3,
        "inside_mm3": volumes.inside_mm3,
    }
    described = write_text_atomically(out_dir / "regions.json", json.dumps(told) + "\n")
    return AdoptedSegmentation(path, table, described, _write_hashes(out_dir, given, image, others), notices)


def _lookup(image: Image, lookup: Path | None, given: Path) -> Lookup:
    if lookup is not None:
        return lookup_from_names(read_lookup(lookup))
    builtin = freesurfer_lookup()
    deep = [index for one in builtin.regions[:-2] for index in one.indices]
    if np.isin(deep, np.unique(image.data)).sum() < _FEWEST_FREESURFER_LABELS:
        raise InputError(
            "E477", "the segmentation has no label table, and its labels are not FreeSurfer's",
            "a table with index and name is needed", f"add {given.name.partition('.')[0]}.tsv", path=given.name,
        )  # fmt: skip
    return builtin


def _read(path: Path, *, labels: bool = False) -> Image:
    """A 3D image; a fourth dimension of one is dropped."""
    image = read_image(path, dtype=np.float64 if labels else np.float32)
    data = image.data[..., 0] if image.data.ndim == 4 and image.data.shape[3] == 1 else image.data
    if data.ndim != 3:
        shape = "×".join(map(str, data.shape))
        raise InputError("E475", f"the image has shape {shape}", "one 3D image is needed", path=path.name)
    if not labels:
        return replace(image, data=data)
    try:
        whole = whole_labels(np.nan_to_num(data))
    except InputError as error:
        error.path = path.name
        raise
    if whole.min() < 0 or whole.max() > np.iinfo(np.uint16).max:
        raise InputError("E461", "a label is below 0 or above 65535", "0 to 65535 are labels", path=path.name)
    return replace(image, data=whole.astype(np.uint16))


def _moved(image: Image, transforms: Sequence[Path], grid: Grid, fill: float = np.nan) -> NDArray[np.float32]:
    from r2star.register.resample import resample_values

    return resample_values(canonical_image(image), transforms, grid, fill=fill)


def _labels_on(image: Image, transforms: Sequence[Path], grid: Grid) -> NDArray[np.generic]:
    if not transforms and image.grid.same_as(grid, _GRID_TOLERANCE_MM):
        return np.asarray(image.data)
    from r2star.register.resample import resample_labels_array

    return resample_labels_array(canonical_image(image), transforms, grid)


def _write_hashes(out_dir: Path, given: Path, image: Image, others: Sequence[Path]) -> Path:
    """SHA-256 of everything that was read, as `check_inputs` gives it."""
    hashes = {str(given): image.sha256} | {str(path): sha256_of(path) for path in others}
    text = json.dumps(hashes, indent=1, sort_keys=True) + "\n"
    return write_text_atomically(out_dir / "hashes.json", text)
