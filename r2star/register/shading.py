"""An image without the shading of its coil, for what compares brightness over a whole head. Numpy and scipy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from r2star.images import Image
from r2star.register.align import coarse_copy
from r2star.register.grids import pull

#: Brightness is shading over so many mm, and tissue over fewer.
SHADING_MM = 20.0
#: The 90th against the 10th percentile of brightness over those mm: heads without shading have 1.1 to 2.4.
MUCH_SHADING = 2.0
#: More of an image than this is air, in which noise is all that is bright.
_AIR_PERCENTILE = 25
_STEP_MM = 4.0


def is_shaded(image: Image) -> bool:
    """Whether one end of what an image shows is much brighter than another, as at 7 T and near surface coils."""
    _, brightness, shown, _ = _brightness(image, SHADING_MM)
    if not shown.any():
        return False
    low, high = np.percentile(brightness[shown], [10, 90])
    return bool(high > MUCH_SHADING * low)


def without_shading(image: Image, within_mm: float = SHADING_MM) -> Image:
    """An image with each voxel divided by how bright what is shown around it is: a Gaussian with SD ``within_mm``.

    Where shading is strong, mutual information matches shades and not tissue. To the divisor is added what noise in
    the air has, which would turn bright there.
    """
    low, brightness, _, floor = _brightness(image, within_mm)
    spread = pull(replace(low, data=brightness), [], image.grid).data
    # the image's rim lies outside its coarse copy
    divisor = np.where(spread > 0, spread, brightness.max()) + floor
    return replace(image, data=(np.nan_to_num(image.data) / divisor).astype(np.float32))


def _brightness(
    image: Image, within_mm: float
) -> tuple[Image, NDArray[np.float32], NDArray[np.bool_], float]:
    """A coarse copy, the mean around each of its voxels of what is brighter than air, where that is, and the air."""
    from scipy.ndimage import gaussian_filter

    low = coarse_copy(image, _STEP_MM)
    values = np.asarray(low.data)
    bright, noise = float(np.percentile(values, 99)), float(np.percentile(values, _AIR_PERCENTILE))
    shown = values > 2 * noise + 0.01 * bright
    sigma = within_mm / np.array(low.grid.voxel_size_mm)
    share = gaussian_filter(shown.astype(np.float32), sigma)
    # air has the brightness of the nearest head, and far from it nothing is brightened
    around = np.where(share > 1e-4, gaussian_filter(values * shown, sigma) / np.maximum(share, 1e-4), bright)
    return low, around, shown & (share > 0.5), max(3 * noise + 0.005 * bright, 1e-6)
