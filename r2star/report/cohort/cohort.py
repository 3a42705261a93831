"""Who takes part: covariates of controls and patients at their first session."""

from __future__ import annotations

from typing import Any

from r2star.report.cohort_facts import CohortFacts


def make(cohort: CohortFacts) -> dict[str, Any] | None:
    """The table of covariates."""
    return {"rows": list(cohort.covariates)} if cohort.covariates else None
