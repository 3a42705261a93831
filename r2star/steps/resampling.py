"""Steps from file to file: labels, maps and masks on the MEGRE's own grid, one interpolation through all transforms.

May import register and images.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from r2star.atlas.labels import read_labels
from r2star.errors import Notice
from r2star.images import Image, read_grid, read_image, write_image
from r2star.register import masks, resample
from r2star.steps.canonical import canonical_image, read_canonical


class Resampled(NamedTuple):
    """An image on another grid."""

    image: Path
    notices: tuple[Notice, ...]


def resample_labels(
    labels: Path, transforms: tuple[Path, ...], like: Path, out_dir: Path, name: str = "labels"
) -> Resampled:
    """Bring labels to the grid of ``like``, in its storage order, in one interpolation through all transforms.

    ``transforms`` stand as ANTs takes them: the one next to ``like`` first.
    """
    image = read_labels(labels)
    grid = read_grid(like)
    data = resample.resample_labels_array(canonical_image(image), transforms, grid)
    return Resampled(write_image(out_dir / f"{name}.nii.gz", data, grid, dtype=np.uint16), image.notices)


def resample_map(
    image: Path, transforms: tuple[Path, ...], like: Path, out_dir: Path, name: str = "map"
) -> Resampled:
    """Bring a map to the grid of ``like``, linearly; NaN has no weight and stays NaN."""
    source = read_image(image)
    grid = read_grid(like)
    data = resample.resample_values(canonical_image(source), transforms, grid)
    return Resampled(write_image(out_dir / f"{name}.nii.gz", data, grid), source.notices)


def resample_brain_mask(
    brain_mask: Path, transforms: tuple[Path, ...], megre_reference: Path, like: Path, out_dir: Path
) -> Resampled:
    """The template's mask through ``transforms`` on the grid of ``like``, trimmed by the MEGRE at its rim."""
    source = read_canonical(brain_mask)
    reference = read_canonical(megre_reference)
    inside = resample.resample_mask(source, transforms, reference.grid)
    mask = masks.refine_brain_mask(inside, np.asarray(reference.data), reference.grid)
    grid = read_grid(like)
    stored = resample.nearest_by_world(Image(mask.astype(np.float32), reference.grid), grid)
    return Resampled(write_image(out_dir / "desc-brain_mask.nii.gz", stored > 0.5, grid, dtype=np.uint8), ())
