"""Step: what the figures of the second level show, from its inputs and results. May import report and group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from r2star.group.analyse import ModelResult
from r2star.group.design import is_present
from r2star.group.joint import rules_of
from r2star.report.group_data import AgeCurve, FigureData
from r2star.steps.group_columns import Covariates, cohort_data
from r2star.steps.group_inputs import Inputs
from r2star.steps.group_norms import FittedNorms
from r2star.steps.group_outcomes import OutcomeTable
from r2star.steps.group_visits import Visits


def figure_data(
    inputs: Inputs,
    visits: Visits,
    covariates: Covariates,
    scores: FittedNorms,
    results: Sequence[ModelResult],
) -> FigureData:
    """Gather what the figures need; of several field strengths the figures show the results of the first."""
    outcome = inputs.model.outcome
    table = OutcomeTable(inputs.gathered, visits)
    everyone = np.ones(visits.participant.size, dtype=bool)
    data = cohort_data(covariates, visits, table.values(outcome), "1/s", everyone)
    sides = {
        side: cohort_data(
            covariates, visits, table.values(replace(outcome, hemisphere=side)), "", everyone
        ).outcomes
        for side in "LR"
    }
    norms = {
        name: AgeCurve(norm.ages, norm.expected, norm.expected_se, norm.sd)
        for name, norm in scores.norms.items()
    }
    rules = rules_of(inputs.model.columns, inputs.model.reference_column, covariates.reference_level)
    return FigureData(
        data, sides["L"], sides["R"], norms, results, rules, _flow(inputs, visits, covariates, results),
        _missing(inputs, visits, covariates), "R2* (1/s)" if outcome.column.startswith("r2star") else outcome.column,
    )  # fmt: skip


def _flow(
    inputs: Inputs, visits: Visits, covariates: Covariates, results: Sequence[ModelResult]
) -> list[tuple[str, int, str]]:
    """Steps from units found to the rows of the group model: text, count, and what was left out before it."""
    exclusions = inputs.gathered.exclusions
    n_units = len(inputs.gathered.units)
    reasons: dict[str, int] = {}
    for exclusion in exclusions:
        reasons[exclusion.reason] = reasons.get(exclusion.reason, 0) + 1
    known = covariates.known_group
    first = int((visits.baseline & known).sum())
    steps = [("units of the first level", n_units + len(exclusions), "")]
    steps.append(("complete units", n_units, _told(reasons)))
    n_visits = visits.participant.size
    steps.append(
        (
            "participants × sessions",
            n_visits,
            _told({"runs averaged, or another acquisition": n_units - n_visits}),
        )
    )
    later = int((known & ~visits.baseline).sum())
    unknown = int((~known).sum())
    steps.append(
        ("participants with a group", first, _told({"later sessions": later, "group not known": unknown}))
    )
    for name in ("group", "determinants"):
        result = next((one for one in results if one.spec.name.partition("@")[0] == name and one.fits), None)
        if result is not None:
            n = min(int(fit.design.rows.sum()) for fit in result.fits.values())
            steps.append((f"in the model {name}", n, _told({"covariate or R2* missing": first - n})))
    return steps


def _told(reasons: Mapping[str, int]) -> str:
    return "\n".join(f"{count}: {reason}" for reason, count in reasons.items() if count > 0)


def _missing(inputs: Inputs, visits: Visits, covariates: Covariates) -> dict[str, tuple[int, int]]:
    """Missing values of each covariate among those who may have it, at the first session."""
    used = visits.baseline & covariates.known_group
    counts = {}
    for name in covariates.sources:
        values: Any = covariates.columns[name]
        rule = inputs.model.columns.get(name)
        may = used & covariates.patient if rule is not None and rule.of_patients else used
        counts[name] = (int((~is_present(values[may])).sum()), int(may.sum()))
    return counts
