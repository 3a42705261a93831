"""A joint model with its missing covariates imputed: a fit for each draw, pooled by Rubin's rules. May import numpy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.group.context import Context, base_row, weights_of_test
from r2star.group.formula import Formula
from r2star.group.imputation import impute_chained, pool_rubin
from r2star.group.joint import RegionFit, fit_region, unit_of
from r2star.group.ols import Estimate, estimate_contrast
from r2star.group.rows import CohortData, Row, counted, estimated, with_status

Array = NDArray[Any]

N_IMPUTATIONS = 20


def imputation(context: Context) -> list[Row]:
    """Missing numbers among the covariates drawn 20 times; Rubin's rules over HC3 fits. R2* is never imputed."""
    rows = []
    for fit in context.fits.values():
        tests = [
            (test, weights)
            for test in context.spec.tests
            if (weights := weights_of_test(fit, test)) is not None
        ]
        try:
            fits = _imputed_fits(context, fit)
        except (ValueError, np.linalg.LinAlgError) as error:
            rows += [
                with_status(base_row(context, "imputation", fit.region, test), f"failed: {error}")
                for test, _ in tests
            ]
            continue
        if not fits:
            continue
        for test, weights in tests:
            found = [(each, less) for each in fits if (less := each.reduced(weights)) is not None]
            parts: list[Estimate] = [estimate_contrast(each.fit, less) for each, less in found]
            row = counted(base_row(context, "imputation", fit.region, test), context.data.patient[fits[0].design.rows],
                          context.data.patient.size)  # fmt: skip
            if len(parts) < len(fits):
                rows.append(with_status(row, "refused: not estimable in every imputation"))
                continue
            pooled = pool_rubin(
                [each.estimate for each in parts], [each.se for each in parts], fits[0].fit.df
            )
            added = int(fits[0].design.rows.sum() - fit.design.rows.sum())
            note = f"{added} rows more than without imputation, {len(fits)} imputations"
            rows.append(
                with_status(estimated(row, pooled, "Rubin", unit_of(fits[0], weights, context.columns)), note)
            )
    return rows


def _imputed_fits(context: Context, fit: RegionFit) -> list[RegionFit]:
    """One fit for each imputation; none where nothing is missing."""
    data, formula = context.data, context.spec.formula
    drawn = _draw(context, fit.region)
    fits = []
    for m in range(N_IMPUTATIONS if drawn else 0):
        filled = replace(
            data, columns={**data.columns, **{name: values[m] for name, values in drawn.items()}}
        )
        found = fit_region(formula, filled, fit.region, context.rules)
        if isinstance(found, str):
            raise ValueError(found)
        fits.append(found)
    return fits


def _draw(context: Context, region: str) -> dict[str, Array]:
    """(imputation, participant) of every number among the covariates; nothing where none is missing."""
    data, formula = context.data, context.spec.formula
    variables = [variable for term in formula.terms for variable in term.variables]
    logged = {each.column for each in variables if "log" in each.functions}
    of_patients = {each.column for each in variables if "patients" in each.functions}
    numbers = [name for name in formula.columns if data.columns[name].dtype != object]
    of_patients |= {name for name in numbers if context.rules.centring.get(name) == "patients"}
    has_outcome = np.isfinite(data.outcomes[region])
    missing = [~np.isfinite(data.columns[name]) & _may_have(name, of_patients, data) for name in numbers]
    if not any((each & has_outcome).any() for each in missing):
        return {}
    rng = np.random.default_rng([context.seed, *region.encode()])
    drawn: dict[str, Array] = {}
    # patients have covariates that controls don't, so each group is imputed from its own
    for members in (data.patient, ~data.patient):
        rows = members & has_outcome & _categories_known(formula, data)
        names = [name for name in numbers if members is data.patient or name not in of_patients]
        if not names or not rows.any():
            continue
        table = np.column_stack([_scale(data.columns[name][rows], name in logged) for name in names])
        draws = impute_chained(table, _predictors(context, region, rows), rng, n_imputations=N_IMPUTATIONS)
        for k, name in enumerate(names):
            given = np.tile(data.columns[name].astype(float), (N_IMPUTATIONS, 1))
            into = drawn.setdefault(name, given)
            into[:, rows] = np.exp(draws[:, :, k]) if name in logged else draws[:, :, k]
    return drawn


def _may_have(name: str, of_patients: set[str], data: CohortData) -> Array:
    return data.patient if name in of_patients else np.ones_like(data.patient)


def _scale(values: Array, logged: bool) -> Array:
    return np.log(values) if logged else np.asarray(values, dtype=float)


def _categories_known(formula: Formula, data: CohortData) -> Array:
    categories = [data.columns[name] != "" for name in formula.columns if data.columns[name].dtype == object]
    return np.all(categories, axis=0) if categories else np.ones_like(data.patient)


def _predictors(context: Context, region: str, rows: Array) -> Array:
    """What is complete: the outcome and the categories of the formula."""
    blocks = [context.data.outcomes[region][rows][:, None]]
    for name in context.spec.formula.columns:
        values = context.data.columns[name][rows]
        if values.dtype == object:
            levels = sorted(set(values.tolist()))[1:]
            blocks += [(values == level)[:, None].astype(float) for level in levels]
    return np.column_stack(blocks)
