"""Methods text to be pasted into a paper, with its references."""

from __future__ import annotations

from typing import Any

from r2star.report.facts import UnitFacts
from r2star.report.methods import methods_text, references_in


def make(unit: UnitFacts) -> dict[str, Any] | None:
    """The text and the references that it cites."""
    if unit.error is not None:
        return None
    text = methods_text(unit)
    return {"text": text, "references": references_in([text])}
