"""The echoes of a unit read one at a time: their medians in the brain, their shifts, and the decay of each region.

May import images and regions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.images import Grid, read_image
from r2star.regions.quality import echo_shift, percentile_of
from r2star.regions.table import format_number


class Echoes:
    """Reads each echo once, in order of echo time: brain medians, shifts, and the signal of each region."""

    def __init__(
        self, paths: Sequence[Path], times_s: Sequence[float], grid: Grid, brain: NDArray[np.bool_]
    ) -> None:
        self._paths = (
            [paths[k] for k in np.argsort(times_s, kind="stable")] if len(paths) > 1 else list(paths)
        )
        self._times_s = sorted(times_s)
        self._grid, self._brain = grid, brain
        self.medians: list[float] = []
        self.shifts_mm: list[float] = []

    def decay(
        self, regions: Mapping[tuple[str, str], NDArray[np.bool_]], s0: NDArray[Any], rate: NDArray[Any]
    ) -> list[dict[str, str]]:
        """Rows of the decay table."""
        usable = np.isfinite(rate) & (s0 > 0)
        kept = {key: np.flatnonzero((where & usable).ravel()) for key, where in regions.items()}
        flat_s0, flat_rate = s0.ravel(), rate.ravel()
        box = _box(self._brain)
        rows, before = [], None
        for number, time_s in enumerate(self._times_s):
            echo = self._read(number)
            flat = echo.ravel()  # images lie in memory x fastest, so this copies: once an echo
            self.medians.append(percentile_of(echo, self._brain))
            inside = echo[box]  # not cut out: a mask would not move with the head
            if before is not None:
                self.shifts_mm.append(echo_shift(before, inside, self._grid.voxel_size_mm))
            before = inside
            for (region, side), voxels in kept.items():
                if voxels.size:
                    signal = flat[voxels] / flat_s0[voxels]
                    fitted = np.exp(-flat_rate[voxels].astype(np.float64) * time_s)
                    rows.append(_decay_row(region, side, time_s, signal, fitted))
        return rows

    def _read(self, number: int) -> NDArray[Any]:
        if len(self._paths) > 1:
            return np.asarray(read_image(self._paths[number]).data)
        return np.asarray(read_image(self._paths[0]).data)[..., number]


def _decay_row(
    region: str, side: str, time_s: float, signal: NDArray[Any], fitted: NDArray[Any]
) -> dict[str, str]:
    low, middle, high = np.nanpercentile(signal, (25, 50, 75))
    p05, median, p95 = np.percentile(fitted, (5, 50, 95))
    numbers = {
        "echo_time_s": time_s, "signal_median": middle, "signal_p25": low, "signal_p75": high,
        "fit_median": median, "fit_p05": p05, "fit_p95": p95,
    }  # fmt: skip
    written = {name: format_number(float(value)) for name, value in numbers.items()}
    return {"region": region, "hemisphere": side, "n_voxels": str(signal.size), **written}


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box that holds a mask; the whole image where it is empty."""
    if not mask.any():
        return tuple(slice(None) for _ in mask.shape)
    ends = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return tuple(slice(int(end[0]), int(end[-1]) + 1) for end in ends)
