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
        How often, at most, the region loses the voxels that share a face with something else, the outside included:
        there a voxel mixes two tissues, and the registration is least certain.
    erosion_needs_voxels
        The k-th layer is lost where k³ times as many voxels of this size are expected in a hemisphere: the same
        share of the region at any size. What is expected comes from the atlas, so that a region is eroded alike
        in all participants of a protocol.
    exclude_lesions
        Leave out voxels of the lesion mask.
    outlier_mads, outlier_factor
        Leave out voxels that are both more than ``outlier_mads`` scaled median absolute deviations (1.4826 · MAD,
        each side of the median by its own) and more than ``outlier_factor`` times above or below the region's
        median, as vessels, calcification and cerebrospinal fluid are; None keeps them. A median that is not
        positive gives no outliers. The factor keeps what is rich in iron, however many such voxels there are.
    many_outliers
        A region that loses more than this fraction of its voxels as outliers is flagged.
    few_voxels
        A region with fewer valid voxels than this is flagged.
    low_coverage
        A region of which less than this fraction lies inside the field of view is flagged.

    >>> VoxelRule(erosion_voxels=1).sentence()
    'Voxels of the label, eroded by 1 voxel, with a finite R2*, outside lesions.'
    >>> VoxelRule(erosion_voxels=1, erosion_needs_voxels=400).sentence().split(", with")[0]
    'Voxels of the label, eroded by 1 voxel where the atlas expects 400 voxels or more in each hemisphere'
    >>> [VoxelRule(erosion_voxels=3, erosion_needs_voxels=400).layers(n) for n in (399, 400, 3200)]
    [0, 1, 2]
    """

    accepted_status: tuple[int, ...] | None = None
    erosion_voxels: int = 0
    erosion_needs_voxels: int = 0
    exclude_lesions: bool = True
    outlier_mads: float | None = None
    outlier_factor: float = 1.0
    many_outliers: float = 0.05
    few_voxels: int = 10
    low_coverage: float = 0.9

    def sentence(self) -> str:
        """The rule in words, as it stands in the table's sidecar."""
        parts = ["Voxels of the label"]
        if self.erosion_voxels:
            parts.append(self._erosion())
        status = "" if self.accepted_status is None else f" and fit status {_listed(self.accepted_status)}"
        parts.append(f"with a finite R2*{status}")
        if self.exclude_lesions:
            parts.append("outside lesions")
        if self.outlier_mads is not None:
            parts.append(
                f"within {self.outlier_mads:g} scaled one-sided median absolute deviations of the region's median "
                f"or within a factor of {self.outlier_factor:g} of it"
            )
        return ", ".join(parts) + "."

    def _erosion(self) -> str:
        if not self.erosion_needs_voxels:
            return f"eroded by {self.erosion_voxels} voxel{'s' if self.erosion_voxels > 1 else ''}"
        first = f"eroded by 1 voxel where the atlas expects {self.erosion_needs_voxels} voxels or more"
        more = [f"by {k} where {k**3 * self.erosion_needs_voxels}" for k in range(2, self.erosion_voxels + 1)]
        return f"{', '.join([first, *more])} in each hemisphere"

    def layers(self, expected_voxels: float) -> int:
        """How many layers a region of this size loses."""
        needs = [k**3 * self.erosion_needs_voxels for k in range(1, self.erosion_voxels + 1)]
        return sum(expected_voxels >= voxels for voxels in needs)

    def as_dict(self) -> dict[str, Any]:
        """The rule as plain JSON values."""
        return {
            "Description": self.sentence(),
            "AcceptedStatus": None if self.accepted_status is None else list(self.accepted_status),
            "ErosionVoxels": self.erosion_voxels,
            "ErosionNeedsVoxels": self.erosion_needs_voxels,
            "ExcludeLesions": self.exclude_lesions,
            "OutlierMADs": self.outlier_mads,
            "OutlierFactor": self.outlier_factor,
        }

    def accepts(
        self, r2star_per_s: NDArray[np.floating], status: NDArray[np.integer] | None
    ) -> NDArray[np.bool_]:
        """Where the estimate itself is accepted."""
        valid: NDArray[np.bool_] = np.isfinite(r2star_per_s)
        if status is not None and self.accepted_status is not None:
            valid &= np.isin(status, self.accepted_status)
        return valid

    def inliers(self, r2star_per_s: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which finite values (N,) of one region are no outliers.

        >>> rule = VoxelRule(outlier_mads=5, outlier_factor=2.5)
        >>> rule.inliers(np.array([28.0, 29, 30, 31, 32, 60, 300, 2])).tolist()
        [True, True, True, True, True, True, False, False]
        """
        everything = np.ones(r2star_per_s.shape, bool)
        if self.outlier_mads is None or not r2star_per_s.size:
            return everything
        values = r2star_per_s.astype(np.float64)
        middle = float(np.median(values))
        if middle <= 0:
            return everything
        above, below = values[values >= middle] - middle, middle - values[values <= middle]
        reach = self.outlier_mads * 1.4826
        high = max(middle + reach * float(np.median(above)), middle * self.outlier_factor)
        low = min(middle - reach * float(np.median(below)), middle / self.outlier_factor)
        return np.asarray((values >= low) & (values <= high))


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
