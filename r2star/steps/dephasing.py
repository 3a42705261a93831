"""What the sidecars and the grid tell of how voxels dephase, and whether they were interpolated. Reads no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from r2star.field import DephasingModel, choose_dephasing
from r2star.images import Grid


def dephasing_of(sidecar: Mapping[str, Any], grid: Grid) -> DephasingModel:
    """How voxels dephase, by what the sidecar says; slices lie along the third axis unless it tells."""
    direction = str(sidecar.get("SliceEncodingDirection") or "k").lower()[:1]
    thickness = sidecar.get("SliceThickness")
    plain = isinstance(thickness, int | float) and not isinstance(thickness, bool)
    kind = sidecar.get("MRAcquisitionType")
    model = choose_dephasing(
        kind if isinstance(kind, str) else None,
        float(thickness) if plain and thickness is not None else None,
        grid.voxel_size_mm,
        "ijk".index(direction) if direction in "ijk" else 2,
    )
    axis = int(np.argmax(model.lengths_mm))
    if model.kind == "slice" and not 0.2 < model.lengths_mm[axis] / grid.voxel_size_mm[axis] < 2.5:
        thick, apart = model.lengths_mm[axis], grid.voxel_size_mm[axis]
        reason = f"SliceThickness {thick:g} mm does not fit slices that lie {apart:.3g} mm apart"
        return replace(model, kind="none", lengths_mm=(0.0, 0.0, 0.0), reason=reason)
    return model


def interpolation(sidecar: Mapping[str, Any], voxel_size_mm: Sequence[float]) -> str:
    """What the sidecar tells of voxels stored finer than they were acquired, in words; empty where nothing.

    Known are ``AcquisitionVoxelSize`` of BIDS, the matrices that dcm2niix writes, and slices thicker than apart.

    >>> interpolation({"AcquisitionMatrixPE": 192, "ReconMatrixPE": 384}, (0.5, 0.5, 2.0))
    'the images were interpolated from 192 to 384 phase encoding steps'
    """
    acquired = _numbers(sidecar.get("AcquisitionVoxelSize"), 3)
    if acquired and any(a > 1.05 * v for a, v in zip(sorted(acquired), sorted(voxel_size_mm))):
        return f"the images were interpolated from voxels of {'×'.join(f'{size:g}' for size in acquired)} mm"
    matrices = _numbers([sidecar.get("AcquisitionMatrixPE"), sidecar.get("ReconMatrixPE")], 2)
    if matrices and matrices[0] < 0.95 * matrices[1]:
        return f"the images were interpolated from {matrices[0]:g} to {matrices[1]:g} phase encoding steps"
    thickness = _numbers([sidecar.get("SliceThickness")], 1)
    if thickness and thickness[0] > 1.05 * max(voxel_size_mm):
        return f"the images were interpolated from slices of {thickness[0]:g} mm"
    return ""


def _numbers(values: object, count: int) -> list[float]:
    """The numbers of a list of so many, none of anything else."""
    given = values if isinstance(values, list) else []
    numbers = [float(one) for one in given if isinstance(one, int | float) and not isinstance(one, bool)]
    return numbers if len(numbers) == len(given) == count else []
