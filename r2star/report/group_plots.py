"""Figures of the people of a cohort: by course, by age, left against right, and who takes part.

Each gives a matplotlib figure, or ``None`` with nothing to draw. May import group and, inside functions, matplotlib.
No randomness: points are spread by their rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from r2star.group.ages import OLDEST_SHOWN_AGE
from r2star.report.group_data import FigureData
from r2star.report.group_style import (
    CONTROL_COLOUR,
    GROUP_COLOURS,
    PATIENT_COLOUR,
    add_legend,
    age_ticks,
    marker,
    name_axes,
    panel_grid,
    points,
    spread,
)  # fmt: skip


def plot_courses(figures: FigureData) -> Any:
    """Points and means by course of disease (or by group)."""
    data = figures.data.where(figures.data.baseline)
    labels = data.columns.get("course", np.where(data.patient, "patient", "control").astype(object))
    known = ["control", "CIS", "RR", "progressive"]
    groups = [name for name in known if (labels == name).any()]
    groups += sorted(set(labels.tolist()) - set(known) - {""})
    if len(groups) < 2 or len(groups) > len(GROUP_COLOURS):
        return None
    figure, axes = panel_grid(len(data.outcomes), header_in=0.1)
    for axis, (region, values) in zip(axes, data.outcomes.items()):
        for k, (name, colour) in enumerate(zip(groups, GROUP_COLOURS)):
            group = values[(labels == name) & np.isfinite(values)]
            points(axis, k + spread(group), group, colour)
            if group.size > 1:
                reach = 1.96 * group.std(ddof=1) / np.sqrt(group.size)
                axis.errorbar(
                    k, group.mean(), reach, color="black", capsize=3, marker="_", markersize=11, lw=1.2
                )
        counts = [int(((labels == name) & np.isfinite(values)).sum()) for name in groups]
        axis.set_xticks(range(len(groups)), [f"{name}\nn={n}" for name, n in zip(groups, counts)])
        axis.set_xlim(-0.6, len(groups) - 0.4)
        name_axes(axis, region, "", figures.label)
    return figure


def plot_ages(figures: FigureData) -> Any:
    """Age curves with the controls' band."""
    if not figures.norms:
        return None
    data = figures.data.where(figures.data.baseline)
    age = np.minimum(data.columns["age"], OLDEST_SHOWN_AGE)
    regions = [region for region in data.outcomes if region in figures.norms]
    figure, axes = panel_grid(len(regions))
    for axis, region in zip(axes, regions):
        norm, values = figures.norms[region], data.outcomes[region]
        shown = norm.ages <= OLDEST_SHOWN_AGE
        x, y, se, sd = norm.ages[shown], norm.expected[shown], norm.expected_se[shown], norm.sd[shown]
        axis.fill_between(x, y - 1.96 * sd, y + 1.96 * sd, color=CONTROL_COLOUR, alpha=0.13, lw=0)
        axis.fill_between(x, y - 1.96 * se, y + 1.96 * se, color=CONTROL_COLOUR, alpha=0.35, lw=0)
        axis.plot(x, y, color=CONTROL_COLOUR)
        for patient, colour in ((False, CONTROL_COLOUR), (True, PATIENT_COLOUR)):
            rows = data.patient == patient
            points(axis, age[rows], values[rows], colour)
        age_ticks(axis)
        name_axes(axis, region, "Age (years)", figures.label)
    add_legend(figure, [marker(CONTROL_COLOUR, "controls"), marker(PATIENT_COLOUR, "patients")])
    return figure


def plot_sides(figures: FigureData) -> Any:
    """Left against right."""
    base, patient = figures.data.baseline, figures.data.patient
    regions = [name for name in figures.data.outcomes if np.isfinite(figures.left.get(name, np.nan)).any()]
    if not regions:
        return None
    figure, axes = panel_grid(len(regions))
    for axis, region in zip(axes, regions):
        left, right = figures.left[region][base], figures.right[region][base]
        for group, colour in ((False, CONTROL_COLOUR), (True, PATIENT_COLOUR)):
            rows = patient[base] == group
            points(axis, right[rows], left[rows], colour)
        both = np.concatenate([left, right])
        low, high = np.nanmin(both), np.nanmax(both)
        axis.plot([low, high], [low, high], color="0.4", lw=0.8, linestyle="--")
        difference = (left - right)[np.isfinite(left - right)]
        reach = 1.96 * difference.std(ddof=1) / np.sqrt(difference.size) if difference.size > 1 else np.nan
        text = f"L − R {difference.mean():+.2f} ± {reach:.2f}".replace("-", "−")
        axis.text(0.04, 0.95, text, transform=axis.transAxes, va="top", fontsize=6.5)
        axis.set_aspect("equal", adjustable="datalim")
        name_axes(axis, region, f"Right {figures.label}", f"Left {figures.label}")
    add_legend(figure, [marker(CONTROL_COLOUR, "controls"), marker(PATIENT_COLOUR, "patients")])
    return figure


def plot_flow(figures: FigureData) -> Any:
    """Boxes from units found to units analysed, and bars of missing covariates."""
    if not figures.flow:
        return None
    n_bars = len(figures.missing)
    from matplotlib.figure import Figure

    height = max(0.75 * len(figures.flow), 0.24 * n_bars + 0.8, 2.0)
    figure = Figure(figsize=(6.9, height), layout="constrained")
    boxes, bars = figure.subplots(1, 2, width_ratios=(1.25, 1))
    boxes.set_axis_off()
    boxes.set_xlim(-0.06, 1)
    boxes.set_ylim(-len(figures.flow) + 0.4, 0.6)
    for k, (text, count, left_out) in enumerate(figures.flow):
        boxes.text(
            0.24,
            -k,
            f"{text}\nn = {count}",
            ha="center",
            va="center",
            bbox={"boxstyle": "round,pad=0.5", "fc": "white", "lw": 0.7},
        )
        if k:
            boxes.annotate(
                "", (0.24, -k + 0.27), (0.24, -k + 0.73), arrowprops={"arrowstyle": "->", "lw": 0.7}
            )
        if left_out:
            boxes.annotate("", (0.52, -k + 0.5), (0.24, -k + 0.5), arrowprops={"arrowstyle": "->", "lw": 0.7})
            boxes.text(0.54, -k + 0.5, left_out, ha="left", va="center", fontsize=6.5)
    _missing_bars(bars, figures.missing)
    return figure


def _missing_bars(axis: Any, missing: Mapping[str, tuple[int, int]]) -> None:
    if not missing:
        axis.set_axis_off()
        return
    names = list(missing)
    shares = [100 * gone / max(whole, 1) for gone, whole in missing.values()]
    axis.barh(range(len(names)), shares, color=GROUP_COLOURS[1], height=0.6)
    for k, (gone, whole) in enumerate(missing.values()):
        axis.text(shares[k] + max([*shares, 1]) * 0.02, k, f"{gone} of {whole}", va="center", fontsize=6.5)
    axis.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlim(0, max([*shares, 1]) * 1.35)
    axis.set_xlabel("missing (%)")
