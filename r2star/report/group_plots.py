"""The figures of the second level, drawn from arrays. Each gives a matplotlib figure, or ``None`` with nothing to draw.

May import group and, inside functions, matplotlib. No randomness: points are spread by their rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from r2star.group.analyse import ModelResult
from r2star.group.design import DesignRules, build_design
from r2star.group.formula import Formula
from r2star.group.joint import RegionFit
from r2star.group.ols import estimate_contrast, fit_ols, rank_deficient
from r2star.group.rows import CohortData, Row, is_number
from r2star.report.group_style import (
    CONTROL_COLOUR,
    GROUP_COLOURS,
    OLDEST_SHOWN_AGE,
    PATIENT_COLOUR,
    add_legend,
    age_ticks,
    line,
    marker,
    panel_grid,
    title_of,
)  # fmt: skip

R2STAR_LABEL = "R2* (1/s)"
MANY_POINTS = 1000


#: Terms of the built-in models, as a reader of the figures calls them.
PROSE = {
    "group": "Patients − controls",
    "disease_duration_years": "Disease duration (years)",
    "edss": "EDSS",
    "log(lesion_volume_ml)": "log lesion volume (mL)",
    "cortical_volume_ml": "Cortical volume (mL)",
}


@dataclass(frozen=True)
class AgeCurve:
    """A norm by age: expected value, its standard error and the SD of controls, all (K,)."""

    ages: Any
    expected: Any
    expected_se: Any
    sd: Any


@dataclass(frozen=True)
class FigureData:
    """What the figures show: the cohort, the two sides, the norms, the results, and who was left out why."""

    data: CohortData
    left: Mapping[str, Any]
    right: Mapping[str, Any]
    norms: Mapping[str, AgeCurve]
    results: Sequence[ModelResult]
    rules: DesignRules
    flow: Sequence[tuple[str, int, str]] = ()
    missing: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    label: str = R2STAR_LABEL

    def result(self, name: str) -> ModelResult | None:
        """The result of a model, if it was run."""
        return next((result for result in self.results if result.spec.name.partition("@")[0] == name), None)


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
            _points(axis, k + _spread(group), group, colour)
            if group.size > 1:
                reach = 1.96 * group.std(ddof=1) / np.sqrt(group.size)
                axis.errorbar(
                    k, group.mean(), reach, color="black", capsize=3, marker="_", markersize=11, lw=1.2
                )
        counts = [int(((labels == name) & np.isfinite(values)).sum()) for name in groups]
        axis.set_xticks(range(len(groups)), [f"{name}\nn={n}" for name, n in zip(groups, counts)])
        axis.set_xlim(-0.6, len(groups) - 0.4)
        _name(axis, region, "", figures.label)
    return figure


def _spread(values: Any) -> Any:
    """Horizontal places of points, such that near values lie side by side: a quasi-random sequence by rank."""
    if values.size < 2:
        return np.zeros(values.size)
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    counts, edges = np.histogram(values, bins=max(8, round(np.sqrt(values.size))))
    smooth = np.convolve(counts, (0.25, 0.5, 0.25), mode="same")
    density = np.interp(values, (edges[1:] + edges[:-1]) / 2, smooth)
    golden = (ranks * 0.6180339887498949) % 1 - 0.5
    return 0.62 * golden * density / max(density.max(), 1e-12)


def _points(axis: Any, x: Any, y: Any, colour: str, size: float = 5, alpha: float = 0.55) -> None:
    """Points; of very many, smaller ones, which the vector file holds as a picture."""
    many = np.size(y) > MANY_POINTS
    axis.scatter(
        x,
        y,
        s=size / 3 if many else size,
        color=colour,
        alpha=alpha / 2 if many else alpha,
        linewidths=0,
        rasterized=many,
    )


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
            _points(axis, age[rows], values[rows], colour)
        age_ticks(axis)
        _name(axis, region, "Age (years)", figures.label)
    add_legend(figure, [marker(CONTROL_COLOUR, "controls"), marker(PATIENT_COLOUR, "patients")])
    return figure


def plot_forest(figures: FigureData) -> Any:
    """Effects by region, one panel a term."""
    panels = _forest_panels(figures)
    if not panels:
        return None
    n_regions = max(len(rows) for _, rows in panels)
    figure, axes = panel_grid(len(panels), columns=3, height=0.55 + 0.23 * n_regions)
    limits = _forest_limits(panels)
    for axis, (term, rows) in zip(axes, panels):
        for k, row in enumerate(rows):
            value, low, high = _standard(row)
            significant = is_number(row.get("p_adjusted")) and row["p_adjusted"] < 0.05
            colour = PATIENT_COLOUR if significant else "0.35"
            axis.plot([low, high], [k, k], color=colour, lw=1.3)
            axis.scatter(
                value, k, s=20, color=colour if significant else "white", edgecolors=colour, zorder=3
            )
        axis.axvline(0, color="0.6", lw=0.7, zorder=0)
        axis.set_yticks(range(len(rows)), [title_of(str(row["region"])) for row in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.set_xlim(limits[_scale_of(rows)])
        axis.set_title(_in_prose(term))
        axis.set_xlabel(_scale_of(rows))
    add_legend(
        figure, [marker(PATIENT_COLOUR, "p < 0.05, adjusted"), marker("#595959", "other", filled=False)]
    )
    return figure


def _scale_of(rows: Sequence[Row]) -> str:
    return "Hedges' g" if is_number(rows[0].get("hedges_g")) else "standardised β"


def _forest_limits(panels: Sequence[tuple[str, list[Row]]]) -> dict[str, tuple[float, float]]:
    """One range for all panels of one scale, so that effects can be compared."""
    ends: dict[str, list[float]] = {}
    for _, rows in panels:
        ends.setdefault(_scale_of(rows), [-0.1, 0.1]).extend(
            end for row in rows for end in _standard(row)[1:]
        )
    room = {scale: 0.08 * float(np.ptp(found)) for scale, found in ends.items()}
    return {scale: (min(found) - room[scale], max(found) + room[scale]) for scale, found in ends.items()}


def _forest_panels(figures: FigureData) -> list[tuple[str, list[Row]]]:
    panels = []
    for model in ("group", "course", "determinants"):
        result = figures.result(model)
        rows = (
            [row for row in result.rows if row.get("family") and ":" not in str(row["model"])]
            if result
            else []
        )
        for term in dict.fromkeys(str(row["term"]) for row in rows):
            chosen = [row for row in rows if row["term"] == term and all(map(is_number, _standard(row)))]
            if chosen and not (model == "determinants" and term == "group"):
                panels.append((term, chosen))
    return panels


def _in_prose(term: str) -> str:
    return PROSE.get(term, term.replace("_", " ").replace(" - ", " − "))


def _standard(row: Row) -> tuple[float, float, float]:
    """Hedges' g with its interval, or standardised β with the interval of the estimate on its scale."""
    if is_number(row.get("hedges_g")):
        return row["hedges_g"], row["hedges_g_ci_low"], row["hedges_g_ci_high"]
    if not is_number(row.get("standardised_beta")) or not row.get("estimate"):
        return (float("nan"),) * 3
    scale = row["standardised_beta"] / row["estimate"]
    return row["standardised_beta"], row["ci_low"] * scale, row["ci_high"] * scale


