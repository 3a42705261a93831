"""MP-PCA denoising of the echoes before a fit, by dipy. Imports numpy; dipy when used (the extra ``denoise``).

Noise of a patch of voxels × echoes has a known spectrum (Marchenko–Pastur); components within it are taken out
(Veraart 2016, doi:10.1016/j.neuroimage.2016.08.016). The noise that is left is correlated between neighbours, so
standard errors of a fit of denoised data, which are about single voxels, hold for single voxels only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from r2star.errors import EnvironmentFault, InputError
from r2star.fit.decay import Decay


@dataclass(frozen=True)
class Denoised:
    """``signal`` (X, Y, Z, E) float32, not below zero, and ``sigma`` (X, Y, Z), the noise that MP-PCA saw."""

    signal: NDArray[np.float32]
    sigma: NDArray[np.float32]


def denoise_mppca(signal: ArrayLike, *, mask: ArrayLike | None = None, patch_radius: int = 2) -> Denoised:
    """Denoise magnitudes (X, Y, Z, E) in patches of (2·patch_radius + 1)³ voxels.

    Voxels outside ``mask``, and voxels with an echo that is not finite, come back as they were.

    Raises
    ------
    InputError
        A signal that is not (X, Y, Z, E), has fewer than three echoes, or is narrower than a patch.
    EnvironmentFault
        dipy is not installed.
    """
    values = np.asarray(signal, np.float32)
    width = 2 * patch_radius + 1
    if values.ndim != 4 or values.shape[-1] < 3 or min(values.shape[:3]) < width:
        found = f"a signal of shape {values.shape}"
        raise InputError("E336", found, f"(X, Y, Z, E), {width} voxels a side and three echoes at least")
    mppca = _find_mppca()
    usable: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=-1))
    if mask is not None:
        usable &= np.asarray(mask, bool)
    filled = np.where(np.isfinite(values), values, np.float32(0))
    with np.errstate(invalid="ignore"):  # it divides by zero where no patch lies, far from the mask
        cleaned, sigma = mppca(
            filled, mask=usable, patch_radius=patch_radius, return_sigma=True, suppress_warning=True
        )
    result = np.where(usable[..., None], np.maximum(cleaned, 0), values)
    return Denoised(result.astype(np.float32), np.asarray(sigma, np.float32))


def residual_change(before: Decay, after: Decay) -> float:
    """Median of the residual after over the residual before, in voxels that have one in both; NaN without any.

    Near √((E − p)/E) for an image of which p components stay: more taken away than that is signal.
    """
    both = (before.residual > 0) & np.isfinite(after.residual)
    return float(np.median(after.residual[both] / before.residual[both])) if both.any() else float("nan")


def require_dipy() -> None:
    """Refuse (E640) to start on a denoising that could not be done."""
    _find_mppca()


def _find_mppca() -> Any:
    try:
        from dipy.denoise.localpca import mppca
    except ImportError:
        raise EnvironmentFault(
            "E640", "MP-PCA denoising needs dipy, which is not installed", fix='pip install "r2star[denoise]"'
        ) from None
    return mppca
