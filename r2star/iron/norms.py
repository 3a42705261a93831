"""Norms of age: the expected value and its spread, from healthy controls. Arrays in, arrays out; imports numpy, errors.

The spread may grow with age, SD(a) = exp(α + β·(a − centre)) with β ≥ 0 (it does in healthy adults: Treit
2021). A z-score says how far someone is from controls of the same age; past the controls' ages it is an
extrapolation and flagged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.errors import UsageError

Array = NDArray[Any]


@dataclass(frozen=True)
class NormFit:
    """A mean Xβ and an SD that grows with age, fitted to controls.

    ``covariance`` is that of β; ``studentised`` (N,) the z-scores of the controls themselves, each by a
    fit that its own weight in the mean is allowed for; ``sd_grows`` False where β would have been
    negative and was held at 0.
    """

    beta: Array
    covariance: Array
    log_sd: tuple[float, float]
    centre_years: float
    age_range_years: tuple[float, float]
    studentised: Array
    sd_grows: bool

    def sd(self, age_years: Array) -> Array:
        """SD of healthy people of an age."""
        return np.asarray(
            np.exp(self.log_sd[0] + self.log_sd[1] * (np.asarray(age_years) - self.centre_years))
        )

    def z(self, outcome: Array, matrix: Array, age_years: Array) -> Array:
        """Z = (y − Xβ)/√(SD² + var Xβ) of people who were not among the controls."""
        variance_of_mean = np.einsum("ij,jk,ik->i", matrix, self.covariance, matrix)
        return np.asarray(
            (outcome - matrix @ self.beta) / np.sqrt(self.sd(age_years) ** 2 + variance_of_mean)
        )

    def extrapolates(self, age_years: Array) -> Array:
        """True outside the controls' ages."""
        return np.asarray((age_years < self.age_range_years[0]) | (age_years > self.age_range_years[1]))


def fit_norm(matrix: Array, outcome: Array, age_years: Array) -> NormFit:
    """Fit mean and spread to controls by alternating weighted least squares and a gamma fit of e²/(1 − h).

    Parameters
    ----------
    matrix
        (N, P) design of full rank (age spline, sex, site).
    outcome, age_years
        (N,) finite values.

    Raises
    ------
    ValueError
        With fewer than five residual degrees of freedom.

    Notes
    -----
    Dividing squared residuals by 1 − h takes out the shrinkage that the fitted mean causes, as REML does (Smyth 2002,
    doi:10.1198/106186002871, recalled).
    """
    n, p = matrix.shape
    if n - p < 5:
        raise ValueError(f"{n} controls can't carry a norm of {p} coefficients")
    centre = float(age_years.mean())
    a = age_years - centre
    log_sd, grows = (float(np.log(outcome.std(ddof=1))), 0.0), True
    for _ in range(100):
        sd = np.exp(log_sd[0] + log_sd[1] * a)
        q, r = np.linalg.qr(matrix / sd[:, None])
        beta = np.linalg.solve(r, q.T @ (outcome / sd))
        leverage = np.minimum(np.einsum("ij,ij->i", q, q), 1 - 1e-9)
        residual = outcome - matrix @ beta
        new, grows = _fit_log_sd(residual**2 / (1 - leverage), a)
        change = max(abs(new[0] - log_sd[0]), abs(new[1] - log_sd[1]) * float(np.ptp(a)))
        log_sd = new
        if change < 1e-10:
            break
    sd = np.exp(log_sd[0] + log_sd[1] * a)
    inverse = np.linalg.inv(r)
    return NormFit(
        beta, inverse @ inverse.T, log_sd, centre, (float(age_years.min()), float(age_years.max())),
        residual / (sd * np.sqrt(1 - leverage)), grows,
    )  # fmt: skip