def plot_partial_residuals(figures: FigureData) -> Any:
    """Partial residuals of the numeric determinants, regions by covariates."""
    result = figures.result("determinants")
    if result is None or not result.fits:
        return None
    tested = [test.term for test in result.spec.tests if test.term and test.term != "group"]
    fits = list(result.fits.values())
    terms = [term for term in tested if all(_has_slope(fit, term) for fit in fits)]
    if not terms:
        return None
    figure, axes = panel_grid(
        len(fits) * len(terms), columns=len(terms), width=1.85, height=1.6, header_in=0.05
    )
    for index, axis in enumerate(axes):
        fit, term = fits[index // len(terms)], terms[index % len(terms)]
        _partial_residuals(axis, fit, term)
        if index % len(terms) == 0:
            axis.set_ylabel(f"{title_of(fit.region)}\npartial R2* (1/s)")
        if index // len(terms) == len(fits) - 1:
            axis.set_xlabel(f"{_in_prose(term)}\ncentred")
    return figure


def _has_slope(fit: RegionFit, term: str) -> bool:
    """Whether a term is one number that could be estimated."""
    columns = fit.design.columns_of(term)
    return len(columns) == 1 and bool(fit.kept[columns[0]]) and bool(fit.design.active[:, columns[0]].any())


def _partial_residuals(axis: Any, fit: RegionFit, term: str) -> None:
    column = fit.design.columns_of(term)[0]
    kept = int((np.cumsum(fit.kept) - 1)[column])
    active = fit.design.active[:, column]
    x = fit.fit.matrix[active, kept]
    partial = fit.fit.residuals[active] + fit.fit.beta[kept] * x
    _points(axis, x, partial, PATIENT_COLOUR)
    grid = np.linspace(x.min(), x.max(), 50)
    one = estimate_contrast(fit.fit, np.eye(fit.fit.beta.size)[kept])
    axis.fill_between(grid, one.ci_low * grid, one.ci_high * grid, color="black", alpha=0.15, lw=0)
    axis.plot(grid, one.estimate * grid, color="black", lw=1.1)


def plot_sites(figures: FigureData) -> Any:
    """Residuals by site, before and after adjustment for site."""
    result = figures.result("group")
    if result is None or "site" not in result.spec.formula.columns or not result.fits:
        return None
    fits = list(result.fits.values())
    figure, axes = panel_grid(2 * len(fits), columns=2, width=3.3, height=1.3, header_in=0.05)
    for k, fit in enumerate(fits):
        before, after = _site_residuals(fit, result.spec.formula, figures.rules)
        sites = fit.data.columns["site"][fit.design.rows]
        levels = sorted(set(sites.tolist()))
        limit = 1.08 * max(np.abs(before).max(), np.abs(after).max())
        for axis, residuals in zip(axes[2 * k : 2 * k + 2], (before, after)):
            groups = [residuals[sites == level] for level in levels]
            thin = {"lw": 0.6}
            axis.boxplot(
                groups, widths=0.6, showfliers=False, medianprops={"color": PATIENT_COLOUR},
                whiskerprops=thin, boxprops=thin, capprops=thin,
            )  # fmt: skip
            for place, group in enumerate(groups, start=1):
                _points(axis, place + 0.7 * _spread(group), group, "0.4", size=3)
            axis.axhline(0, color="0.6", lw=0.6, zorder=0)
            axis.set_ylim(-limit, limit)
            shown = levels if k == len(fits) - 1 else [""] * len(levels)
            axis.set_xticks(
                range(1, len(levels) + 1),
                shown,
                rotation=40 if len(levels) > 4 else 0,
                ha="right" if len(levels) > 4 else "center",
            )
        axes[2 * k].set_ylabel(f"{title_of(fit.region)}\n(1/s)")
        if k == 0:
            axes[0].set_title("before")
            axes[1].set_title("after adjustment for site")
    return figure


def _site_residuals(fit: RegionFit, formula: Formula, rules: DesignRules) -> tuple[Any, Any]:
    """Residuals of the model without site, and of the model itself."""
    terms = tuple(term for term in formula.terms if term.variables[0].column != "site")
    design = build_design(Formula(terms), fit.data.columns, fit.data.patient, rules, rows=fit.design.rows)
    kept = ~rank_deficient(design.matrix)
    outcome = fit.data.outcomes[fit.region][design.rows]
    return fit_ols(design.matrix[:, kept], outcome).residuals, fit.fit.residuals


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
            _points(axis, right[rows], left[rows], colour)
        both = np.concatenate([left, right])
        low, high = np.nanmin(both), np.nanmax(both)
        axis.plot([low, high], [low, high], color="0.4", lw=0.8, linestyle="--")
        difference = (left - right)[np.isfinite(left - right)]
        reach = 1.96 * difference.std(ddof=1) / np.sqrt(difference.size) if difference.size > 1 else np.nan
        text = f"L − R {difference.mean():+.2f} ± {reach:.2f}".replace("-", "−")
        axis.text(0.04, 0.95, text, transform=axis.transAxes, va="top", fontsize=6.5)
        axis.set_aspect("equal", adjustable="datalim")
        _name(axis, region, f"Right {figures.label}", f"Left {figures.label}")
    add_legend(figure, [marker(CONTROL_COLOUR, "controls"), marker(PATIENT_COLOUR, "patients")])
    return figure


def plot_follow_up(figures: FigureData) -> Any:
    """Lines of participants and of the longitudinal model."""
    from matplotlib.collections import LineCollection

    result = figures.result("longitudinal")
    if result is None or not result.fits:
        return None
    fits = list(result.fits.values())
    figure, axes = panel_grid(len(fits))
    for axis, fit in zip(axes, fits):
        rows = fit.design.rows
        years, values = fit.data.columns["years_from_baseline"][rows], fit.data.outcomes[fit.region][rows]
        people, patient = fit.data.participant[rows], fit.data.patient[rows]
        order = np.lexsort((years, people.astype(str)))
        breaks = np.flatnonzero(people[order][1:] != people[order][:-1]) + 1
        for colour, of_patients in ((CONTROL_COLOUR, False), (PATIENT_COLOUR, True)):
            lines = [np.column_stack([years[own], values[own]]) for own in np.split(order, breaks)
                     if patient[own[0]] == of_patients]  # fmt: skip
            axis.add_collection(
                LineCollection(lines, colors=colour, alpha=0.16, lw=0.6, rasterized=len(lines) > MANY_POINTS)
            )
        axis.autoscale_view()
        _mean_lines(axis, fit, result, years)
        _name(axis, fit.region, "Years from the first session", figures.label)
    add_legend(figure, [line(CONTROL_COLOUR, "controls", lw=2), line(PATIENT_COLOUR, "patients", lw=2)])
    return figure


def _mean_lines(axis: Any, fit: RegionFit, result: ModelResult, years: Any) -> None:
    """Fixed effects at the mean of the other covariates."""
    estimates = {str(row["term"]): float(row["estimate"]) for row in result.rows
                 if row["region"] == fit.region and is_number(row.get("estimate"))}  # fmt: skip
    names = fit.design.names
    if not all(name in estimates or term in estimates for name, term in zip(names, fit.design.terms)):
        return
    beta = np.array(
        [estimates.get(name, estimates.get(term, 0.0)) for name, term in zip(names, fit.design.terms)]
    )
    mean = fit.design.matrix.mean(axis=0)
    ends = np.array([years.min(), years.max()])
    group = next((k for k, term in enumerate(fit.design.terms) if term == "group"), None)
    for patient, colour in ((0.0, CONTROL_COLOUR), (1.0, PATIENT_COLOUR)):
        rows = np.tile(mean, (2, 1))
        for k, term in enumerate(fit.design.terms):
            if k == group:
                rows[:, k] = patient
            elif term == "years_from_baseline":
                rows[:, k] = ends
            elif term == "group:years_from_baseline":
                rows[:, k] = patient * ends
        axis.plot(ends, rows @ beta, color=colour, lw=2.4)


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


def _name(axis: Any, region: str, x: str, y: str) -> None:
    axis.set_title(title_of(region))
    axis.set_xlabel(x)
    axis.set_ylabel(y)
