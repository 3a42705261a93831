"""Statistics of the voxels of one region. Arrays only; may import nothing of r2star.

Values are sorted before they are summed, in float64, so that the result is the same to the last bit however
the voxels are ordered: an image stored flipped gives the same table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

#: From this many voxels on the binomial tail of the median's order statistics is taken from the normal.
_MANY = 1000
#: The least number of voxels whose order statistics say how precise their median is.
_LEAST_FOR_SPREAD = 5


def spread_statistics(
    values: NDArray[np.floating], weights: NDArray[np.floating] | None = None
) -> Mapping[str, float]:
    """Median, mean, SD (n − 1), interquartile range, 5th and 95th percentile of finite ``values`` (N,).

    Percentiles interpolate linearly between order statistics. NaN stands for what N is too small for. With ``weights``
    (N,), positive, value k of the sorted ones stands at Σ_{j<k} (w_j + w_{j+1})/2, and SD² is
    Σw(x − x̄)²/(Σw − Σw²/Σw): equal weights give what no weights give.

    >>> spread_statistics(np.array([3.0, 1.0, 2.0]))["median"]
    2.0
    >>> spread_statistics(np.array([3.0, 1.0, 2.0]), np.array([0.5, 0.5, 0.5]))["sd"]
    1.0
    """
    if values.size == 0:
        return dict.fromkeys(("median", "mean", "sd", "iqr", "p05", "p95"), math.nan)
    if weights is not None:
        return _weighted_statistics(values.astype(np.float64), weights.astype(np.float64))
    ordered = np.sort(values.astype(np.float64))
    n = ordered.size
    p05, p25, median, p75, p95 = (float(value) for value in np.percentile(ordered, [5, 25, 50, 75, 95]))
    mean = float(ordered.sum()) / n
    sd = math.sqrt(float(np.square(ordered - mean).sum()) / (n - 1)) if n > 1 else math.nan
    return {"median": median, "mean": mean, "sd": sd, "iqr": p75 - p25, "p05": p05, "p95": p95}


def _weighted_statistics(values: NDArray[np.float64], weights: NDArray[np.float64]) -> Mapping[str, float]:
    order = np.lexsort((weights, values))
    ordered, own = values[order], weights[order]
    places = np.concatenate([[0.0], np.cumsum((own[1:] + own[:-1]) / 2)])
    wanted = np.array([0.05, 0.25, 0.5, 0.75, 0.95]) * places[-1]
    p05, p25, median, p75, p95 = (float(value) for value in np.interp(wanted, places, ordered))
    total = float(own.sum())
    mean = float((own * ordered).sum()) / total
    freedom = total - float(np.square(own).sum()) / total
    sd = math.sqrt(float((own * np.square(ordered - mean)).sum()) / freedom) if own.size > 1 else math.nan
    return {"median": median, "mean": mean, "sd": sd, "iqr": p75 - p25, "p05": p05, "p95": p95}


def weighting_loss(weights: NDArray[np.floating] | None) -> float:
    """√(N·Σw²)/Σw: how much greater unequal weights make the standard error of N values (Kish 1965, recalled).

    >>> weighting_loss(np.array([0.5, 0.5])), weighting_loss(None)
    (1.0, 1.0)
    """
    if weights is None or not weights.size:
        return 1.0
    ordered = np.sort(weights.astype(np.float64))
    return math.sqrt(ordered.size * float(np.square(ordered).sum())) / float(ordered.sum())


def median_of(values: NDArray[np.floating]) -> float:
    """Median of the finite ones of ``values``, NaN where there are none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite.astype(np.float64))) if finite.size else math.nan


def root_mean_square(values: NDArray[np.floating]) -> float:
    """√(mean of squares) of the finite ones of ``values``, NaN where there are none."""
    squares = np.sort(np.square(values[np.isfinite(values)].astype(np.float64)))
    return math.sqrt(float(squares.sum()) / squares.size) if squares.size else math.nan


def median_stderr(values: NDArray[np.floating], stderr: NDArray[np.floating] | None = None) -> float:
    """Standard error of the median of N independent voxels: max(SE of their spread, SE of the fits' noise).

    The spread of the values holds both the noise of the fits and what differs in the tissue. Its part is
    (y_(N−c+1) − y_(c)) / 2z, with c = (N+1)/2 − √N rounded, and z the normal quantile of
    1 − P(Bin(N, ½) < c): no shape of distribution is assumed. It needs N ≥ 5 and is 5 to 25 % too great
    below some 25 voxels. The part of the noise alone takes the tissue as uniform and the standard errors s of
    the fits as they are: h·√(π / (2N + k·(π − 2))), with h the harmonic mean of s, k = 1 for odd and 2 for
    even N; it tends to the asymptotic 1/(2·Σφ(0)/s) and is exact for one and two voxels. It is the floor
    where a handful of voxels happens to agree. Noise that neighbours share (interpolated or filtered images)
    is in neither.

    Parameters
    ----------
    values
        (N,), finite, 1/s.
    stderr
        (N,), standard errors of the fits, 1/s; NaN where there is none.

    Returns
    -------
    1/s; NaN where neither part can be had.

    Notes
    -----
    Price & Bonett, J Stat Comput Simul 2001;68:295, doi:10.1080/00949650108812071 (recalled; its formula was
    compared with public code, and its result with simulations in the tests).

    >>> round(median_stderr(np.array([30.0]), np.array([2.0])), 12)
    2.0
    """
    parts = [_spread_part(values), _noise_part(stderr)]
    known = [part for part in parts if not math.isnan(part)]
    return max(known, default=math.nan)


def _spread_part(values: NDArray[np.floating]) -> float:
    n = values.size
    if n < _LEAST_FOR_SPREAD:
        return math.nan
    rank, z = _order_statistic(n)
    ordered = np.sort(values.astype(np.float64))
    return float(ordered[n - rank] - ordered[rank - 1]) / (2 * z)


@lru_cache(maxsize=4096)
def _order_statistic(n: int) -> tuple[int, float]:
    """Rank c of the order statistics around the median of n values, and how many standard errors they are off."""
    rank = round((n + 1) / 2 - math.sqrt(n))
    if n < _MANY:
        below = sum(math.comb(n, k) for k in range(rank)) / 2**n
        return rank, -NormalDist().inv_cdf(below)
    return rank, (n / 2 - rank + 0.5) / (math.sqrt(n) / 2)


def _noise_part(stderr: NDArray[np.floating] | None) -> float:
    if stderr is None:
        return math.nan
    known = np.sort(stderr[np.isfinite(stderr)].astype(np.float64))
    n = known.size
    if n == 0:
        return math.nan
    if known[0] <= 0:
        return 0.0
    harmonic = n / float((1 / known).sum())
    return harmonic * math.sqrt(math.pi / (2 * n + (2 - n % 2) * (math.pi - 2)))
