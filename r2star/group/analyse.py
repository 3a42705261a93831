"""A model over all its regions → rows of statistics, and the fits that the figures show. May import numpy.

`KINDS` is the table of kinds of models: joint (one model a region), longitudinal (a random intercept a
participant), paper (the published two-step way).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.group.context import Context
from r2star.group.design import DesignRules
from r2star.group.joint import RegionFit, fit_region, joint_rows
from r2star.group.mixed import MixedFit, fit_random_intercept
from r2star.group.model import ColumnRule, ModelSpec
from r2star.group.multiplicity import ADJUSTMENTS
from r2star.group.ols import estimate_contrast, fit_ols, rank_deficient
from r2star.group.paper import correct_for_age, select_stepwise
from r2star.group.rows import CohortData, Row, counted, estimated, with_status
from r2star.group.sensitivity import NEEDS_SITE, SENSITIVITIES, SITE

Array = NDArray[Any]

PAPER_BIAS = "two-step: linear age from controls biases duration low"
STEPWISE_BIAS = "stepwise: selected effects are inflated, p too small"


@dataclass(frozen=True)
class ModelResult:
    """Rows of a model in their order, the fits by region, and why the model as a whole was refused, if it was."""

    spec: ModelSpec
    rows: tuple[Row, ...]
    fits: Mapping[str, RegionFit] = field(default_factory=dict)

    @property
    def refused(self) -> tuple[str, ...]:
        """Status of every tested row that has no estimate."""
        told = (str(row.get("status", "")) for row in self.rows if row.get("family"))
        return tuple(dict.fromkeys(status for status in told if status.startswith(("refused", "failed"))))


def run_model(
    spec: ModelSpec,
    data: CohortData,
    rules: DesignRules,
    columns: Mapping[str, ColumnRule],
    *,
    seed: int = 20140,
) -> ModelResult:
    """Run a model over all regions of the data, its sensitivity analyses, and the adjustment of its families."""
    subset = {"all": np.ones_like(data.patient), "patients": data.patient, "controls": ~data.patient}[
        spec.subset
    ]
    rows_used = subset if spec.kind == "longitudinal" else subset & data.baseline
    result = KINDS[spec.kind](spec, data.where(rows_used), rules, columns, seed)
    return ModelResult(spec, tuple(adjust_families(result.rows, spec.adjustment)), result.fits)


def adjust_families(rows: Sequence[Row], adjustment: Mapping[str, str]) -> list[Row]:
    """Adjust p within each family: Holm in the primary one, Benjamini–Hochberg in the others, unless told otherwise."""
    out = [dict(row) for row in rows]
    for family in dict.fromkeys(str(row.get("family", "")) for row in rows):
        if not family:
            continue
        members = [row for row in out if row.get("family") == family]
        method = adjustment.get(family, "holm" if family == "primary" else "bh")
        p = np.array([row.get("p", np.nan) for row in members], dtype=float)
        for row, adjusted in zip(members, ADJUSTMENTS[method](p)):
            row |= {"p_adjusted": adjusted, "adjustment": method, "family_size": int(np.isfinite(p).sum())}
    return out


def _run_joint(
    spec: ModelSpec, data: CohortData, rules: DesignRules, columns: Mapping[str, ColumnRule], seed: int
) -> ModelResult:
    rows: list[Row] = []
    fits: dict[str, RegionFit] = {}
    for region in data.outcomes:
        fit = fit_region(spec.formula, data, region, rules)
        rows += joint_rows(spec, fit, data, region, columns)
        if not isinstance(fit, str):
            fits[region] = fit
    context = Context(spec, data, rules, columns, fits, seed)
    for name in spec.sensitivity:
        if name not in NEEDS_SITE or SITE in spec.formula.columns:
            rows += SENSITIVITIES[name](context)
    return ModelResult(spec, tuple(rows), fits)


def _run_longitudinal(
    spec: ModelSpec, data: CohortData, rules: DesignRules, columns: Mapping[str, ColumnRule], seed: int
) -> ModelResult:
    """The design of the formula with a random intercept for each participant."""
    rows: list[Row] = []
    fits: dict[str, RegionFit] = {}
    groups = data.participant if spec.formula.random == "participant" else data.columns[spec.formula.random]
    for region in data.outcomes:
        fit = fit_region(spec.formula, data, region, rules)
        if isinstance(fit, str):
            rows += joint_rows(spec, fit, data, region, columns)
            continue
        try:
            mixed = fit_random_intercept(fit.fit.matrix, fit.fit.outcome, groups[fit.design.rows])
        except (ValueError, np.linalg.LinAlgError) as error:
            rows += joint_rows(spec, f"failed: {error}", data, region, columns)
            continue
        fits[region] = fit
        rows += [_mixed_row(row, spec, fit, mixed) for row in joint_rows(spec, fit, data, region, columns)]
    return ModelResult(spec, tuple(rows), fits)


def _mixed_row(row: Row, spec: ModelSpec, fit: RegionFit, mixed: MixedFit) -> Row:
    """Estimates of the mixed model in place of those of least squares; sizes of effects don't carry over."""
    kept = ("model", "region", "term", "contrast", "family", "status")
    plain: Row = {key: row[key] for key in kept if key in row}
    base = counted(plain, fit.data.patient[fit.design.rows], fit.data.patient.size)
    weights = _weights_of(row, spec, fit)
    if weights is None:
        is_joint = "statistic" in row
        return with_status(base, "refused: a mixed model tests one coefficient at a time" if is_joint else "")
    note = "singular: variance between participants is 0, least squares" if mixed.singular else ""
    return with_status(estimated(base, mixed.estimate(weights), "REML", str(row.get("unit", ""))), note)


