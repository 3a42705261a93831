"""Site harmonisation by ComBat: empirical-Bayes location and scale. Arrays in, arrays out; may import numpy only.

Written here because the packages at hand are unmaintained; tested against R's sva::ComBat. With a handful
of regions the prior that the regions share is weak, and the harmonised values are treated as data
afterwards, which makes errors a little too small: a sensitivity analysis, never the main one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def harmonise_sites(values: Array, sites: Array, kept: Array) -> Array:
    """Remove the offset and scale of each site from several outcomes at once.

    Parameters
    ----------
    values
        (N, F) outcomes (regions), finite.
    sites
        (N,) labels; each site needs two rows or more.
    kept
        (N, K) covariates whose effects stay (age, group, ...), without an intercept.

    Returns
    -------
    Array
        (N, F) harmonised outcomes, in the same units.

    Raises
    ------
    ValueError
        With fewer than two sites, or a site of one row.

    Notes
    -----
    Johnson, Li & Rabinovic 2007, doi:10.1093/biostatistics/kxj037; for MRI Fortin et al. 2018,
    doi:10.1016/j.neuroimage.2017.11.024.
    """
    labels, index, sizes = np.unique(sites.astype(str), return_inverse=True, return_counts=True)
    if labels.size < 2 or sizes.min() < 2:
        raise ValueError("ComBat needs two sites or more, with two rows or more each")
    n = values.shape[0]
    batches = np.eye(labels.size)[index]
    coefficients = np.linalg.lstsq(np.column_stack([batches, kept]), values, rcond=None)[0]
    grand_mean = sizes / n @ coefficients[: labels.size]
    residual = values - np.column_stack([batches, kept]) @ coefficients
    pooled_sd = np.sqrt((residual**2).mean(axis=0))
    expected = grand_mean + kept @ coefficients[labels.size :]
    standard = (values - expected) / pooled_sd
    for k in range(labels.size):
        rows = index == k
        location, scale = _posterior(standard[rows])
        standard[rows] = (standard[rows] - location) / np.sqrt(scale)
    return np.asarray(standard * pooled_sd + expected)


def _posterior(z: Array) -> tuple[Array, Array]:
    """A site's location and variance for each outcome, drawn towards what the outcomes share."""
    n = z.shape[0]
    location, variance = z.mean(axis=0), z.var(axis=0, ddof=1)
    prior_mean, prior_variance = location.mean(), location.var(ddof=1) if location.size > 1 else np.inf
    m, s2 = variance.mean(), variance.var(ddof=1) if variance.size > 1 else np.inf
    if not np.isfinite(prior_variance) or not s2 > 0 or not prior_variance > 0:
        return location, variance
    shape, rate = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    new_location, new_variance = location, variance
    for _ in range(1000):
        old = new_location, new_variance
        new_location = (prior_variance * n * location + new_variance * prior_mean) / (
            prior_variance * n + new_variance
        )
        squares = ((z - new_location) ** 2).sum(axis=0)
        new_variance = (rate + squares / 2) / (n / 2 + shape - 1)
        change = max(np.max(np.abs(a - b) / np.abs(b)) for a, b in zip((new_location, new_variance), old))
        if change < 1e-10:
            break
    return new_location, new_variance