def _fit_log_sd(squares: Array, a: Array) -> tuple[tuple[float, float], bool]:
    """Maximum likelihood of squares ~ SD(a)²·χ²₁ with log SD = α + β·a, by Newton's steps; β held at 0 if negative."""
    alpha, slope = 0.5 * float(np.log(squares.mean())), 0.0
    for _ in range(50):
        ratio = squares / np.exp(2 * (alpha + slope * a))
        gradient = np.array([(ratio - 1).sum(), ((ratio - 1) * a).sum()])
        # the expected information: always positive, so that each step goes uphill
        information = 2 * np.array([[a.size, a.sum()], [a.sum(), (a * a).sum()]])
        step = np.linalg.solve(information, gradient)
        alpha, slope = alpha + float(step[0]), slope + float(step[1])
        if np.abs(step).max() < 1e-12:
            break
    if slope >= 0:
        return (alpha, slope), True
    return (0.5 * float(np.log(squares.mean())), 0.0), False


@dataclass(frozen=True)
class NormCurve:
    """A norm from a file: the mean by age of one region, its SD, and the ages in which it holds.

    ``kind`` is ``saturating``: limit·(1 − exp(−rate·age)) + start, or ``table``: linear between ages and values.
    """

    region: str
    kind: str
    parameters: Mapping[str, Any]
    log_sd: tuple[float, float]
    centre_years: float
    age_range_years: tuple[float, float]

    def mean(self, age_years: Array) -> Array:
        """Expected value by age."""
        age = np.asarray(age_years, dtype=float)
        p = self.parameters
        if self.kind == "saturating":
            return np.asarray(p["limit"] * -np.expm1(-p["rate_per_year"] * age) + p["start"])
        return np.asarray(np.interp(age, p["ages_years"], p["values"]))

    def sd(self, age_years: Array) -> Array:
        """SD by age, exp(α + β·(age − centre))."""
        return np.asarray(
            np.exp(self.log_sd[0] + self.log_sd[1] * (np.asarray(age_years) - self.centre_years))
        )

    def z(self, outcome: Array, age_years: Array) -> Array:
        """Z = (y − mean)/SD."""
        return np.asarray((outcome - self.mean(age_years)) / self.sd(age_years))

    def extrapolates(self, age_years: Array) -> Array:
        """True outside the ages of the norm."""
        return np.asarray((age_years < self.age_range_years[0]) | (age_years > self.age_range_years[1]))


@dataclass(frozen=True)
class Norms:
    """A norm file: curves by region of one outcome, at one field strength where the outcome depends on it."""

    name: str
    outcome: str
    field_tesla: float | None
    source: str
    curves: Mapping[str, NormCurve]


def parse_norms(content: Mapping[str, Any], path: str = "") -> Norms:
    """Check the content of a norm file; R2S-E732 names what is wrong."""
    for name in ("name", "outcome", "source", "regions"):
        if name not in content:
            raise UsageError("E732", f"a norm file without {name!r}", "it", path=path)
    curves = {}
    for region, curve in content["regions"].items():
        try:
            curves[region] = _curve(region, curve)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError("E732", f"regions.{region}: {error} is missing or wrong", "see the norms that come along",
                             path=path) from None  # fmt: skip
    field = content.get("field_tesla")
    if field is not None and (isinstance(field, bool) or not isinstance(field, int | float)):
        raise UsageError("E732", f"field_tesla is {field!r}", "a number", path=path)
    return Norms(content["name"], content["outcome"], field, content["source"], curves)


def _curve(region: str, curve: Mapping[str, Any]) -> NormCurve:
    kinds = {"saturating": ("limit", "rate_per_year", "start"), "table": ("ages_years", "values")}
    parameters = {name: curve[name] for name in kinds[curve["kind"]]}
    if curve["kind"] == "table" and (
        len(parameters["ages_years"]) != len(parameters["values"])
        or np.any(np.diff(parameters["ages_years"]) <= 0)
    ):
        raise ValueError("ages_years")
    low, high = (float(age) for age in curve["age_range_years"])
    log_sd = (float(np.log(curve["sd"])), float(curve.get("log_sd_per_year", 0.0)))
    return NormCurve(
        region, curve["kind"], parameters, log_sd, float(curve.get("sd_at_age_years", 0.0)), (low, high)
    )
