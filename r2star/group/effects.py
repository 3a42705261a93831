"""Effect sizes and collinearity of a linear fit. Arrays in, numbers out; may import numpy and scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.group.ols import LinearFit, estimate_contrast

Array = NDArray[Any]


def partial_r(fit: LinearFit, weights: Array) -> float:
    """Correlation with all other columns held, t/√(t² + df) with the classical t (Cohen 2003).

    >>> from r2star.group.ols import fit_ols
    >>> x = np.array([0.0, 1, 2, 3, 4]); y = np.array([0.0, 2, 1, 4, 3])
    >>> fit = fit_ols(np.column_stack([np.ones(5), x]), y)
    >>> bool(np.isclose(partial_r(fit, np.array([0.0, 1])), np.corrcoef(x, y)[0, 1]))
    True
    """
    t = estimate_contrast(fit, weights, robust=False).statistic
    return float(t / np.sqrt(t * t + fit.df))


def standardised_beta(fit: LinearFit, column: int, active: Array) -> float:
    """β·SD(x)/SD(y), both over the rows that the covariate applies to (``active``): patients for a score."""
    x, y = fit.matrix[active, column], fit.outcome[active]
    spread = float(y.std(ddof=1))
    return float(fit.beta[column] * x.std(ddof=1) / spread) if spread > 0 else float("nan")


def hedges_g(fit: LinearFit, weights: Array, n_first: int, n_second: int) -> tuple[float, float, float]:
    """Adjusted group difference in residual SD, g = J·cβ̂/σ̂, and its 95 % interval.

    J = 1 − 3/(4·df − 1). The standard error √(c(XᵀX)⁻¹cᵀ + d²/(2·df)) is without covariates the usual
    √(1/n₁ + 1/n₂ + d²/(2·df)). NaN where a group is empty. Hedges 1981, doi:10.3102/10769986006002107
    (recalled).
    """
    if not n_first or not n_second or fit.sigma == 0:
        return (float("nan"),) * 3
    d = float(weights @ fit.beta) / fit.sigma
    unit_variance = float(weights @ fit.classical @ weights) / fit.sigma**2
    small_sample = 1 - 3 / (4 * fit.df - 1)
    reach = 1.959963984540054 * np.sqrt(unit_variance + d * d / (2 * fit.df))
    return small_sample * d, float(small_sample * (d - reach)), float(small_sample * (d + reach))


def variance_inflation(matrix: Array, columns: list[int]) -> float:
    """Generalised variance inflation factor of columns, det R₁·det R₂/det R; one column gives the VIF.

    The first column of the design is the intercept and takes no part. Fox & Monette 1992,
    doi:10.1080/01621459.1992.10475190 (recalled; tested against R's car::vif).

    >>> x = np.array([[1.0, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]])
    >>> round(variance_inflation(x, [1]), 12)
    1.0
    """
    others = [k for k in range(1, matrix.shape[1]) if k not in columns]
    kept = [k for k in columns if k > 0]
    if not kept or not others:
        return float("nan")
    correlation = np.corrcoef(matrix[:, 1:], rowvar=False)
    inside, outside = ([k - 1 for k in each] for each in (kept, others))
    whole = np.linalg.slogdet(correlation)
    parts = [np.linalg.slogdet(correlation[np.ix_(each, each)]) for each in (inside, outside)]
    return float(np.exp(parts[0].logabsdet + parts[1].logabsdet - whole.logabsdet))
