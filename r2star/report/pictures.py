"""Slices of a brain as pictures: what is shown, where left is, and in which colours. May import matplotlib (late).

Left of the head is on the left of the picture, and both sides are marked. Pictures are WebP in data URIs;
equal arrays give equal bytes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.report.facts import Region, Volumes

#: Okabe and Ito's colours, lightened where they would be lost on black; told apart with any colour vision.
REGION_COLOURS = ("#56B4E9", "#E69F00", "#00C795", "#F0E442", "#FF7F50", "#E58BC0", "#4F9DFF", "#FFFFFF")
WEBP_QUALITY = 82
DOTS_PER_INCH = 110
WIDTH_IN = 11.0
_BLACK = "#000000"
_AXES = ((1, 2), (0, 2), (0, 1))
#: Letters at the left and right edge of a sagittal, coronal and axial slice, RAS+.
_EDGES = (("P", "A"), ("L", "R"), ("L", "R"))


@dataclass(frozen=True)
class Layer:
    """A map to be drawn: its values, colour map, range and the label of its colour bar."""

    values: NDArray[Any]
    colours: Any  # a colour map of matplotlib, or its name
    low: float
    high: float
    label: str = ""


@dataclass(frozen=True)
class Cut:
    """One slice: axis 0 sagittal, 1 coronal, 2 axial, and its index."""

    axis: int
    index: int


def colour_of(regions: Sequence[Region]) -> dict[str, str]:
    """Region → colour, in the order of the regions."""
    names = list(dict.fromkeys(region.name for region in regions))
    return {name: REGION_COLOURS[k % len(REGION_COLOURS)] for k, name in enumerate(names)}


def cuts_through(where: NDArray[np.bool_], axis: int, count: int) -> list[Cut]:
    """Slices through the middles of equal parts of a mask, or of the whole image where it is empty.

    >>> mask = np.zeros((4, 4, 20), bool); mask[:, :, 5:15] = True
    >>> [cut.index for cut in cuts_through(mask, 2, 3)]
    [6, 10, 12]
    """
    others = tuple({0, 1, 2} - {axis})
    inside = np.flatnonzero(where.any(axis=others))
    low, high = (inside[0], inside[-1]) if inside.size else (0, where.shape[axis] - 1)
    places = low + (np.arange(count) + 0.5) / count * (high - low)
    return [Cut(axis, int(index)) for index in dict.fromkeys(np.rint(places).astype(int).tolist())]


def draw_cuts(
    volumes: Volumes,
    layer: Layer,
    cuts: Sequence[Cut],
    *,
    columns: int,
    regions: Sequence[Region] = (),
    outline: bool = False,
    bar: bool = True,
) -> str:
    """Slices side by side on black, with contours of the regions and a colour bar; a data URI."""
    from matplotlib.figure import Figure

    sizes = [_extent(volumes, cut.axis) for cut in cuts]
    width_mm, height_mm = (max(size[k] for size in sizes) for k in (0, 1))
    rows = -(-len(cuts) // columns)
    height_in = WIDTH_IN / columns * height_mm / width_mm * rows
    whole_in = height_in + (0.5 if bar else 0.0)
    figure = Figure(figsize=(WIDTH_IN, whole_in), dpi=DOTS_PER_INCH, facecolor=_BLACK)
    # all slices in one pair of axes, in millimetres
    axis = figure.add_axes((0, 1 - height_in / whole_in, 1, height_in / whole_in), facecolor=_BLACK)
    colours, picture = colour_of(regions), None
    for k, cut in enumerate(cuts):
        row, column = divmod(k, columns)
        middle = ((column + 0.5) * width_mm, (rows - row - 0.5) * height_mm)
        picture = _draw_cut(axis, volumes, layer, cut, middle)
        for region in regions:
            _contour(axis, volumes, volumes.labels == region.index, cut, middle, colours[region.name])
        if outline:
            _contour(axis, volumes, volumes.brain, cut, middle, "#BBBBBB")
        for letter, side, sign in zip(_EDGES[cut.axis], ("left", "right"), (-1, 1)):
            axis.text(middle[0] + sign * 0.48 * width_mm, middle[1], letter, color="white", fontsize=10, ha=side,
                      va="center", weight="bold")  # fmt: skip
    axis.set_axis_off()
    axis.set_xlim(0, columns * width_mm)
    axis.set_ylim(0, rows * height_mm)
    if bar and picture is not None:
        _bar(figure, picture, layer, whole_in)
    return as_uri(figure)


def _extent(volumes: Volumes, axis: int) -> tuple[float, float]:
    across, up = _AXES[axis]
    shape, size = volumes.brain.shape, volumes.voxel_size_mm
    return shape[across] * size[across], shape[up] * size[up]


def _bounds(volumes: Volumes, axis: int, middle: tuple[float, float]) -> tuple[float, float, float, float]:
    width, height = _extent(volumes, axis)
    return middle[0] - width / 2, middle[0] + width / 2, middle[1] - height / 2, middle[1] + height / 2


def _draw_cut(axis: Any, volumes: Volumes, layer: Layer, cut: Cut, middle: tuple[float, float]) -> Any:
    from matplotlib import colormaps

    colours = colormaps.get_cmap(layer.colours).with_extremes(bad=_BLACK)
    return axis.imshow(
        np.take(layer.values, cut.index, axis=cut.axis).T, cmap=colours, vmin=layer.low, vmax=layer.high,
        origin="lower", extent=_bounds(volumes, cut.axis, middle), aspect="auto", interpolation="nearest",
    )  # fmt: skip


def _contour(
    axis: Any, volumes: Volumes, mask: NDArray[np.bool_], cut: Cut, middle: tuple[float, float], colour: str
) -> None:
    """The outline of a mask in a slice; only the box around it is searched."""
    flat = np.take(mask, cut.index, axis=cut.axis).T
    if not flat.any():
        return
    left, right, low, high = _bounds(volumes, cut.axis, middle)
    across, up = (right - left) / flat.shape[1], (high - low) / flat.shape[0]
    rows, columns = (np.flatnonzero(flat.any(axis=k)) for k in (1, 0))
    box = flat[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    padded = np.pad(box.astype(float), 1)  # a rim of zeros closes the contours of what touches the edge
    x = left + across * (np.arange(columns[0] - 1, columns[-1] + 2) + 0.5)
    y = low + up * (np.arange(rows[0] - 1, rows[-1] + 2) + 0.5)
    axis.contour(x, y, padded, [0.5], colors=[colour], linewidths=1.1)


def _bar(figure: Any, picture: Any, layer: Layer, whole_in: float) -> None:
    axis = figure.add_axes((0.33, 0.30 / whole_in, 0.34, 0.11 / whole_in))
    bar = figure.colorbar(picture, cax=axis, orientation="horizontal", extend="max")
    bar.set_label(layer.label, color="white", fontsize=9, labelpad=1)
    bar.outline.set_edgecolor("white")
    axis.tick_params(colors="white", labelsize=8, pad=1, length=2)


def draw_codes(
    volumes: Volumes, codes: NDArray[Any], colours: Mapping[int, str], cuts: Sequence[Cut], columns: int
) -> str:
    """Slices of whole-number codes, each in its own colour, on black; a data URI. Codes without a colour are black."""
    from matplotlib.colors import ListedColormap

    known = sorted(colours)
    placed = np.full(codes.shape, np.nan)
    for place, code in enumerate(known):
        placed[(codes == code) & volumes.brain] = place
    layer = Layer(placed, ListedColormap([colours[code] for code in known]), -0.5, len(known) - 0.5)
    return draw_cuts(volumes, layer, cuts, columns=columns, bar=False)


def as_uri(figure: Any) -> str:
    """A matplotlib figure as WebP in a data URI."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=WEBP_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def svg_uri(figure: Any) -> str:
    """A matplotlib figure as SVG in a data URI; set `group_style.style` around drawing and this call."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "r2star"})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"
