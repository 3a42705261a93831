"""Figures of the second level as files: one SVG and one PNG each, with caption and alternative text beside them.

`FIGURES` is the table of figures: a name and the function that draws it from `FigureData`, or gives
``None`` where there is nothing to draw. May import group, files and, inside functions, matplotlib.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from r2star.files import write_bytes_atomically, write_text_atomically
from r2star.report.group_data import FigureData
from r2star.report.group_model_plots import plot_follow_up, plot_forest, plot_partial_residuals, plot_sites
from r2star.report.group_plots import plot_ages, plot_courses, plot_flow, plot_sides
from r2star.report.group_style import style

PNG_DOTS_PER_INCH = 200


class FigureKind(NamedTuple):
    """How a figure is drawn, and what is said of it."""

    draw: Callable[[FigureData], Any]
    caption: str
    alternative: str


FIGURES: Mapping[str, FigureKind] = {
    "courses": FigureKind(
        plot_courses,
        "R2* by region and group. Points are participants; bars are means with 95 % confidence intervals. "
        "Not adjusted for age.",
        "Small panels, one a region, with points and means of each group.",
    ),
    "ages": FigureKind(
        plot_ages,
        "R2* and age. Line and dark band: expected value of controls with its 95 % confidence interval; "
        "light band: the range of 95 % of controls, whose width may grow with age.",
        "Small panels, one a region, R2* against age with the controls' curve and band.",
    ),
    "forest": FigureKind(
        plot_forest,
        "Effects with 95 % confidence intervals (HC3), in SD of the outcome (standardised β) or in residual SD "
        "(Hedges' g, of groups). "
        "Filled: p < 0.05 after adjustment within the family.",
        "Forest plot of effects by region.",
    ),
    "partial_residuals": FigureKind(
        plot_partial_residuals,
        "Partial residuals of the determinants in patients: R2* with all other covariates of the joint model "
        "taken off, against each covariate. Line and band: fitted effect and its 95 % confidence interval.",
        "Scatter plots of partial residuals against each determinant.",
    ),
    "sites": FigureKind(
        plot_sites,
        "Residuals by site, before and after the adjustment for site; age, sex and group are adjusted in both.",
        "Box plots of residuals by site, before and after adjustment.",
    ),
    "sides": FigureKind(
        plot_sides,
        "Left against right R2*. Dashed: equality. In each panel the mean difference and its 95 % interval.",
        "Scatter plots of left against right R2*, one a region.",
    ),
    "follow_up": FigureKind(
        plot_follow_up,
        "R2* over follow-up. Thin lines: participants. Thick lines: fixed effects of the longitudinal model "
        "at mean covariates.",
        "Line plots of R2* against years from the first session.",
    ),
    "flow": FigureKind(
        plot_flow,
        "Who takes part: from units found to rows in the models, and the missing covariates.",
        "Flow of exclusions, and bars of missing values by covariate.",
    ),
}


def write_figures(data: FigureData, folder: Path) -> tuple[Path, ...]:
    """Draw every figure for which there are data; equal data give equal SVG files."""
    import matplotlib as mpl

    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    told = {}
    for name, kind in FIGURES.items():
        with mpl.rc_context(style()):
            figure = kind.draw(data)
            if figure is None:
                for suffix in (".svg", ".png"):
                    (folder / f"{name}{suffix}").unlink(missing_ok=True)
                continue
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once, for both files
            written += [_save(figure, folder / f"{name}.svg"), _save(figure, folder / f"{name}.png")]
        told[name] = {"Caption": kind.caption, "AlternativeText": kind.alternative}
    write_text_atomically(folder / "figures.json", json.dumps(told, indent=2) + "\n")
    return (*written, folder / "figures.json")


def _save(figure: Any, path: Path) -> Path:
    buffer = io.BytesIO()
    if path.suffix == ".svg":
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "r2star"})
    else:
        figure.savefig(buffer, format="png", dpi=PNG_DOTS_PER_INCH, metadata={"Software": "r2star"})
    return write_bytes_atomically(path, buffer.getvalue())
