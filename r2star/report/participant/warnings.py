"""What went wrong or was noticed, and what to do about it."""

from __future__ import annotations

from typing import Any

from r2star.report.facts import UnitFacts


def make(unit: UnitFacts) -> dict[str, Any] | None:
    """The error of a failed unit, or the warnings of a complete one; a sentence where there are none."""
    return {"error": unit.error, "notices": list(unit.notices)}
