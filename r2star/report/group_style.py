"""How the figures of the second level look: colours for every reader, one grid of panels. May import matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from r2star.group.ages import OLDEST_SHOWN_AGE
from r2star.report.facts import in_prose

#: Okabe & Ito's colours, told apart by readers with any colour vision.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
CONTROL_COLOUR, PATIENT_COLOUR = BLUE, VERMILION
GROUP_COLOURS = (BLUE, SKY, ORANGE, VERMILION, PURPLE, GREEN, BLACK)

PANEL_WIDTH_IN, PANEL_HEIGHT_IN = 2.3, 2.1
#: Beyond so many, points are small, and the vector file holds them as a picture.
MANY_POINTS = 1000


def style() -> dict[str, Any]:
    """Settings of matplotlib for a figure in print."""
    return {
        "font.family": "DejaVu Sans", "font.size": 7.5, "axes.titlesize": 8.5, "axes.titleweight": "bold",
        "axes.labelsize": 7.5, "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7,
        "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6, "lines.linewidth": 1.2,
        "xtick.major.width": 0.6, "ytick.major.width": 0.6, "legend.frameon": False,
        "svg.hashsalt": "r2star", "svg.fonttype": "path", "figure.facecolor": "white", "text.parse_math": False,
    }  # fmt: skip


def panel_grid(n_panels: int, *, columns: int = 3, width: float = PANEL_WIDTH_IN, height: float = PANEL_HEIGHT_IN,
               header_in: float = 0.35) -> tuple[Any, list[Any]]:  # fmt: skip
    """A figure with ``n_panels`` axes in rows, and room above for a legend."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(columns, n_panels)
    rows = -(-n_panels // columns)
    whole = height * rows + header_in
    engine = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - header_in / whole))
    figure = Figure(figsize=(width * columns + 0.3, whole), layout=engine)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for spare in axes[n_panels:]:
        spare.set_visible(False)
    return figure, axes[:n_panels]


def add_legend(figure: Any, handles: Sequence[Any]) -> None:
    """One legend above all panels."""
    figure.legend(
        handles=handles, loc="upper center", ncols=len(handles), bbox_to_anchor=(0.5, 1.0), borderaxespad=0.3
    )


def marker(colour: str, label: str, *, filled: bool = True) -> Any:
    """A legend entry: a point."""
    from matplotlib.lines import Line2D

    face = colour if filled else "white"
    return Line2D(
        [], [], marker="o", linestyle="", markersize=4, color=colour, markerfacecolor=face, label=label
    )


def line(colour: str, label: str, **options: Any) -> Any:
    """A legend entry: a line."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, label=label, **options)


def age_ticks(axis: Any) -> None:
    """Ages above 89 are not told apart: the last tick says so where anyone is that old."""
    low, high = axis.get_xlim()
    ticks = [tick for tick in range(0, 90, 10) if low <= tick <= high]
    if high >= OLDEST_SHOWN_AGE:
        ticks = [tick for tick in ticks if tick < 85]
        axis.set_xticks([*ticks, OLDEST_SHOWN_AGE], [*(str(tick) for tick in ticks), "89+"])
    else:
        axis.set_xticks(ticks)


def spread(values: Any) -> Any:
    """Horizontal places of points, such that near values lie side by side: a quasi-random sequence by rank."""
    if values.size < 2:
        return np.zeros(values.size)
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    counts, edges = np.histogram(values, bins=max(8, round(np.sqrt(values.size))))
    smooth = np.convolve(counts, (0.25, 0.5, 0.25), mode="same")
    density = np.interp(values, (edges[1:] + edges[:-1]) / 2, smooth)
    golden = (ranks * 0.6180339887498949) % 1 - 0.5
    return 0.62 * golden * density / max(density.max(), 1e-12)


def points(axis: Any, x: Any, y: Any, colour: str, size: float = 5, alpha: float = 0.55) -> None:
    """Points; smaller ones where they are very many."""
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


def name_axes(axis: Any, region: str, x: str, y: str) -> None:
    """The region as title, and what the axes are."""
    axis.set_title(in_prose(region))
    axis.set_xlabel(x)
    axis.set_ylabel(y)
