"""What went in, how, and what came out, with hashes. What changes between equal runs, time, is told elsewhere."""

from __future__ import annotations

from typing import Any

from r2star.report.facts import UnitFacts
from r2star.report.methods import as_plain


def make(unit: UnitFacts) -> dict[str, Any] | None:
    """Settings, software, inputs and outputs."""
    if unit.error is not None:
        return None
    return {
        "settings": [(name, as_plain(value)) for name, value in sorted(unit.settings.items())],
        "software": list(unit.software.items()),
        "inputs": sorted(unit.inputs.items()),
        "outputs": sorted(unit.outputs.items()),
    }
