"""Rows of ``group/<model>_stats.tsv``: what each number is, from a fit to a row. May import numpy only.

A row is a dictionary by `STATS_COLUMNS`; what does not apply is absent and is written as ``n/a``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.group.ols import Estimate

Array = NDArray[Any]
Row = dict[str, Any]

STATS_COLUMNS: Mapping[str, str] = {
    "model": "Model; model:analysis for a sensitivity analysis of it",
    "region": "Region",
    "term": "Term or coefficient of the formula",
    "contrast": "Linear combination of coefficients; joint for a test that all coefficients of the term are 0",
    "n": "Rows that the model used",
    "n_reference": "Controls among them",
    "n_patients": "Patients among them",
    "n_missing": "Rows left out for a missing covariate or outcome",
    "estimate": "Estimate, in unit",
    "unit": "Unit of estimate",
    "se": "Standard error",
    "se_type": "HC3, classical, REML, huber, Rubin",
    "df": "Degrees of freedom of t; of F its denominator",
    "ci_low": "Lower end of the 95 % confidence interval",
    "ci_high": "Upper end of the 95 % confidence interval",
    "statistic": "t, or F of a joint test",
    "p": "Two-sided p",
    "p_adjusted": "p adjusted within the family",
    "adjustment": "holm, bh or none",
    "family": "Family of tests that are adjusted together",
    "family_size": "Tests in the family",
    "standardised_beta": "SD of the outcome per SD of the covariate, where the covariate applies",
    "partial_r": "Correlation with the outcome, all other columns held",
    "hedges_g": "Difference between groups in residual SD, corrected for small samples",
    "hedges_g_ci_low": "Lower end of its 95 % confidence interval",
    "hedges_g_ci_high": "Upper end of its 95 % confidence interval",
    "percent_of_reference_mean": "Estimate in percent of the controls' mean",
    "vif": "Generalised variance inflation factor of the term",
    "loo_min": "Smallest estimate with one participant (one site) left out",
    "loo_max": "Largest estimate with one participant (one site) left out",
    "status": "ok, or what must be known of this row",
}


@dataclass(frozen=True)
class CohortData:
    """The cohort as columns: one entry a unit, outcomes by region with NaN where there is none.

    ``patient`` is True for patients; ``baseline`` for the first session of a participant; ``participant``
    its label.
    """

    columns: Mapping[str, Array]
    outcomes: Mapping[str, Array]
    patient: Array
    participant: Array
    baseline: Array
    unit: str = "1/s"

    def where(self, rows: Array) -> CohortData:
        """Only some units."""
        return CohortData(
            {name: values[rows] for name, values in self.columns.items()},
            {name: values[rows] for name, values in self.outcomes.items()},
            self.patient[rows], self.participant[rows], self.baseline[rows], self.unit,
        )  # fmt: skip


def counted(row: Row, patient: Array, n_eligible: int) -> Row:
    """A row with its counts: ``patient`` (N,) over the used rows, of ``n_eligible``."""
    n = int(patient.size)
    n_patients = int(patient.sum())
    return {
        **row,
        "n": n,
        "n_reference": n - n_patients,
        "n_patients": n_patients,
        "n_missing": n_eligible - n,
    }


def estimated(row: Row, estimate: Estimate, se_type: str, unit: str) -> Row:
    """A row with an estimate."""
    return {
        **row, "estimate": estimate.estimate, "unit": unit, "se": estimate.se, "se_type": se_type, "df": estimate.df,
        "ci_low": estimate.ci_low, "ci_high": estimate.ci_high, "statistic": estimate.statistic, "p": estimate.p,
    }  # fmt: skip


def with_status(row: Row, *notes: str) -> Row:
    """A row with further notes; ``ok`` only where there is none."""
    known = [note for note in str(row.get("status", "")).split("; ") if note and note != "ok"]
    return {**row, "status": "; ".join(dict.fromkeys([*known, *(note for note in notes if note)])) or "ok"}


def is_number(value: object) -> bool:
    """Whether a cell holds a finite number."""
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))
