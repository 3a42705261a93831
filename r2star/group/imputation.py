"""Missing covariates by multiple imputation, and Rubin's rules. Arrays in, arrays out; may import numpy and scipy.

Outcomes are never imputed; they are predictors of the missing covariates, as they must be for the effects
not to shrink.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.group.ols import Estimate, estimate_from

Array = NDArray[Any]


def impute_chained(
    incomplete: Array,
    complete: Array,
    rng: np.random.Generator,
    *,
    n_imputations: int = 20,
    n_iterations: int = 10,
) -> Array:
    """Draw missing values by chained Bayesian linear regressions (as mice's method "norm").

    Parameters
    ----------
    incomplete
        (N, K) columns with NaN where a value is missing.
    complete
        (N, M) columns without missing values, the outcome among them; no intercept.
    rng
        Source of the draws.

    Returns
    -------
    Array
        (n_imputations, N, K) completed columns; what was there is as it was.

    Raises
    ------
    ValueError
        Where a column has too few values for its regression.

    Notes
    -----
    van Buuren & Groothuis-Oudshoorn 2011, doi:10.18637/jss.v045.i03; Rubin 1987, p. 167.
    """
    missing = ~np.isfinite(incomplete)
    columns = [k for k in range(incomplete.shape[1]) if missing[:, k].any()]
    if any((~missing[:, k]).sum() <= incomplete.shape[1] + complete.shape[1] + 1 for k in columns):
        raise ValueError("too few values to impute from")
    centre, spread = np.nanmean(incomplete, axis=0), np.nanstd(incomplete, axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    fixed = np.column_stack([np.ones(complete.shape[0]), _scaled(complete)])
    draws = np.empty((n_imputations, *incomplete.shape))
    for m in range(n_imputations):
        z = (incomplete - centre) / spread
        for k in columns:
            known = z[~missing[:, k], k]
            z[missing[:, k], k] = rng.choice(known, int(missing[:, k].sum()))
        for _ in range(n_iterations):
            for k in columns:
                predictors = np.column_stack([fixed, np.delete(z, k, axis=1)])
                z[missing[:, k], k] = _draw(predictors, z[:, k], missing[:, k], rng)
        draws[m] = np.where(missing, z * spread + centre, incomplete)
    return draws


def _scaled(columns: Array) -> Array:
    spread = columns.std(axis=0)
    return np.asarray((columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def _draw(x: Array, z: Array, missing: Array, rng: np.random.Generator) -> Array:
    """One draw of the missing values from the posterior of a linear regression with a flat prior."""
    seen = ~missing
    cross = x[seen].T @ x[seen]
    cross += 1e-5 * np.diag(np.diag(cross)) + 1e-12 * np.eye(x.shape[1])  # a ridge, so that ties do no harm
    inverse = np.linalg.inv(cross)
    beta = inverse @ (x[seen].T @ z[seen])
    residual = z[seen] - x[seen] @ beta
    sigma = np.sqrt(residual @ residual / rng.chisquare(max(seen.sum() - x.shape[1], 1)))
    factor = np.linalg.cholesky((inverse + inverse.T) / 2)
    beta = beta + sigma * factor @ rng.standard_normal(x.shape[1])
    return np.asarray(x[missing] @ beta + sigma * rng.standard_normal(int(missing.sum())))


def pool_rubin(estimates: Sequence[float], errors: Sequence[float], df_complete: float) -> Estimate:
    """Pool m estimates: Q̄, T = Ū + (1 + 1/m)·B, with the degrees of freedom of Barnard & Rubin 1999.

    doi:10.1093/biomet/86.4.948; tested against mice::pool.scalar.

    >>> round(pool_rubin([1.0, 2.0, 3.0], [0.5, 0.5, 0.5], 100).se, 6)
    1.258306
    """
    q, u = np.asarray(estimates, dtype=float), np.asarray(errors, dtype=float) ** 2
    m = q.size
    within, between = u.mean(), q.var(ddof=1) if m > 1 else 0.0
    total = within + (1 + 1 / m) * between
    share = (1 + 1 / m) * between / total if total > 0 else 0.0
    df_observed = (df_complete + 1) / (df_complete + 3) * df_complete * (1 - share)
    df_old = (m - 1) / share**2 if share > 0 else np.inf
    df = df_observed if not np.isfinite(df_old) else df_old * df_observed / (df_old + df_observed)
    return estimate_from(float(q.mean()), float(np.sqrt(total)), float(df))
