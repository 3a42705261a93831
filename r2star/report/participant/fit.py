"""Residual, standard error, status of each voxel, and the decay of each region with its fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from r2star.fit.status import Status
from r2star.report.decay import plot_decays
from r2star.report.facts import UnitFacts
from r2star.report.pictures import Cut, Layer, cuts_through, draw_codes, draw_cuts

#: Colours of the status codes: grey for a plain optimum, Okabe and Ito's for what deserves a look.
STATUS_COLOURS = {
    Status.OK: "#4d4d4d", Status.NO_SIGNAL: "#CC79A7", Status.NOT_FINITE: "#F0E442", Status.NEGATIVE: "#FFFFFF",
    Status.TOO_FEW_ECHOES: "#E69F00", Status.BELOW_NOISE_FLOOR: "#0072B2", Status.AT_BOUND: "#D55E00",
    Status.NOT_CONVERGED: "#F0E442", Status.RISING: "#E69F00", Status.ECHOES_DROPPED: "#56B4E9",
    Status.SATURATED: "#009E73", Status.ECHO_LOST: "#D55E00",
}  # fmt: skip


def make(unit: UnitFacts) -> dict[str, Any] | None:
    """Three rows of slices, shares of the status codes, and the decay curves."""
    if unit.error is not None:
        return None
    context: dict[str, Any] = {"rows": [], "status": [], "decay": plot_decays(unit)}
    volumes = unit.volumes
    if volumes is not None:
        where = volumes.labels > 0 if np.any(volumes.labels > 0) else volumes.brain
        cuts = cuts_through(where, 2, 6)
        context["rows"] = _pictures(unit, cuts)
        context["status"] = _shares(unit)
    return context if context["decay"] or context["rows"] else None


def _pictures(unit: UnitFacts, cuts: list[Cut]) -> list[dict[str, str]]:
    volumes = unit.volumes
    assert volumes is not None
    drawn = []
    for name, title, label, text in (
        ("residual", "Residual", "residual (% of S0)", "Residual of the fit in percent of S0"),
        ("stderr", "Standard error", "standard error of R2* (1/s)", "Standard error of R2*"),
    ):
        values = volumes.maps.get(name)
        if values is None or not np.isfinite(values[volumes.brain]).any():
            drawn.append({"title": title, "text": text, "picture": ""})
            continue
        scaled = values * 100 if name == "residual" else values
        inside = scaled[volumes.brain & np.isfinite(scaled)]
        layer = Layer(scaled, "viridis", 0.0, _round_up(float(np.percentile(inside, 98))), label)
        drawn.append({"title": title, "text": text, "picture": draw_cuts(volumes, layer, cuts, columns=6)})
    if "status" in volumes.maps:
        colours = {int(code): colour for code, colour in STATUS_COLOURS.items()}
        picture = draw_codes(volumes, volumes.maps["status"], colours, cuts, 6)
        drawn.append(
            {"title": "Status", "text": "Why a voxel has no value, or is doubtful", "picture": picture}
        )
    return drawn


def _round_up(value: float) -> float:
    """The next number of one digit, so that scales read well.

    >>> _round_up(0.23), _round_up(7.1)
    (0.3, 8.0)
    """
    if not value > 0:
        return 1.0
    size = 10.0 ** np.floor(np.log10(value))
    return float(np.round(np.ceil(value / size - 1e-9) * size, 12))


def _shares(unit: UnitFacts) -> list[dict[str, str]]:
    """What share of the brain has each status."""
    volumes = unit.volumes
    assert volumes is not None
    if "status" not in volumes.maps:
        return []
    codes = np.asarray(volumes.maps["status"])[volumes.brain].astype(int)
    rows = []
    for code in Status:
        share = float((codes == int(code)).mean()) if codes.size else 0.0
        if share > 0:
            colour = STATUS_COLOURS.get(code, "#000000")
            label = code.label.replace("_", " ")
            rows.append({"label": label, "meaning": code.meaning, "share": _percent(share), "colour": colour})
    return rows


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share >= 0.0005 else "< 0.05 %"
