"""One joint model a region: all covariates at once, HC3 errors, effect sizes, influence. May import numpy.

Controls inform the age curve and the sites, patients the effects of disease: covariates of patients are
centred in patients and 0 in controls, so that ``group`` is the difference at the patients' mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.group.design import Design, DesignRules, build_design, complete_rows
from r2star.group.effects import hedges_g, partial_r, standardised_beta, variance_inflation
from r2star.group.formula import Formula
from r2star.group.model import ColumnRule, Hypothesis, ModelSpec
from r2star.group.ols import LinearFit, estimate_contrast, fit_ols, leave_one_out, rank_deficient, wald_f
from r2star.group.rows import CohortData, Row, counted, estimated, with_status

Array = NDArray[Any]

HIGH_VIF = 10.0


@dataclass(frozen=True)
class RegionFit:
    """A fitted region: the design that was asked for, the columns that could be estimated, and the fit of those."""

    region: str
    design: Design
    kept: Array
    fit: LinearFit
    data: CohortData

    @cached_property
    def _row_space(self) -> tuple[Array, Array]:
        """Lengths of the design's columns, and an orthonormal basis of what can be estimated, columns at length 1."""
        length = np.linalg.norm(self.design.matrix, axis=0)
        length = np.where(length > 0, length, 1.0)
        # R has the row space of the matrix, and few rows
        triangle = np.asarray(np.linalg.qr(self.design.matrix / length, mode="r"))
        _, singular, directions = np.linalg.svd(triangle, full_matrices=False)
        return length, directions[singular > 1e-9 * singular[0]]

    def reduced(self, weights: Array) -> Array | None:
        """Weights on the kept columns; ``None`` where the combination can't be estimated from these data."""
        length, basis = self._row_space
        scaled = weights / length
        lost = float(np.linalg.norm(scaled - basis.T @ (basis @ scaled)))
        if lost > 1e-7 * float(np.linalg.norm(scaled)) or not weights.any():
            return None
        return np.asarray(weights[self.kept])


def rules_of(columns: Mapping[str, ColumnRule], reference_column: str, reference_level: str) -> DesignRules:
    """What the columns of a model file mean for a design."""
    references = {name: rule.reference or rule.controls for name, rule in columns.items()}
    references = {name: level for name, level in references.items() if level} | {
        reference_column: reference_level
    }
    return DesignRules(
        references, {name: rule.centre for name, rule in columns.items() if rule.centre != "none"}
    )


def fit_region(formula: Formula, data: CohortData, region: str, rules: DesignRules) -> RegionFit | str:
    """Fit one region; where that is impossible, say why."""
    complete = complete_rows(formula, data.columns, data.patient, rules) & np.isfinite(data.outcomes[region])
    if complete.sum() < 2:
        return f"refused: {int(complete.sum())} rows with all that the model needs"
    design = build_design(formula, data.columns, data.patient, rules, rows=np.isfinite(data.outcomes[region]))
    kept = ~rank_deficient(design.matrix)
    if design.rows.sum() <= kept.sum():
        return f"refused: {int(design.rows.sum())} rows can't carry {design.matrix.shape[1]} coefficients"
    fit = fit_ols(design.matrix[:, kept], data.outcomes[region][design.rows])
    return RegionFit(region, design, kept, fit, data)


def joint_rows(
    spec: ModelSpec, region: RegionFit | str, data: CohortData, name: str, rules: Mapping[str, ColumnRule]
) -> list[Row]:
    """All tests of a model in one region, then every other coefficient."""
    if isinstance(region, str):
        return [{"model": spec.name, "region": name, "term": test.label, "family": test.family, "status": region,
                 "contrast": test.contrast.label if test.contrast else ""} for test in spec.tests]  # fmt: skip
    base = counted({"model": spec.name, "region": name}, data.patient[region.design.rows], data.patient.size)
    notes = _notes(spec, region, rules)
    rows, told = [], set[str]()
    for test in spec.tests:
        new = _test_row(test, region, base, rules)
        told.add(str(new["term"]))
        rows.append(with_status(new, *notes))
    for term in dict.fromkeys(region.design.terms):
        if term not in told and not any(test.term == term for test in spec.tests):
            rows += _other_rows(term, region, base, rules)
    return rows


def _notes(spec: ModelSpec, region: RegionFit, rules: Mapping[str, ColumnRule]) -> list[str]:
    used = set(spec.formula.columns) & set(rules)
    mediators = sorted(name for name in used if rules[name].role == "mediator")
    lost = [name for name, kept in zip(region.design.names, region.kept) if not kept]
    return [f"direct effect, given {', '.join(mediators)}"] * bool(mediators) + [
        f"dropped {', '.join(lost)}"
    ] * bool(lost)


def _test_row(test: Hypothesis, region: RegionFit, base: Row, rules: Mapping[str, ColumnRule]) -> Row:
    design = region.design
    row: Row = {**base, "term": test.label, "family": test.family}
    if test.contrast is not None:
        row |= {"contrast": test.contrast.label}
        weights = design.contrast(test.contrast.parts)
        return weighted_row(region, row, weights, rules)
    columns = design.columns_of(test.term)
    if len(columns) == 1:
        return weighted_row(region, row, np.eye(len(design.names))[columns[0]], rules)
    return _joint_row(region, row | {"contrast": "joint"}, columns)


