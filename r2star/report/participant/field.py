"""The static field, its gradient, and what the gradient adds to R2*."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.report.facts import UnitFacts
from r2star.report.methods import is_corrected
from r2star.report.pictures import Layer, cuts_through, draw_cuts


def make(unit: UnitFacts) -> dict[str, Any] | None:
    """A row of slices for each map that there is."""
    volumes = unit.volumes
    if volumes is None or "b0" not in volumes.maps:
        return None
    cuts = cuts_through(volumes.brain, 2, 6)
    rows = []
    reach = _top(np.abs(volumes.maps["b0"]), 98)
    plans = [("b0", "Static field off resonance", "B0 (Hz)", "berlin", -reach, reach)]
    if "gradient" in volumes.maps:
        top = _top(volumes.maps["gradient"], 98)
        plans.append(("gradient", "Size of its gradient", "gradient of B0 (µT/m)", "viridis", 0.0, top))
    if "bias" in volumes.maps:
        top = max(_top(volumes.maps["bias"], 98), 1.0)
        plans.append(("bias", "What it adds to R2*", "bias of R2* (1/s)", "viridis", 0.0, top))
    for name, title, label, colours, low, high in plans:
        layer = Layer(volumes.maps[name], colours, low, high, label)
        rows.append({"title": title, "picture": draw_cuts(volumes, layer, cuts, columns=6, outline=True)})
    dephasing = unit.field_facts.get("Dephasing", {})
    return {
        "rows": rows,
        "corrected": is_corrected(unit),
        "has_bias": "bias" in volumes.maps,
        "reason": str(dephasing.get("reason", "")) if isinstance(dephasing, dict) else "",
    }


def _top(values: NDArray[Any], percentile: float) -> float:
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, percentile)) if finite.size else 1.0
