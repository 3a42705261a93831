"""Whether the images of an atlas fit its description and each other. May import images and errors."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r2star.atlas.labels import read_labels
from r2star.atlas.model import Atlas
from r2star.errors import InputError, UsageError
from r2star.images import Grid, read_grid, read_image
from r2star.regions.sides import exchanged_sides

_GRID_TOLERANCE_MM = 0.01


def check_images(atlas: Atlas, description: Path) -> None:
    """Refuse an atlas whose numbers would be wrong or missing, before any work.

    Raises
    ------
    UsageError
        E456 where a region names a label that the image lacks, or left and right are exchanged, E457 where the
        label image holds no labels, where template, brain mask or weights lie on another grid than the labels, where
        weights are not 0 to 1, or where one of them can't be read.
    """
    try:
        _check(atlas, description)
    except InputError as error:
        found = f"{Path(error.path).name} can't be used: {error.found}"
        raise UsageError("E457", found, error.needed, error.fix, path=description) from error


def _check(atlas: Atlas, description: Path) -> None:
    labels = read_labels(atlas.labels)
    _check_numbers(atlas, {int(one) for one in np.unique(labels.data)} - {0}, description)
    if exchanged := exchanged_sides(labels.data, labels.grid.affine, atlas.regions):
        raise UsageError(
            "E456", f"left of {', '.join(exchanged[:3])} lies farther right than right in {atlas.labels.name}",
            "left and right in their places are needed",
            "exchange left and right, or check how the image was converted", path=description,
        )  # fmt: skip
    others = {"t1w": atlas.t1w, "brain_mask": atlas.brain_mask, "weights": atlas.weights}
    for key, path in others.items():
        if path is not None:
            _check_grid(key, read_grid(path), labels.grid, description)
    if atlas.weights is not None:
        _check_weights(read_image(atlas.weights, dtype=np.float64).data, atlas, labels.data, description)


def _check_numbers(atlas: Atlas, present: Collection[int], description: Path) -> None:
    for region in (*atlas.regions, *atlas.subregions):
        absent = sorted(set(region.indices) - set(present))
        if absent:
            side = {"L": "left", "R": "right"}[region.hemisphere]
            raise UsageError(
                "E456", f"{side} of region {region.name}: {atlas.labels.name} has no label {_listed(absent)}",
                f"it holds {_listed(sorted(present)) or 'none at all'}",
                "mend the number, or leave the side out where the atlas does not have it", path=description,
            )  # fmt: skip


def _check_grid(key: str, found: Grid, needed: Grid, description: Path) -> None:
    if not found.canonical().same_as(needed.canonical(), _GRID_TOLERANCE_MM):
        sizes = ["×".join(map(str, grid.canonical().shape)) for grid in (found, needed)]
        raise UsageError(
            "E457", f"files.{key} has another grid ({sizes[0]}) than files.labels ({sizes[1]})",
            "labels and template of one grid are needed", "resample one of them (labels by nearest neighbour)",
            path=description,
        )  # fmt: skip


def _check_weights(
    weights: NDArray[np.generic], atlas: Atlas, labels: NDArray[np.generic], description: Path
) -> None:
    values = np.asarray(weights, np.float64)
    low, high = float(values.min()), float(values.max())  # NaN where one is
    if not (low >= 0 and high <= 1):
        raise UsageError(
            "E457", f"files.weights holds values from {low:g} to {high:g}", "probabilities from 0 to 1 are needed",
            "divide percentages by 100", path=description,
        )  # fmt: skip
    for region in atlas.regions:
        if not values[np.isin(labels, region.indices)].any():
            raise UsageError(
                "E457", f"files.weights is 0 all over region {region.name}", "a probability above 0",
                "check that the weights belong to the labels", path=description,
            )  # fmt: skip


def _listed(numbers: Collection[int], most: int = 20) -> str:
    """Numbers in words of a message: runs as first–last.

    >>> _listed([1, 2, 3, 7, 9, 10])
    '1–3, 7, 9–10'
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs]
    return ", ".join(words[:most]) + (", …" if len(words) > most else "")