def _weights_of(row: Row, spec: ModelSpec, fit: RegionFit) -> Array | None:
    contrasts = {test.label: test.contrast for test in spec.tests if test.contrast}
    names, identity = fit.design.names, np.eye(len(fit.design.names))
    term = str(row["term"])
    if term in contrasts:
        weights = fit.design.contrast(contrasts[term].parts)
    elif term in names:
        weights = identity[names.index(term)]
    else:
        columns = fit.design.columns_of(term)
        weights = identity[columns[0]] if len(columns) == 1 else None
    return None if weights is None else fit.reduced(weights)


def _run_paper(
    spec: ModelSpec, data: CohortData, rules: DesignRules, columns: Mapping[str, ColumnRule], seed: int
) -> ModelResult:
    """Age taken off by the controls' line; group difference; regression in patients, of all and stepwise."""
    rows: list[Row] = []
    age = next((v.column for t in spec.formula.terms for v in t.variables if v.column.startswith("age")), "")
    terms = [term for term in spec.formula.terms if term.variables[0].column != age]
    for region, outcome in data.outcomes.items():
        base: Row = {"model": spec.name, "region": region}
        used = np.isfinite(outcome) & np.isfinite(data.columns[age]) if age else np.zeros_like(data.patient)
        try:
            corrected = np.full(outcome.shape, np.nan)
            corrected[used], _ = correct_for_age(outcome[used], data.columns[age][used], ~data.patient[used])
        except ValueError as error:
            rows.append(with_status({**base, "term": "group", "family": "primary"}, f"refused: {error}"))
            continue
        difference = fit_ols(np.column_stack([np.ones(used.sum()), data.patient[used]]), corrected[used])
        row = counted({**base, "term": "group", "family": "primary"}, data.patient[used], data.patient.size)
        row = estimated(
            row, estimate_contrast(difference, np.array([0.0, 1.0]), robust=False), "classical", data.unit
        )
        rows.append(with_status(row, PAPER_BIAS))
        rows += _paper_determinants(base, corrected, terms, data)
    return ModelResult(spec, tuple(rows))


def _paper_determinants(base: Row, corrected: Array, terms: Sequence[Any], data: CohortData) -> list[Row]:
    candidates = np.column_stack([_candidate(term, data) for term in terms])
    used = data.patient & np.isfinite(corrected) & np.isfinite(candidates).all(axis=1)
    n_patients = int(data.patient.sum())
    matrix = np.column_stack([np.ones(used.sum()), candidates[used]])
    if used.sum() <= matrix.shape[1] or rank_deficient(matrix).any():
        return [
            with_status({**base, "term": term.label}, "refused: too few patients, or candidates alike")
            for term in terms
        ]
    whole, stepwise = fit_ols(matrix, corrected[used]), select_stepwise(candidates[used], corrected[used])
    rows = []
    for name, note in (("all candidates", PAPER_BIAS), ("stepwise", f"{PAPER_BIAS}; {STEPWISE_BIAS}")):
        for k, term in enumerate(terms):
            row = counted(
                {**base, "term": term.label, "contrast": name, "family": name}, data.patient[used], n_patients
            )
            fit, place = (
                (whole, k + 1) if name == "all candidates" else (stepwise.fit, _place(k, stepwise.selected))
            )
            if fit is None or place == 0:
                rows.append(with_status(row, "not selected", note))
                continue
            estimate = estimate_contrast(fit, np.eye(fit.beta.size)[place], robust=False)
            rows.append(with_status(estimated(row, estimate, "classical", data.unit), note))
    return rows


def _place(k: int, selected: tuple[int, ...]) -> int:
    """Column of a candidate in the last stepwise regression; 0 where it was not selected."""
    return selected.index(k) + 1 if k in selected else 0


def _candidate(term: Any, data: CohortData) -> Array:
    (variable,) = term.variables
    values = np.asarray(data.columns[variable.column], dtype=float)
    return np.log(np.where(values > 0, values, np.nan)) if "log" in variable.functions else values


Kind = Callable[[ModelSpec, CohortData, DesignRules, Mapping[str, ColumnRule], int], ModelResult]

#: Kinds of models that a model file may name.
KINDS: dict[str, Kind] = {"joint": _run_joint, "longitudinal": _run_longitudinal, "paper": _run_paper}
