"""Step: z-scores of every participant against controls of the same age. May import group, iron and files.

The norm is fitted to the cohort's own controls, for each region a spline of age, sex and site with a
spread that may grow with age; or it comes from a norm file. Past the ages of the norm a score is given and flagged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from r2star.errors import Notice, UsageError
from r2star.group.ages import OLDEST_SHOWN_AGE, shown_age
from r2star.group.design import Design, DesignRules, build_design
from r2star.group.formula import Formula, parse_formula
from r2star.group.ols import rank_deficient
from r2star.group.rows import CohortData
from r2star.iron.calibration import FIELD_TOLERANCE_TESLA
from r2star.iron.norms import NormFit, Norms, fit_norm
from r2star.steps.group_columns import Covariates, cohort_data
from r2star.steps.group_fields import FIELD
from r2star.steps.group_inputs import Inputs
from r2star.steps.group_outcomes import OutcomeTable
from r2star.steps.group_tables import write_rows, write_toml
from r2star.steps.group_visits import Visits
from r2star.steps.iron import load_norms

ZSCORE_COLUMNS = (
    "participant_id", "session_id", "group", "age", "region", "observed", "expected", "sd", "z", "norm", "status",
)  # fmt: skip


class RegionNorm(NamedTuple):
    """A norm fitted to the controls; expected value, its error and SD by age, at the controls' sexes and sites."""

    region: str
    fit: NormFit
    ages: Any
    expected: Any
    sd: Any
    expected_se: Any


class FittedNorms(NamedTuple):
    """Norms by region, rows of z-scores, warnings."""

    norms: dict[str, RegionNorm]
    rows: list[list[object]]
    notices: list[Notice]


def score_people(
    inputs: Inputs, visits: Visits, covariates: Covariates, strata: Sequence[tuple[str, Any]]
) -> FittedNorms:
    """z-scores by the norms of the model file, or by the controls of each field strength."""
    outcome = inputs.model.outcome
    values = OutcomeTable(inputs.gathered, visits).values(outcome)
    if inputs.model.norms_file:
        data = cohort_data(covariates, visits, values, "", np.ones(visits.participant.size, dtype=bool))
        return score_by_file(data, outcome.column, inputs.model.norms_file, inputs.model_path)
    whole = FittedNorms({}, [], [])
    for name, used in strata:
        found = fit_norms(cohort_data(covariates, visits, values, "", used))
        whole.norms.update({region + name: norm for region, norm in found.norms.items()})
        whole.rows.extend(found.rows)
        whole.notices.extend(found.notices)
    return whole


def fit_norms(data: CohortData, optional: Iterable[str] = ("sex", "site")) -> FittedNorms:
    """Norms by region from the controls at their first visit, z-scores of everyone, and warnings."""
    norms: dict[str, RegionNorm] = {}
    rows: list[list[object]] = []
    notices: list[Notice] = []
    control = ~data.patient & data.baseline
    if "age" not in data.columns or not control.any():
        return FittedNorms(norms, rows, notices)
    formula = _formula(data, control, optional)
    for region, outcome in data.outcomes.items():
        design = build_design(
            formula, data.columns, data.patient, DesignRules(), rows=control & np.isfinite(outcome)
        )
        kept = ~rank_deficient(design.matrix) if design.rows.any() else np.zeros(0, dtype=bool)
        age = data.columns["age"]
        try:
            fit = fit_norm(design.matrix[:, kept], outcome[design.rows], age[design.rows])
        except ValueError as error:
            notices.append(Notice("W713", f"no norm of {region}: {error}"))
            continue
        norms[region] = _curve(region, fit, design, kept)
        rows += _scores(data, region, formula, design, kept, fit)
    return FittedNorms(norms, rows, notices)


def _formula(data: CohortData, control: Any, optional: Iterable[str]) -> Formula:
    known = [
        name for name in optional
        if name in data.columns and len(set(data.columns[name][control].tolist()) - {""}) > 1
    ]  # fmt: skip
    return parse_formula(" + ".join(["spline(age, df=3)", *known]))


def _curve(region: str, fit: NormFit, design: Design, kept: Any) -> RegionNorm:
    """The mean over the controls' own sexes and sites, at each age."""
    low, high = fit.age_range_years
    grid = np.linspace(low, high, 61)
    (spline,) = design.splines.values()
    typical = np.tile(design.matrix.mean(axis=0), (grid.size, 1))
    typical[:, design.columns_of("spline(age, df=3)")] = spline.basis(grid)
    matrix = typical[:, kept]
    error = np.sqrt(np.einsum("ij,jk,ik->i", matrix, fit.covariance, matrix))
    return RegionNorm(region, fit, grid, matrix @ fit.beta, fit.sd(grid), error)


