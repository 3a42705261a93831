"""What an R2* map looks like on the template: painted from the atlas' regions, so that iron can drive a warp."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

#: R2* of healthy adults at 3 T, 1/s: the middle of the published ranges for each region. Only the contrast
#: matters, as local correlation ignores scale and offset.
TYPICAL_R2STAR_PER_S = {
    "pallidum": 38.0, "putamen": 27.0, "caudate": 23.0, "thalamus": 20.0, "accumbens": 24.0,
    "red_nucleus": 33.0, "substantia_nigra": 34.0, "subthalamic_nucleus": 33.0,
}  # fmt: skip
TISSUE_R2STAR_PER_S = 20.0
FLUID_R2STAR_PER_S = 3.0

#: Below this share of the brain's median, a T1w template shows fluid.
_FLUID_BELOW = 0.55


def paint_r2star(
    labels: NDArray[np.generic],
    regions: Mapping[str, tuple[int, ...]],
    t1w: NDArray[np.floating],
    brain: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """R2* (1/s) on the template's grid (X, Y, Z): regions at typical values, other tissue, fluid; 0 outside.

    Regions without a typical value count as other tissue. Smoothed by half a voxel, as partial volume does.
    """
    from scipy.ndimage import gaussian_filter

    painted = np.where(brain, TISSUE_R2STAR_PER_S, 0.0)
    fluid = brain & (t1w < _FLUID_BELOW * np.median(t1w[brain]))
    painted[fluid] = FLUID_R2STAR_PER_S
    for name, indices in regions.items():
        if name in TYPICAL_R2STAR_PER_S:
            painted[np.isin(labels, indices)] = TYPICAL_R2STAR_PER_S[name]
    return np.asarray(gaussian_filter(painted, 0.5), np.float32)
