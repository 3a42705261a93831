"""The noise scale σ of a multi-echo image, by a documented rule. Imports numpy; scipy and the fit when used.

The rule, in this order:

1. *Background.* In air Σ M² over the echoes follows a gamma distribution of known width, whatever σ is. Look for
   that width in the histogram of ln Σ M², from the faintest voxels up, and accept the first heap whose single
   echoes also follow the noise distribution (Rayleigh, or χ for several coils). Voxels that are zero in every
   echo were written by a mask or a defacing, not measured, and don't count. (The idea of PIESNO, Koay 2009,
   doi:10.1016/j.jmr.2009.03.005.)
2. *Residuals.* Else the median of RSS over voxels that a `nonlinear` fit describes, divided by the median of χ²
   with E − 2 degrees of freedom. What the model can't describe is in it: an upper limit.
3. Else, with two echoes, NaN: nothing in the image tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from r2star.fit.status import Status

N_SAMPLES = 400_000
LEAST_VOXELS = 500
LEAST_SHARE = 0.005  # of the voxels looked at
COVERAGE = 0.99  # of the noise distribution that the window of step 1 spans
LARGEST_MISFIT = 0.03  # largest distance of the two distribution functions (Kolmogorov)


@dataclass(frozen=True)
class NoiseEstimate:
    """σ in the signal's unit, where it comes from, and from how many voxels."""

    sigma: float
    source: Literal["background", "residuals", "given", "none"]
    n_voxels: int


def estimate_noise_sigma(
    signal: ArrayLike, echo_times_s: ArrayLike, *, mask: ArrayLike | None = None, n_coils: int = 1
) -> NoiseEstimate:
    """Estimate σ of the noise in the real part of one channel, by the rule at the head of this module.

    Parameters
    ----------
    signal
        (..., E) magnitudes of the whole image. At most `N_SAMPLES` voxels are looked at, at an even stride.
    echo_times_s
        (E,) seconds.
    mask
        (...) tissue: background is looked for outside it, residuals inside it.
    n_coils
        Channels of a root-sum-of-squares image.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> air = np.hypot(*rng.normal(0, 7.0, (2, 20_000, 5)))
    >>> tissue = np.hypot(400 + rng.normal(0, 7.0, (9_000, 5)), rng.normal(0, 7.0, (9_000, 5)))
    >>> estimate = estimate_noise_sigma(np.concatenate([air, tissue]), [0.004, 0.008, 0.012, 0.016, 0.02])
    >>> round(estimate.sigma, 1), estimate.source
    (7.0, 'background')
    """
    values = np.asarray(signal)
    shape = values.shape[:-1]
    inside = None if mask is None else np.broadcast_to(np.asarray(mask, bool), shape)
    air = _sample(values, None if inside is None else ~inside)
    sigma, n_voxels = _from_background(air, n_coils)
    if n_voxels:
        return NoiseEstimate(sigma, "background", n_voxels)
    sigma, n_voxels = _from_residuals(_sample(values, inside), echo_times_s)
    return NoiseEstimate(sigma, "residuals" if n_voxels else "none", n_voxels)


def _sample(values: NDArray[Any], where: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """(n, E) voxels at an even stride, without those that are not finite or zero in every echo."""
    n = int(np.prod(values.shape[:-1])) if where is None else int(np.count_nonzero(where))
    picked = np.arange(0, n, max(1, n // N_SAMPLES))
    if where is not None:
        picked = np.flatnonzero(where)[picked]
    voxels = np.asarray(values[np.unravel_index(picked, values.shape[:-1])], np.float64)
    return voxels[np.isfinite(voxels).all(axis=1) & (voxels > 0).any(axis=1)]


def _from_background(voxels: NDArray[np.float64], n_coils: int) -> tuple[float, int]:
    """σ of the faintest heap of voxels that is distributed as noise, and its size; (NaN, 0) where there is none."""
    from scipy.special import gammainc, gammaincinv

    n_echoes = voxels.shape[1]
    least = max(LEAST_VOXELS, int(LEAST_SHARE * len(voxels)))
    if len(voxels) < least:
        return np.nan, 0
    shape = n_coils * n_echoes  # Σ M²/2σ² is gamma distributed with this shape
    low, high = gammaincinv(shape, (1 - COVERAGE) / 2), gammaincinv(shape, (1 + COVERAGE) / 2)
    power = np.sum(voxels**2, axis=1) / 2
    order = np.argsort(power)
    power = power[order]
    starts = np.geomspace(max(power[0], power[-1] * 1e-12) / 4, power[-1], 400)
    first, last = np.searchsorted(power, starts), np.searchsorted(power, starts * high / low)
    counts = last - first
    for k in range(1, len(starts) - 1):
        if counts[k] < least or counts[k] < counts[k - 1] or counts[k] <= counts[k + 1]:
            continue
        variance = _refine(power, shape, low, high, starts[k] / low)
        chosen = order[slice(*np.searchsorted(power, (low * variance, high * variance)))]
        if len(chosen) < least:
            continue
        single = np.sort(gammainc(n_coils, voxels[chosen].ravel() ** 2 / (2 * variance)))
        misfit = np.abs(single - (np.arange(single.size) + 0.5) / single.size).max()
        if misfit < LARGEST_MISFIT:
            return float(np.sqrt(variance)), len(chosen)
    return np.nan, 0


def _refine(power: NDArray[np.float64], shape: int, low: float, high: float, variance: float) -> float:
    """σ² from the median of the powers within the window, the window following σ², until both settle."""
    from scipy.special import gammaincinv

    middle = gammaincinv(shape, 0.5)
    for _ in range(50):
        inside = power[slice(*np.searchsorted(power, (low * variance, high * variance)))]
        if inside.size == 0:
            break
        before, variance = variance, float(np.median(inside)) / middle
        if abs(variance - before) < 1e-9 * variance:
            break
    return variance


def _from_residuals(voxels: NDArray[np.float64], echo_times_s: ArrayLike) -> tuple[float, int]:
    from scipy.special import gammaincinv

    from r2star.fit.decay import fit_decay

    freedom = voxels.shape[1] - 2
    if freedom < 1 or len(voxels) == 0:
        return np.nan, 0
    decay = fit_decay(voxels, echo_times_s)
    squares = decay.residual[decay.status == Status.OK] ** 2 * freedom
    if squares.size < LEAST_VOXELS:
        return np.nan, 0
    return float(np.sqrt(np.median(squares) / (2 * gammaincinv(freedom / 2, 0.5)))), squares.size
