"""The decay of each region: what was measured at each echo, the fit, and its band. May import matplotlib (late)."""

from __future__ import annotations

import numpy as np

from r2star.report.facts import Row, UnitFacts, in_prose, number
from r2star.report.group_style import BLUE, VERMILION, add_legend, marker, panel_grid, style
from r2star.report.pictures import svg_uri

_SIDES = {"L": ("left", BLUE, -1), "R": ("right", VERMILION, 1)}


def plot_decays(unit: UnitFacts) -> str:
    """One panel a region, signal over S0 against echo time; an SVG data URI, empty where no region was measured."""
    if not unit.decay:
        return ""
    import matplotlib as mpl

    regions = list(dict.fromkeys(row["region"] for row in unit.decay))
    with mpl.rc_context(style()):
        figure, axes = panel_grid(len(regions), columns=4, width=2.2, height=1.75)
        for axis, region in zip(axes, regions):
            for side in _SIDES:
                rows = [row for row in unit.decay if row["region"] == region and row["hemisphere"] == side]
                if rows:
                    _draw(axis, rows, side)
            axis.set_title(in_prose(region))
            axis.set_ylim(0, 1.12)
            axis.set_xlim(0, None)
        for axis in axes[-4:]:
            axis.set_xlabel("Echo time (ms)")
        for axis in axes[::4]:
            axis.set_ylabel("Signal / S0")
        add_legend(figure, [marker(colour, name) for name, colour, _ in _SIDES.values()])
        return svg_uri(figure)


def _draw(axis: object, rows: list[Row], side: str) -> None:
    _, colour, shift = _SIDES[side]
    values = {
        name: np.array([number(row[name]) for row in rows])
        for name in rows[0]
        if name[:3] in ("ech", "sig", "fit")
    }
    times = values["echo_time_s"]
    curve_times = np.linspace(0, times[-1] * 1.05, 60)
    low, middle, high = (
        np.exp(-_rate(values[name], times) * curve_times) for name in ("fit_p05", "fit_median", "fit_p95")
    )
    axis.fill_between(1000 * curve_times, low, high, color=colour, alpha=0.13, lw=0)  # type: ignore[attr-defined]
    axis.plot(1000 * curve_times, middle, color=colour)  # type: ignore[attr-defined]
    signal = values["signal_median"]
    reach = np.abs(np.stack([signal - values["signal_p25"], values["signal_p75"] - signal]))
    places = 1000 * times + shift * 0.006 * 1000 * times[-1]
    axis.errorbar(places, signal, reach, fmt="o", ms=2.6, color=colour, elinewidth=0.8, lw=0)  # type: ignore[attr-defined]


def _rate(fitted: np.ndarray, times: np.ndarray) -> float:
    """The rate behind exp(−R t): the fit is told at the echo times, the curve runs from 0."""
    return float(-np.log(np.maximum(fitted[-1], 1e-12)) / times[-1])
