"""Which voxels of a region count: one stated rule. Arrays only; may import errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class VoxelRule:
    """What a voxel must be to count in the statistics of its region.

    Parameters
    ----------
    accepted_status
        Status codes of the fit that are accepted; None accepts every voxel that has a finite R2*.
    erosion_voxels
        How often the region loses the voxels that share a face with something else, the outside included:
        there a voxel mixes two tissues, and the registration is least certain.
    erosion_needs_voxels
        Regions that are expected to have fewer voxels of this size in a hemisphere are not eroded. What is
        expected comes from the atlas, so that a region is eroded in all participants of a protocol or in none.
    exclude_lesions
        Leave out voxels of the lesion mask.
    outlier_mads
        Leave out voxels farther than this many scaled median absolute deviations (1.4826 · MAD) from the
        region's median, as vessels and calcification are; None keeps them.
    few_voxels
        A region with fewer valid voxels than this is flagged.
    low_coverage
        A region of which less than this fraction lies inside the field of view is flagged.

    >>> VoxelRule(erosion_voxels=1).sentence()
    'Voxels of the label, eroded by 1 voxel, with a finite R2*, outside lesions.'
    >>> VoxelRule(erosion_voxels=1, erosion_needs_voxels=400).sentence().split(", with")[0]
    'Voxels of the label, eroded by 1 voxel where the atlas expects 400 voxels or more in each hemisphere'
    """

    accepted_status: tuple[int, ...] | None = None
    erosion_voxels: int = 0
    erosion_needs_voxels: int = 0
    exclude_lesions: bool = True
    outlier_mads: float | None = None
    few_voxels: int = 10
    low_coverage: float = 0.9

    def sentence(self) -> str:
        """The rule in words, as it stands in the table's sidecar."""
        parts = ["Voxels of the label"]
        if self.erosion_voxels:
            where = f" where the atlas expects {self.erosion_needs_voxels} voxels or more in each hemisphere"
            plural = "s" if self.erosion_voxels > 1 else ""
            parts.append(
                f"eroded by {self.erosion_voxels} voxel{plural}{where if self.erosion_needs_voxels else ''}"
            )
        status = "" if self.accepted_status is None else f" and fit status {_listed(self.accepted_status)}"
        parts.append(f"with a finite R2*{status}")
        if self.exclude_lesions:
            parts.append("outside lesions")
        if self.outlier_mads is not None:
            parts.append(
                f"within {self.outlier_mads:g} scaled median absolute deviations of the region's median"
            )
        return ", ".join(parts) + "."

    def as_dict(self) -> dict[str, Any]:
        """The rule as plain JSON values."""
        return {
            "Description": self.sentence(),
            "AcceptedStatus": None if self.accepted_status is None else list(self.accepted_status),
            "ErosionVoxels": self.erosion_voxels,
            "ErosionNeedsVoxels": self.erosion_needs_voxels,
            "ExcludeLesions": self.exclude_lesions,
            "OutlierMADs": self.outlier_mads,
        }

    def accepts(
        self, r2star_per_s: NDArray[np.floating], status: NDArray[np.integer] | None
    ) -> NDArray[np.bool_]:
        """Where the estimate itself is accepted."""
        valid: NDArray[np.bool_] = np.isfinite(r2star_per_s)
        if status is not None and self.accepted_status is not None:
            valid &= np.isin(status, self.accepted_status)
        return valid


def _listed(codes: tuple[int, ...]) -> str:
    return ", ".join(str(code) for code in codes)


def eroded(coordinates: tuple[NDArray[np.intp], ...], n_voxels: int) -> NDArray[np.bool_]:
    """Which of a region's voxels are left after ``n_voxels`` erosions by faces.

    ``coordinates`` are the region's voxels as `numpy.nonzero` gives them. A voxel at the edge of the image has a
    neighbour that is not of the region.
    """
    if not coordinates[0].size:
        return np.zeros(0, bool)
    corner = [int(axis.min()) - 1 for axis in coordinates]
    box = np.zeros([int(axis.max()) - low + 2 for axis, low in zip(coordinates, corner, strict=True)], bool)
    inside = tuple(axis - low for axis, low in zip(coordinates, corner, strict=True))
    box[inside] = True
    for _ in range(n_voxels):
        kept = box.copy()
        for axis in range(box.ndim):
            for step in (1, -1):
                kept &= np.roll(box, step, axis)  # the box has an empty shell, so nothing wraps around
        box = kept
    left: NDArray[np.bool_] = box[inside]
    return left
