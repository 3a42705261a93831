"""A linear mixed model with one random intercept, by restricted maximum likelihood. May import numpy and scipy.

Written here because the library at hand returns fixed effects of exactly 0, and says that it converged,
when the variance of the intercept goes to 0 (statsmodels issue 10239). With one intercept the likelihood is a
function of one number, the variance ratio, whose limit at 0 is ordinary least squares: that limit is
taken, and told by ``singular``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.group.ols import Estimate, estimate_from

Array = NDArray[Any]

#: Variance ratios (intercept : residual) between which the optimum is sought, beside exactly 0.
_RATIO_RANGE = (1e-6, 1e6)


@dataclass(frozen=True)
class MixedFit:
    """β̂ (P,), its covariance, the variances, and whether the intercept's variance is 0 (``singular``)."""

    beta: Array
    covariance: Array
    residual_variance: float
    intercept_variance: float
    singular: bool
    n_groups: int
    _moments: _Moments

    def estimate(self, weights: Array) -> Estimate:
        """c·β̂ with Satterthwaite's degrees of freedom (residual ones where the fit is singular)."""
        se = float(np.sqrt(weights @ self.covariance @ weights))
        return estimate_from(float(weights @ self.beta), se, self._degrees_of_freedom(weights))

    def _degrees_of_freedom(self, weights: Array) -> float:
        m, p = self._moments, self.beta.size
        if self.singular:
            return m.n - p
        gradient, information = m.satterthwaite(
            weights, self.covariance, self.residual_variance, self.intercept_variance
        )
        variance_of_variance = gradient @ np.linalg.solve(information, gradient)
        variance = weights @ self.covariance @ weights
        return float(np.clip(2 * variance**2 / variance_of_variance, 1.0, m.n - p))


def fit_random_intercept(matrix: Array, outcome: Array, groups: Array) -> MixedFit:
    """Fit y = Xβ + b[group] + ε, b ~ N(0, τ²), ε ~ N(0, σ²), by REML.

    Parameters
    ----------
    matrix
        (N, P) design of full rank.
    outcome
        (N,) finite values.
    groups
        (N,) labels: participants of repeated measures, or sites.

    Raises
    ------
    ValueError
        With no residual degree of freedom, or with a group for every row.

    Notes
    -----
    Profiled REML of Bates et al. 2015, doi:10.18637/jss.v067.i01; the numbers are tested against R's
    lme4. Degrees of freedom by Satterthwaite with the expected information of the variances (Giesbrecht &
    Burns 1985, recalled).
    """
    from scipy import optimize

    n, p = matrix.shape
    moments = _Moments.of(matrix, outcome, groups)
    if n <= p or moments.sizes.size == n:
        raise ValueError("a random intercept needs residual degrees of freedom and repeated groups")
    low, high = np.log(_RATIO_RANGE)
    grid = np.linspace(low, high, 57)
    values = [moments.criterion(np.exp(x)) for x in grid]
    best = int(np.argmin(values))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)])
    found = optimize.minimize_scalar(
        lambda x: moments.criterion(np.exp(x)), bounds=bounds, method="bounded", options={"xatol": 1e-10}
    )
    ratio = float(np.exp(found.x))
    singular = best == 0 or moments.criterion(0.0) <= found.fun + 1e-9
    ratio = 0.0 if singular else ratio
    beta, covariance_unit, rss = moments.solve(ratio)
    residual_variance = rss / (n - p)
    return MixedFit(
        beta, covariance_unit * residual_variance, residual_variance, ratio * residual_variance, singular,
        moments.sizes.size, moments,
    )  # fmt: skip


@dataclass(frozen=True)
class _Moments:
    """Cross products within groups, and √n_g times the group means: all that the likelihood needs."""

    n: int
    sizes: Array  # (G,)
    within: Array  # (P + 1, P + 1) of [X | y], deviations from group means
    between: Array  # (G, P + 1) of [X | y]

    @classmethod
    def of(cls, matrix: Array, outcome: Array, groups: Array) -> _Moments:
        both = np.column_stack([matrix, outcome])
        _, index, sizes = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
        sums = np.zeros((sizes.size, both.shape[1]))
        np.add.at(sums, index, both)
        deviations = both - (sums / sizes[:, None])[index]
        return cls(
            both.shape[0], sizes.astype(float), deviations.T @ deviations, sums / np.sqrt(sizes)[:, None]
        )

    def products(self, ratio: float) -> Array:
        """[X | y]ᵀ V⁻¹ [X | y]·σ², with V/σ² = I + ratio·ZZᵀ."""
        scaled = self.between / np.sqrt(1 + ratio * self.sizes)[:, None]
        return np.asarray(self.within + scaled.T @ scaled)

    def solve(self, ratio: float) -> tuple[Array, Array, float]:
        """β̂, (XᵀV⁻¹X)⁻¹/σ² and the residual sum of squares."""
        products = self.products(ratio)
        cross, right = products[:-1, :-1], products[:-1, -1]
        beta = np.linalg.solve(cross, right)
        return beta, np.linalg.inv(cross), float(products[-1, -1] - right @ beta)

    def criterion(self, ratio: float) -> float:
        """−2 log REML likelihood, up to a constant: log|V| + log|XᵀV⁻¹X| + (N − P) log RSS."""
        products = self.products(ratio)
        _, _, rss = self.solve(ratio)
        p = products.shape[0] - 1
        logdet = float(np.linalg.slogdet(products[:-1, :-1])[1])
        return float(np.log1p(ratio * self.sizes).sum() + logdet + (self.n - p) * np.log(max(rss, 1e-300)))

    def satterthwaite(
        self, weights: Array, covariance: Array, sigma2: float, tau2: float
    ) -> tuple[Array, Array]:
        """Gradient of the contrast's variance in (τ², σ²), and the expected information of (τ², σ²)."""
        x, shrunk = self.between[:, :-1], 1 + tau2 / sigma2 * self.sizes
        within = self.within[:-1, :-1]

        def between(power: int, of_size: int) -> Array:
            return np.asarray((x * (self.sizes**of_size / shrunk**power)[:, None]).T @ x)

        first = [between(2, 1) / sigma2**2, (within + between(2, 0)) / sigma2**2]
        gradient = np.array([weights @ covariance @ each @ covariance @ weights for each in first])
        information = np.zeros((2, 2))
        for k in range(2):
            for m in range(2):
                sizes = (k == 0) + (m == 0)
                second = (between(3, sizes) + (within if k == m == 1 else 0)) / sigma2**3
                trace = (self.sizes**sizes / shrunk**2).sum() + (
                    self.n - self.sizes.size if k == m == 1 else 0
                )
                information[k, m] = 0.5 * (
                    trace / sigma2**2
                    - 2 * np.trace(covariance @ second)
                    + np.trace(covariance @ first[k] @ covariance @ first[m])
                )
        return gradient, information
