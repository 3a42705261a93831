"""Counts, what the primary tests found in a sentence each, and what must be known before believing them."""

from __future__ import annotations

from typing import Any

from r2star.report.cohort.effects import finding_of
from r2star.report.cohort.quality import confounded
from r2star.report.cohort_facts import CohortFacts


def make(cohort: CohortFacts) -> dict[str, Any] | None:
    """The first half minute."""
    tested = [result for result in cohort.results if any(row.get("family") for row in result.rows)]
    findings = [(result.spec.name, finding_of(result)) for result in tested]
    outlying = sum(1 for unit in cohort.quality if unit.outlying)
    doubtful = sum(unit.verdict == "doubtful" for unit in cohort.quality)
    failed = sum(unit.verdict == "fail" for unit in cohort.quality)
    counts = [
        ("Units", cohort.n_units), ("Participants", cohort.n_participants), ("Controls", cohort.n_controls),
        ("Patients", cohort.n_patients), ("Group not known", cohort.n_unknown),
        ("Units left out", len(cohort.exclusions)), ("Units with an outlying measure", outlying),
        ("Doubtful units", doubtful), ("Failed by their measures", failed),
    ]  # fmt: skip
    return {
        "counts": [
            one for one in counts if one[1] or one[0] in ("Units", "Participants", "Controls", "Patients")
        ],
        "findings": findings,
        "confounded": confounded(cohort),
        "notices": list(cohort.notices),
    }
