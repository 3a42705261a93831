"""Figures of the models of a cohort: effects, partial residuals, sites, follow-up.

Each gives a matplotlib figure, or ``None`` with nothing to draw. May import group and, inside functions, matplotlib.
No randomness: points are spread by their rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from r2star.group.analyse import ModelResult
from r2star.group.design import DesignRules, build_design
from r2star.group.formula import Formula
from r2star.group.joint import RegionFit
from r2star.group.ols import estimate_contrast, fit_ols, rank_deficient
from r2star.group.rows import Row, is_number
from r2star.report.facts import in_prose
from r2star.report.group_data import FigureData
from r2star.report.group_style import (
    CONTROL_COLOUR,
    MANY_POINTS,
    PATIENT_COLOUR,
    add_legend,
    line,
    marker,
    name_axes,
    panel_grid,
    points,
    spread,
)  # fmt: skip

#: Terms of the built-in models, as a reader of the figures calls them.
PROSE = {
    "group": "Patients − controls",
    "disease_duration_years": "Disease duration (years)",
    "edss": "EDSS",
    "log(lesion_volume_ml)": "log lesion volume (mL)",
    "cortical_volume_ml": "Cortical volume (mL)",
}


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
        axis.set_yticks(range(len(rows)), [in_prose(str(row["region"])) for row in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.set_xlim(limits[_scale_of(rows)])
        axis.set_title(_term_in_prose(term))
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


def _term_in_prose(term: str) -> str:
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
            axis.set_ylabel(f"{in_prose(fit.region)}\npartial R2* (1/s)")
        if index // len(terms) == len(fits) - 1:
            axis.set_xlabel(f"{_term_in_prose(term)}\ncentred")
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
    points(axis, x, partial, PATIENT_COLOUR)
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
        pair = axes[2 * k : 2 * k + 2]
        _plot_by_site(
            pair, fit, _site_residuals(fit, result.spec.formula, figures.rules), last=k == len(fits) - 1
        )
        pair[0].set_ylabel(f"{in_prose(fit.region)}\n(1/s)")
    axes[0].set_title("before")
    axes[1].set_title("after adjustment for site")
    return figure


def _plot_by_site(axes: Sequence[Any], fit: RegionFit, residuals: Sequence[Any], *, last: bool) -> None:
    """Boxes and points of each site, in one range for both panels; the sites' names stand under the last pair."""
    sites = fit.data.columns["site"][fit.design.rows]
    levels = sorted(set(sites.tolist()))
    limit = 1.08 * max(np.abs(each).max() for each in residuals)
    thin = {"lw": 0.6}
    tilt = {"rotation": 40, "ha": "right"} if len(levels) > 4 else {"rotation": 0, "ha": "center"}
    for axis, values in zip(axes, residuals):
        groups = [values[sites == level] for level in levels]
        axis.boxplot(
            groups, widths=0.6, showfliers=False, medianprops={"color": PATIENT_COLOUR},
            whiskerprops=thin, boxprops=thin, capprops=thin,
        )  # fmt: skip
        for place, group in enumerate(groups, start=1):
            points(axis, place + 0.7 * spread(group), group, "0.4", size=3)
        axis.axhline(0, color="0.6", lw=0.6, zorder=0)
        axis.set_ylim(-limit, limit)
        axis.set_xticks(range(1, len(levels) + 1), levels if last else [""] * len(levels), **tilt)


def _site_residuals(fit: RegionFit, formula: Formula, rules: DesignRules) -> tuple[Any, Any]:
    """Residuals of the model without site, and of the model itself."""
    terms = tuple(term for term in formula.terms if term.variables[0].column != "site")
    design = build_design(Formula(terms), fit.data.columns, fit.data.patient, rules, rows=fit.design.rows)
    kept = ~rank_deficient(design.matrix)
    outcome = fit.data.outcomes[fit.region][design.rows]
    return fit_ols(design.matrix[:, kept], outcome).residuals, fit.fit.residuals


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
        name_axes(axis, fit.region, "Years from the first session", figures.label)
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
