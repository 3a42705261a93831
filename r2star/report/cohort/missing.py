"""Who and what is not there: units left out with the reason, and missing values by covariate."""

from __future__ import annotations

from typing import Any

from r2star.report.cohort_facts import CohortFacts


def make(cohort: CohortFacts) -> dict[str, Any] | None:
    """Two tables."""
    missing = [
        {
            "name": name.replace("_", " "), "missing": gone, "of": whole,
            "percent": f"{100 * gone / whole:.1f}" if whole else "n/a",
        }
        for name, (gone, whole) in cohort.missing.items()
    ]  # fmt: skip
    return {"exclusions": list(cohort.exclusions), "missing": missing}
