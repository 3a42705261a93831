"""The same question asked in another way: robust, random site, ComBat, a site left out, missing values imputed.

Each function takes a fitted model and gives one row for each of its tests. May import numpy; one uses statsmodels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.group.combat import harmonise_sites
from r2star.group.context import Context, base_row, counted_row, weights_of_test
from r2star.group.design import build_design
from r2star.group.formula import Formula, Term
from r2star.group.imputed import imputation
from r2star.group.joint import RegionFit, fit_region, unit_of
from r2star.group.mixed import fit_random_intercept
from r2star.group.model import Hypothesis
from r2star.group.ols import estimate_contrast, estimate_from
from r2star.group.rows import Row, counted, estimated, with_status

Array = NDArray[Any]

SITE = "site"

_HUBER_ROUNDS = 200


def _single(context: Context) -> list[tuple[RegionFit, Hypothesis, Array, Array]]:
    """Every (region, test) of one estimable number: full weights, and those on the estimated columns."""
    found = []
    for fit in context.fits.values():
        for test in context.spec.tests:
            weights = weights_of_test(fit, test)
            reduced = None if weights is None else fit.reduced(weights)
            if weights is not None and reduced is not None:
                found.append((fit, test, weights, reduced))
    return found


def fit_huber(matrix: Array, outcome: Array) -> tuple[Array, Array, bool]:
    """Huber's M-estimator (c = 1.345, scale by the median absolute deviation): β, its covariance, convergence."""
    import warnings

    import statsmodels.api as sm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence is returned
        found = sm.RLM(outcome, matrix, M=sm.robust.norms.HuberT()).fit(maxiter=_HUBER_ROUNDS, tol=1e-9)
    return found.params, np.asarray(found.cov_params()), found.fit_history["iteration"] < _HUBER_ROUNDS


def robust(context: Context) -> list[Row]:
    """The joint model by Huber's M-estimator: outlying participants weigh less."""
    found: dict[str, tuple[Array, Array, bool]] = {}
    rows = []
    for fit, test, weights, reduced in _single(context):
        if fit.region not in found:
            found[fit.region] = fit_huber(fit.fit.matrix, fit.fit.outcome)
        beta, covariance, converged = found[fit.region]
        se = float(np.sqrt(reduced @ covariance @ reduced))
        estimate = estimate_from(float(reduced @ beta), se, fit.fit.df)
        row = counted_row(context, "robust", fit, test)
        unit = unit_of(fit, weights, context.columns)
        note = "" if converged else "failed: did not converge"
        rows.append(with_status(estimated(row, estimate, "huber", unit), note))
    return rows


def random_site(context: Context) -> list[Row]:
    """Site as a random intercept in place of fixed effects; a singular fit is told."""
    formula = _without_site(context.spec.formula)
    rows = []
    for name, fit, test, full, weights in _refits(context, formula):
        row = base_row(context, "random_site", name, test)
        sites = context.data.columns[SITE][fit.design.rows]
        try:
            mixed = fit_random_intercept(fit.fit.matrix, fit.fit.outcome, sites)
        except (ValueError, np.linalg.LinAlgError) as error:
            rows.append(with_status(row, f"failed: {error}"))
            continue
        row = counted(row, context.data.patient[fit.design.rows], context.data.patient.size)
        note = "singular: site variance is 0, least squares without site" if mixed.singular else ""
        few = f"only {mixed.n_groups} sites" if mixed.n_groups < 5 else ""
        rows.append(
            with_status(
                estimated(row, mixed.estimate(weights), "REML", unit_of(fit, full, context.columns)),
                note,
                few,
            )
        )
    return rows


def combat(context: Context) -> list[Row]:
    """Outcomes harmonised by ComBat over all regions, then the model without site."""
    names = [fit.region for fit in context.fits.values()]
    whole = np.all([fit.design.rows for fit in context.fits.values()], axis=0)
    any_fit = next(iter(context.fits.values()), None)
    if any_fit is None or not whole.any():
        return []
    formula = _without_site(context.spec.formula)
    kept = build_design(
        formula, context.data.columns, context.data.patient, context.rules, rows=whole
    ).matrix[:, 1:]
    try:
        values = np.column_stack([context.data.outcomes[name][whole] for name in names])
        harmonised = harmonise_sites(values, context.data.columns[SITE][whole], kept)
    except (ValueError, np.linalg.LinAlgError) as error:
        return [
            with_status(base_row(context, "combat", name, test), f"failed: {error}")
            for name in names for test in context.spec.tests
        ]  # fmt: skip
    outcomes = {name: np.full(whole.size, np.nan) for name in names}
    for k, name in enumerate(names):
        outcomes[name][whole] = harmonised[:, k]
    other = replace(context, data=replace(context.data, outcomes=outcomes))
    rows = []
    for name, fit, test, full, weights in _refits(other, formula):
        row = counted(
            base_row(context, "combat", name, test),
            context.data.patient[fit.design.rows],
            context.data.patient.size,
        )
        rows.append(
            with_status(
                estimated(
                    row, estimate_contrast(fit.fit, weights), "HC3", unit_of(fit, full, context.columns)
                )
            )
        )
    return rows


def leave_one_site(context: Context) -> list[Row]:
    """The range of the estimate with each site left out in turn."""
    sites = context.data.columns[SITE]
    rows = []
    for fit, test, weights, reduced in _single(context):
        found = {}
        for site in sorted(set(sites[fit.design.rows].tolist())):
            other = fit_region(
                context.spec.formula, context.data.where(sites != site), fit.region, context.rules
            )
            own = None if isinstance(other, str) else weights_of_test(other, test)
            less = None if isinstance(other, str) or own is None else other.reduced(own)
            if less is not None and not isinstance(other, str):
                found[site] = float(less @ other.fit.beta)
        row = counted_row(context, "leave_one_site", fit, test)
        if len(found) < 2:
            rows.append(with_status(row, "refused: it takes two sites or more"))
            continue
        row = estimated(
            row, estimate_contrast(fit.fit, reduced), "HC3", unit_of(fit, weights, context.columns)
        )
        least, most = min(found, key=lambda site: found[site]), max(found, key=lambda site: found[site])
        row |= {"loo_min": found[least], "loo_max": found[most]}
        rows.append(with_status(row, f"lowest without {least}", f"highest without {most}"))
    return rows


def _without_site(formula: Formula) -> Formula:
    return Formula(tuple(term for term in formula.terms if not _has_site(term)), formula.random)


def _has_site(term: Term) -> bool:
    return any(variable.column == SITE for variable in term.variables)


def _refits(context: Context, formula: Formula) -> list[tuple[str, RegionFit, Hypothesis, Array, Array]]:
    """The tests of one number, of another formula over the same rows."""
    found = []
    for main in context.fits.values():
        rows = main.design.rows
        outcome = np.where(rows, context.data.outcomes[main.region], np.nan)
        data = replace(context.data, outcomes={main.region: outcome})
        fit = fit_region(formula, data, main.region, context.rules)
        if isinstance(fit, str):
            continue
        for test in context.spec.tests:
            weights = weights_of_test(fit, test)
            reduced = None if weights is None else fit.reduced(weights)
            if weights is not None and reduced is not None:
                found.append((main.region, fit, test, weights, reduced))
    return found


#: The sensitivity analyses that a model file may name; those of ``site`` need that column.
SENSITIVITIES: dict[str, Callable[[Context], list[Row]]] = {
    "robust": robust,
    "random_site": random_site,
    "combat": combat,
    "leave_one_site": leave_one_site,
    "imputation": imputation,
}
NEEDS_SITE = frozenset({"random_site", "combat", "leave_one_site"})
