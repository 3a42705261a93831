"""What was run: settings and software; nothing that changes between equal runs."""

from __future__ import annotations

from typing import Any

from r2star.report.cohort_facts import CohortFacts


def make(cohort: CohortFacts) -> dict[str, Any] | None:
    """Settings and versions."""
    return {"settings": sorted(cohort.settings.items()), "software": sorted(cohort.software.items())}
