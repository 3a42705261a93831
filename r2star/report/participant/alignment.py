"""MEGRE, T1w and template in the same slices, to be flicked through: contours and brains should agree."""

from __future__ import annotations

from typing import Any

import numpy as np

from r2star.report.facts import UnitFacts, in_prose, number
from r2star.report.pictures import Layer, cuts_through, draw_cuts

_FRAMES = {
    "megre": ("MEGRE", "Multi-echo image (the fitted signal at the last echo time)"),
    "t1w": ("T1w", "T1-weighted image, brought to the grid of the multi-echo image"),
    "template": ("Template", "Template, brought to the grid of the multi-echo image"),
}


def make(unit: UnitFacts) -> dict[str, Any] | None:
    """One picture a contrast, all of the same slices, and the measures of the registrations."""
    volumes = unit.volumes
    rows = [
        {"part": row["part"].replace("_", " "), "title": in_prose(row["metric"].removeprefix("registration_")),
         "value": f"{number(row['value']):.3g}", "verdict": row["verdict"]}
        for row in unit.quality if row["metric"].startswith("registration_")
    ]  # fmt: skip
    if volumes is None or not rows:
        return None
    where = volumes.labels > 0 if np.any(volumes.labels > 0) else volumes.brain
    cuts = cuts_through(where, 2, 4) + cuts_through(where, 1, 2) + cuts_through(where, 0, 2)
    frames = []
    for name, (title, text) in _FRAMES.items():
        if name in volumes.maps:
            values = volumes.maps[name]
            inside = values[volumes.brain & np.isfinite(values)]
            low, high = np.percentile(inside, (1, 99.5)) if inside.size else (0.0, 1.0)
            layer = Layer(values, "gray", float(low), float(max(high, low + 1e-6)))
            picture = draw_cuts(
                volumes, layer, cuts, columns=4, regions=unit.regions, outline=True, bar=False
            )
            frames.append({"name": name, "title": title, "text": text, "picture": picture})
    return {"frames": frames, "rows": rows}