def _scores(
    data: CohortData, region: str, formula: Formula, design: Design, kept: Any, fit: NormFit
) -> list[list[object]]:
    """Controls by their own residual, everyone else by the norm; a site without controls gives none."""
    outcome, age = data.outcomes[region], data.columns["age"]
    known = np.isfinite(outcome) & np.isfinite(age)
    usable = known.copy()
    for name in design.reference_levels:
        usable &= np.isin(data.columns[name].astype(str), data.columns[name][design.rows].astype(str))
    # the controls are among the usable, so the columns of the two designs are the same
    matrix = build_design(formula, data.columns, data.patient, rows=usable, splines=design.splines).matrix
    z, expected = np.full(usable.size, np.nan), np.full(usable.size, np.nan)
    z[usable] = fit.z(outcome[usable], matrix[:, kept], age[usable])
    z[design.rows] = fit.studentised
    expected[usable] = matrix[:, kept] @ fit.beta
    sd, beyond = fit.sd(age), fit.extrapolates(age)
    rows = []
    for k in range(usable.size):
        status = "extrapolated: outside the controls' ages" if beyond[k] else "ok"
        if not usable[k]:
            status = "no control of this sex or site" if known[k] else "no age or value"
        rows.append(_row(data, k, region, [outcome[k], expected[k], sd[k], z[k], "own controls", status]))
    return rows


def _row(data: CohortData, k: int, region: str, rest: Sequence[object]) -> list[object]:
    session = data.columns["session"][k]
    age = data.columns["age"][k]
    group = "patient" if data.patient[k] else "control"
    shown = shown_age(f"{age:.10g}") if np.isfinite(age) else ""
    return [f"sub-{data.participant[k]}", f"ses-{session}" if session else "", group, shown, region, *rest]


def score_by_file(data: CohortData, outcome: str, file: str, model_path: Path | None) -> FittedNorms:
    """Scores by the norms of a file; R2S-E734 where it is of another outcome or field, or lies elsewhere."""
    norms = load_norms(_beside(file, model_path))
    if norms.outcome != outcome:
        raise UsageError("E734", f"norms of {norms.outcome}, outcome {outcome}", "the same", path=file)
    for field in sorted(_known_fields(data)):
        if norms.field_tesla is not None and abs(field - norms.field_tesla) > FIELD_TOLERANCE_TESLA:
            found = f"norms at {norms.field_tesla:g} T, data at {field:g} T"
            raise UsageError("E734", found, "one field: R2* grows with it", path=file)
    absent = [region for region in data.outcomes if region not in norms.curves]
    notices = [Notice("W713", f"no norm of {region} in {norms.name}") for region in absent]
    rows: list[list[object]] = []
    for region, values in data.outcomes.items():
        if region in norms.curves and "age" in data.columns:
            rows += _scores_by_curve(data, region, values, norms)
    return FittedNorms({}, rows, notices)


def _known_fields(data: CohortData) -> set[float]:
    """Field strengths of a cohort in tesla, those that are known."""
    values = data.columns.get(FIELD, np.zeros(0))
    return {float(value) for value in values if value != "" and np.isfinite(float(value))}


def _scores_by_curve(data: CohortData, region: str, values: Any, norms: Norms) -> list[list[object]]:
    curve, age = norms.curves[region], data.columns["age"]
    z, expected, beyond = curve.z(values, age), curve.mean(age), curve.extrapolates(age)
    sd = curve.sd(age)
    rows = []
    for k in range(age.size):
        status = "extrapolated: outside the norm's ages" if beyond[k] else "ok"
        status = status if np.isfinite(z[k]) else "no age or value"
        rows.append(_row(data, k, region, [values[k], expected[k], sd[k], z[k], norms.name, status]))
    return rows


def _beside(file: str, model_path: Path | None) -> str:
    """A file of norms lies beside the model file, whoever wrote the model file."""
    if not file.endswith(".toml"):
        return file
    path = Path(file)
    if path.is_absolute() or ".." in path.parts or model_path is None:
        found = f"norms.file is {file!r}"
        raise UsageError("E734", found, "a file beside the model file", path=model_path or "")
    return str(model_path.parent / path)


def norms_as_toml(
    norms: Mapping[str, RegionNorm], outcome: str, n_controls: int, field_tesla: float | None
) -> dict[str, Any]:
    """The fitted norms as a norm file, which another study may name in its model file. Ages end at 89."""
    regions = {}
    for name, norm in norms.items():
        shown = norm.ages <= OLDEST_SHOWN_AGE
        low, high = norm.fit.age_range_years
        regions[name] = {
            "kind": "table",
            "ages_years": [round(float(age), 2) for age in norm.ages[shown]],
            "values": [round(float(value), 4) for value in norm.expected[shown]],
            "sd": float(np.exp(norm.fit.log_sd[0])),
            "sd_at_age_years": norm.fit.centre_years,
            "log_sd_per_year": norm.fit.log_sd[1],
            "age_range_years": [low, min(high, float(OLDEST_SHOWN_AGE))],
        }
    source = f"{n_controls} controls of this cohort"
    field = {} if field_tesla is None else {"field_tesla": field_tesla}
    return {"name": "own-controls", "outcome": outcome, "source": source, **field, "regions": regions}


def write_norms(
    inputs: Inputs, scores: FittedNorms, covariates: Covariates, visits: Visits, fields: Any, folder: Path
) -> None:
    """``zscores.tsv``, and ``norms.toml`` where the norms are the cohort's own."""
    if scores.rows:
        write_rows(ZSCORE_COLUMNS, scores.rows, folder / "zscores.tsv")
    if scores.norms:
        n_controls = int((visits.baseline & covariates.known_group & ~covariates.patient).sum())
        # norms of several fields have the field in their names
        (field,) = known if len(known := set(fields[np.isfinite(fields)].tolist())) == 1 else (None,)
        content = norms_as_toml(scores.norms, inputs.model.outcome.column, n_controls, field)
        write_toml(content, folder / "norms.toml")
