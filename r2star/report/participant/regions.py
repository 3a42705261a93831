"""R2* of each region and side, beside the range of healthy adults; sortable."""

from __future__ import annotations

import math
from typing import Any

from r2star.report.facts import NormRange, Row, UnitFacts, in_prose, number

BAR_WIDTH = 120.0


def make(unit: UnitFacts) -> dict[str, Any] | None:
    """Rows of the main segmentation and of its sub-regions."""
    rows = [row for row in unit.region_rows if row["hemisphere"] != "LR"]
    if not rows:
        return None
    main = rows[0]["segmentation"]
    values = [number(row["r2star_median_per_s"]) for row in rows]
    ends = [norm.high_per_s for norm in unit.norms.values()]
    top = max(*(value for value in values if math.isfinite(value)), *ends, 1.0, 0.0)
    tables = [
        {"title": title, "rows": [_row(row, unit.norms.get(row["region"]), 1.05 * top) for row in chosen]}
        for title, chosen in (
            ("Regions", [row for row in rows if row["segmentation"] == main]),
            ("Sub-regions", [row for row in rows if row["segmentation"] != main]),
        )
        if chosen
    ]
    sources = list(dict.fromkeys(norm.source for norm in unit.norms.values()))
    has_bias = any(row["gradient_bias_per_s"] != "n/a" for row in rows)
    return {"tables": tables, "sources": sources, "has_bias": has_bias, "width": BAR_WIDTH, "top": 1.05 * top}


def _row(row: Row, norm: NormRange | None, top: float) -> dict[str, Any]:
    value, error = number(row["r2star_median_per_s"]), number(row["r2star_stderr_per_s"])
    scale = BAR_WIDTH / top
    return {
        "name": in_prose(row["region"]),
        "side": {"L": "left", "R": "right"}[row["hemisphere"]],
        "value": _plain(value, 1),
        "error": _plain(error, 2),
        "sort": {"value": row["r2star_median_per_s"], "error": row["r2star_stderr_per_s"]},
        "place": value * scale if math.isfinite(value) else None,
        "norm": None if norm is None else {
            "x": norm.low_per_s * scale, "width": (norm.high_per_s - norm.low_per_s) * scale,
            "text": f"{norm.low_per_s:.0f}–{norm.high_per_s:.0f}", "word": _word(value, norm),
        },
        "volume": _plain(number(row["volume_mm3"]), 0),
        "n_valid": row["n_valid"],
        "coverage": _plain(100 * number(row["coverage"]), 0),
        "snr": _plain(number(row["snr_last_echo"]), 0),
        "residual": _plain(100 * number(row["fit_residual"]), 2),
        "bias": _plain(number(row["gradient_bias_per_s"]), 2),
        "warnings": "" if row["warnings"] == "n/a" else row["warnings"].replace(";", ", "),
    }  # fmt: skip


def _word(value: float, norm: NormRange) -> str:
    if not math.isfinite(value):
        return "no value"
    if value < norm.low_per_s:
        return "below"
    return "above" if value > norm.high_per_s else "within"


def _plain(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "n/a"