def _other_rows(term: str, region: RegionFit, base: Row, rules: Mapping[str, ColumnRule]) -> list[Row]:
    """Coefficients that are not tested; a spline's coefficients mean nothing one by one, so they come jointly."""
    columns, names = region.design.columns_of(term), region.design.names
    rows = (
        [_joint_row(region, {**base, "term": term, "contrast": "joint"}, columns)] if len(columns) > 1 else []
    )
    if term.startswith("spline(") and ":" not in term:
        return rows
    for k in columns:
        rows.append(weighted_row(region, {**base, "term": names[k]}, np.eye(len(names))[k], rules))
    return rows


def _joint_row(region: RegionFit, row: Row, columns: list[int]) -> Row:
    kept = np.cumsum(region.kept) - 1
    inside = [int(kept[k]) for k in columns if region.kept[k]]
    if not inside or len(inside) < len(columns):
        why = "it can't be told from other terms" if columns else "no data for it (absent, or one level)"
        return with_status(row, f"refused: {why}")
    statistic, p = wald_f(region.fit, inside)
    vif = variance_inflation(region.fit.matrix, inside)
    return with_status(
        {**row, "statistic": statistic, "p": p, "df": region.fit.df, "se_type": "HC3", "vif": vif}
    )


def weighted_row(region: RegionFit, row: Row, weights: Array | None, rules: Mapping[str, ColumnRule]) -> Row:
    """A row of one linear combination, with everything that is told of it."""
    if weights is None or not weights.any():
        return with_status(row, "refused: no data for it (absent, or one level)")
    reduced = region.reduced(weights)
    if reduced is None:
        return with_status(row, f"refused: it can't be told from {_confounders(region, weights)}")
    fit = region.fit
    row = estimated(row, estimate_contrast(fit, reduced), "HC3", unit_of(region, weights, rules))
    out_of = leave_one_out(fit, reduced)
    controls = fit.outcome[~region.data.patient[region.design.rows]]
    mean = float(controls.mean()) if controls.size else np.nan
    row |= {
        "partial_r": partial_r(fit, reduced), "loo_min": float(np.nanmin(out_of)), "loo_max": float(np.nanmax(out_of)),
        "percent_of_reference_mean": 100 * row["estimate"] / mean,
    }  # fmt: skip
    row |= _standardised(region, weights) | _group_size(region, weights, reduced)
    vif = row.get("vif", np.nan)
    return with_status(row, f"collinear (VIF {vif:.1f})" if vif > HIGH_VIF else "")


def _standardised(region: RegionFit, weights: Array) -> Row:
    """Standardised β and VIF of a single coefficient."""
    (where,) = np.nonzero(weights)
    if where.size != 1 or where[0] == 0:
        return {}
    column = int((np.cumsum(region.kept) - 1)[where[0]])
    vif = variance_inflation(region.fit.matrix, [column])
    active = region.design.active[:, where[0]]
    return {"standardised_beta": standardised_beta(region.fit, column, active), "vif": vif}


def _group_size(region: RegionFit, weights: Array, reduced: Array) -> Row:
    """Hedges' g of a difference between levels of one category."""
    design = region.design
    terms = {design.terms[k] for k in np.flatnonzero(weights)}
    term = next(iter(terms))
    if len(terms) > 1 or term not in design.reference_levels:
        return {}
    columns = design.columns_of(term)
    first = [k for k in columns if weights[k] > 0]
    second = [k for k in columns if weights[k] < 0]
    counts = design.matrix.sum(axis=0)
    at_reference = design.matrix.shape[0] - sum(counts[k] for k in columns)
    n_first, n_second = (
        int(sum(counts[k] for k in each)) if each else int(at_reference) for each in (first, second)
    )
    g, low, high = hedges_g(region.fit, reduced, n_first, n_second)
    return {"hedges_g": g, "hedges_g_ci_low": low, "hedges_g_ci_high": high}


def unit_of(region: RegionFit, weights: Array, rules: Mapping[str, ColumnRule]) -> str:
    """Unit of the outcome over the units of the covariates of a term."""
    (where,) = np.nonzero(weights)
    name = region.design.terms[where[0]]
    units = [rule.unit for column, rule in rules.items() if rule.unit and _holds(name, column)]
    return region.data.unit + "".join(f" per {unit}" for unit in units)


def _holds(term: str, column: str) -> bool:
    return any(part == column or f"({column})" in part or f"({column}," in part for part in term.split(":"))


def _confounders(region: RegionFit, weights: Array) -> str:
    """The terms without which the combination could be estimated."""
    own = {region.design.terms[k] for k in np.flatnonzero(weights)} | {"intercept"}
    guilty = []
    for term in dict.fromkeys(region.design.terms):
        if term in own:
            continue
        others = np.array([each != term for each in region.design.terms])
        design = replace(region.design, matrix=region.design.matrix[:, others])
        if (
            replace(region, design=design, kept=np.ones(others.sum(), dtype=bool)).reduced(weights[others])
            is not None
        ):
            guilty.append(term)
    return ", ".join(guilty) or "other terms"
