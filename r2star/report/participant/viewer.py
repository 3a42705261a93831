"""The volumes of the interactive viewer: R2* and labels, small, inside the page. May import nibabel (late)."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.report.facts import UnitFacts, Volumes, in_prose
from r2star.report.participant.maps import top_of_scale
from r2star.report.pictures import colour_of

#: R2* is stored in steps of this share of the top of the colour scale; 255 steps reach four times as high.
STEPS = 64


def make(unit: UnitFacts) -> dict[str, Any] | None:
    """NIfTI volumes in base64 with the names and colours of the labels."""
    if unit.volumes is None:
        return None
    volumes = _thinned(unit.volumes, unit.max_viewer_voxels)
    top = top_of_scale(unit)
    step = top / STEPS
    stored = np.clip(np.rint(np.nan_to_num(volumes.maps["r2star"]) / step), 0, 255).astype(np.uint8)
    order = {region.index: k for k, region in enumerate(unit.regions, start=1)}
    labels = np.zeros(volumes.labels.shape, np.uint8)
    for index, place in order.items():
        labels[volumes.labels == index] = place
    colours = colour_of(unit.regions)
    sides = {"L": "left", "R": "right"}
    names = [f"{in_prose(region.name)}, {sides[region.hemisphere]}" for region in unit.regions]
    return {
        "r2star": as_nifti(stored, volumes.affine, step),
        "labels": as_nifti(labels, volumes.affine, 1.0) if unit.regions else "",
        "names": names,
        "colours": [colours[region.name] for region in unit.regions],
        "top": round(top),
        "start": _start(volumes),
    }


def _start(volumes: Volumes) -> list[float]:
    """World position where the viewer opens: the middle of the labels, else of the brain."""
    where = volumes.labels > 0 if np.any(volumes.labels > 0) else volumes.brain
    middle = np.argwhere(where).mean(axis=0) if where.any() else np.zeros(3)
    return [round(float(value), 1) for value in volumes.affine[:3, :3] @ middle + volumes.affine[:3, 3]]


def _thinned(volumes: Volumes, most: int) -> Volumes:
    """Every second voxel of each axis until the page has room for them."""
    step = 1
    while volumes.brain.size / step**3 > most:
        step += 1
    if step == 1:
        return volumes
    thin = (slice(None, None, step),) * 3
    affine = volumes.affine.copy()
    affine[:3, :3] *= step
    maps = {"r2star": volumes.maps["r2star"][thin]}
    size = tuple(step * one for one in volumes.voxel_size_mm)
    return Volumes(maps, volumes.labels[thin], volumes.brain[thin], affine, size)  # type: ignore[arg-type]


def as_nifti(values: NDArray[np.uint8], affine: NDArray[Any], slope: float) -> str:
    """A gzipped NIfTI in base64; equal values give equal text."""
    import nibabel as nib

    image = nib.Nifti1Image(values, affine)
    image.header.set_slope_inter(slope, 0)
    return base64.b64encode(gzip.compress(image.to_bytes(), 9, mtime=0)).decode()
