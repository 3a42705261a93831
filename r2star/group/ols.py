"""Ordinary least squares with heteroscedasticity-consistent (HC3) errors, and what may be read off one fit.

Arrays in, arrays out; may import numpy, and scipy inside functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: A singular value below this share of the largest one makes a design rank deficient (columns scaled to
#: length 1).
RANK_TOLERANCE = 1e-9


@dataclass(frozen=True)
class LinearFit:
    """β̂ (P,), its covariance (P, P) and the pieces that influence and effect sizes need.

    ``covariance`` is HC3, ``classical`` σ̂²(XᵀX)⁻¹; ``weights`` (P, N) is (XᵀX)⁻¹Xᵀ, so β̂ = weights @ y;
    ``leverage`` (N,) the diagonal of the hat matrix; ``df`` = N − P.
    """

    matrix: Array
    outcome: Array
    beta: Array
    covariance: Array
    classical: Array
    residuals: Array
    leverage: Array
    weights: Array
    df: int

    @property
    def sigma(self) -> float:
        """Residual standard deviation, √(RSS/(N − P))."""
        return float(np.sqrt(self.residuals @ self.residuals / self.df))


@dataclass(frozen=True)
class Estimate:
    """One number with its uncertainty: t, two-sided p and a 95 % interval on ``df`` degrees of freedom."""

    estimate: float
    se: float
    df: float
    statistic: float
    p: float
    ci_low: float
    ci_high: float


def fit_ols(matrix: Array, outcome: Array) -> LinearFit:
    """Fit y = Xβ + ε; Cov(β̂) = (XᵀX)⁻¹ Xᵀ diag(e²/(1−h)²) X (XᵀX)⁻¹ (HC3).

    Parameters
    ----------
    matrix
        (N, P) design of full rank; see `rank_deficient`.
    outcome
        (N,) finite values.

    Raises
    ------
    ValueError
        With no residual degree of freedom.

    Notes
    -----
    HC3: MacKinnon & White 1985, doi:10.1016/0304-4076(85)90158-7; recommended for n < 250 by Long & Ervin
    2000, doi:10.1080/00031305.2000.10474549 (both recalled; the numbers are tested against R's
    sandwich::vcovHC). A row of leverage 1 fits itself exactly and has no say in the variance.

    >>> x = np.column_stack([np.ones(4), [0.0, 1, 2, 3]])
    >>> np.round(fit_ols(x, np.array([1.0, 3, 5, 7])).beta, 12).tolist()
    [1.0, 2.0]
    """
    n, p = matrix.shape
    if n <= p:
        raise ValueError(f"{n} rows can't carry {p} coefficients")
    q, r = np.linalg.qr(matrix)
    inverse_r = np.linalg.solve(r, np.eye(p))
    weights = inverse_r @ q.T
    beta = weights @ outcome
    residuals = outcome - matrix @ beta
    leverage = np.einsum("ij,ij->i", q, q)
    rest = 1.0 - leverage
    scaled = np.where(rest > 1e-10, residuals / np.where(rest > 1e-10, rest, 1.0), 0.0)
    meat = weights * scaled
    classical = inverse_r @ inverse_r.T * (residuals @ residuals / (n - p))
    return LinearFit(matrix, outcome, beta, meat @ meat.T, classical, residuals, leverage, weights, n - p)


def rank_deficient(matrix: Array) -> Array:
    """(P,) True for each column that can't be told from the columns before it.

    >>> rank_deficient(np.array([[1.0, 2, 2], [1, 3, 3], [1, 4, 4]])).tolist()
    [False, False, True]
    """
    length = np.linalg.norm(matrix, axis=0)
    r = np.asarray(np.linalg.qr(matrix / np.where(length > 0, length, 1.0), mode="r"))
    # a column that adds nothing new leaves nothing on the diagonal of R
    diagonal = np.zeros(matrix.shape[1])
    diagonal[: min(r.shape)] = np.abs(np.diag(r))
    return np.asarray(diagonal < RANK_TOLERANCE)


def estimate_contrast(fit: LinearFit, weights: Array, *, robust: bool = True) -> Estimate:
    """c·β̂ with its standard error √(cᵀ Cov c), from HC3 or from the classical covariance."""
    covariance = fit.covariance if robust else fit.classical
    variance = float(weights @ covariance @ weights)
    return estimate_from(float(weights @ fit.beta), float(np.sqrt(max(variance, 0.0))), fit.df)


def estimate_from(estimate: float, se: float, df: float) -> Estimate:
    """Give t = estimate/se with its p and 95 % interval; a zero or missing se gives NaN."""
    from scipy import special

    if not np.isfinite(se) or se <= 0 or not df > 0:
        return Estimate(estimate, np.nan, df, np.nan, np.nan, np.nan, np.nan)
    statistic = estimate / se
    p = 2 * special.stdtr(df, -abs(statistic))
    reach = special.stdtrit(df, 0.975) * se
    return Estimate(estimate, se, df, statistic, float(p), float(estimate - reach), float(estimate + reach))


def wald_f(fit: LinearFit, indices: list[int]) -> tuple[float, float]:
    """F = βₖᵀ Cov⁻¹ βₖ / k that several coefficients are all 0, and its p on (k, N − P); HC3."""
    from scipy import special

    beta, covariance = fit.beta[indices], fit.covariance[np.ix_(indices, indices)]
    statistic = float(beta @ np.linalg.solve(covariance, beta) / len(indices))
    return statistic, float(special.fdtrc(len(indices), fit.df, max(statistic, 0.0)))


def leave_one_out(fit: LinearFit, weights: Array) -> Array:
    """(N,) the contrast without each row in turn: cβ̂ − c(XᵀX)⁻¹xᵢ eᵢ/(1 − hᵢ) (Cook & Weisberg 1982)."""
    rest = 1.0 - fit.leverage
    change = (weights @ fit.weights) * fit.residuals / np.where(rest > 1e-10, rest, np.nan)
    return np.asarray(weights @ fit.beta - change)
