"""R2* in slices through the deep grey matter, with the contours of the regions."""

from __future__ import annotations

from typing import Any

import numpy as np

from r2star.report.facts import UnitFacts
from r2star.report.pictures import Layer, colour_of, cuts_through, draw_cuts

#: Top of the colour scale at 3 T, 1/s; it grows with field as R2* does.
TOP_AT_3T_PER_S = 60.0


def top_of_scale(unit: UnitFacts) -> float:
    """Upper end of the colour scale in 1/s: the same for all units of one field strength."""
    field = unit.acquisition.get("MagneticFieldStrength")
    return TOP_AT_3T_PER_S * (float(field) / 3.0 if isinstance(field, int | float) and field > 0 else 1.0)


def make(unit: UnitFacts) -> dict[str, Any] | None:
    """Axial slices with and without contours, and coronal and sagittal ones."""
    volumes = unit.volumes
    if volumes is None:
        return None
    where = volumes.labels > 0 if np.any(volumes.labels > 0) else volumes.brain
    layer = Layer(volumes.maps["r2star"], "magma", 0.0, top_of_scale(unit), "R2* (1/s)")
    axial = cuts_through(where, 2, 8)
    others = cuts_through(where, 1, 3) + cuts_through(where, 0, 3)
    return {
        "bare": draw_cuts(volumes, layer, axial, columns=4),
        "contoured": draw_cuts(volumes, layer, axial, columns=4, regions=unit.regions),
        "others": draw_cuts(volumes, layer, others, columns=3, regions=unit.regions, bar=False),
        "legend": list(colour_of(unit.regions).items()),
        "top": top_of_scale(unit),
    }
