"""Weighted straight lines through the phase of many voxels over echo time, unwrapped in space and time.

Packed voxels throughout, (E, N) in the order of `Voxels`. Imports numpy and its neighbours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from r2star.field.unwrap import mean_of_neighbours, unwrap_in_space
from r2star.field.voxels import Voxels, in_parts

#: Echo spacings count as equal when they differ by less than this part.
EQUAL_SPACING = 0.02
#: The noise of all voxels together counts like this many degrees of freedom beside a voxel's own residuals.
POOLED_WEIGHT = 4
_MOST_RETRIES = 4
_ENOUGH_VOXELS = 200_000
_CYCLE = np.float32(2 * np.pi)

Floats = NDArray[np.float32]


class PhaseLines:
    """Lines φ = φ_0 + 2π·slope·t of N voxels and how well they fit, with the weights w = (magnitude·scale)²."""

    def __init__(self, times: NDArray[np.float64], n_voxels: int, ambiguity_hz: float, scale: float) -> None:
        self.times, self.ambiguity_hz, self._scale = times, ambiguity_hz, scale
        self._found = np.empty((5, n_voxels), np.float32)
        self.slope_hz, self.information, self.misfit, self.total_weight, self.alternating_rad = self._found
        self.echo_sums = np.zeros((2, times.size))  # Σ w r and Σ w of each echo

    def fit(
        self, phase: Floats, magnitude: Floats, start_hz: Floats, span_s: float, n_threads: int = 1
    ) -> None:
        """Unwrap all voxels in time, from the slope ``start_hz`` measured over ``span_s``, and fit them."""
        self.echo_sums = self._fit(phase, magnitude, start_hz, span_s, self._found, n_threads)

    def refit(
        self,
        some: NDArray[np.intp],
        phase: Floats,
        magnitude: Floats,
        start_hz: Floats,
        span_s: float,
        n_threads: int,
    ) -> None:
        """Fit the voxels ``some`` anew, from another slope."""
        found = np.empty((5, some.size), np.float32)
        self._fit(phase[:, some], magnitude[:, some], start_hz, span_s, found, n_threads)
        self._found[:, some] = found

    def _fit(
        self,
        phase: Floats,
        magnitude: Floats,
        start_hz: Floats,
        span_s: float,
        found: Floats,
        n_threads: int,
    ) -> NDArray[np.float64]:
        from r2star.field.line_kernels import fit_lines

        since_first = (self.times - self.times[0]).astype(np.float32)
        alternating = _alternating_filter(self.times)

        def fit_part(start: int, stop: int) -> NDArray[np.float64]:
            sums = np.zeros((2, self.times.size))
            fit_lines(phase, magnitude, self._scale, since_first, alternating, start_hz, span_s, found, sums,
                      start, stop)  # fmt: skip
            return sums

        return np.asarray(np.sum(in_parts(fit_part, start_hz.size, n_threads), axis=0), np.float64)

    @property
    def echo_offset_rad(self) -> tuple[float, ...]:
        """Weighted mean residual of each echo."""
        return tuple(round(float(offset), 6) for offset in self.echo_sums[0] / self.echo_sums[1])

    @property
    def residual_rad(self) -> Floats:
        """Weighted root mean square residual of each voxel."""
        return np.sqrt(self.misfit / self.total_weight, dtype=np.float32)

    def standard_error_hz(self) -> Floats:
        """√(σ²/Σ w (t − t̄)²)/2π, σ² from the voxel's own residuals moderated by the pooled noise of all."""
        freedom = self.times.size - 2
        if freedom == 0:
            return np.full(self.slope_hz.shape, np.nan, np.float32)
        some = self.misfit[:: max(1, self.misfit.size // _ENOUGH_VOXELS)]
        pooled = np.float32(POOLED_WEIGHT * float(np.median(some)) / _median_of_chi_square(freedom))
        variance = (self.misfit + pooled) / (self.information * np.float32(freedom + POOLED_WEIGHT))
        return np.asarray(np.sqrt(variance) / _CYCLE, np.float32)

    def halve_ambiguity(self) -> None:
        """Bring the median nearest 0 by half cycles: a further π between odd and even echoes is unseen."""
        self.ambiguity_hz /= 2
        turns = np.round(float(np.median(self.slope_hz)) / self.ambiguity_hz)
        self.slope_hz -= np.float32(turns * self.ambiguity_hz)


def fit_phase_lines(
    phase: Floats, magnitude: Floats, voxels: Voxels, times: NDArray[np.float64], n_threads: int = 1
) -> PhaseLines:
    """Fit all voxels: the closest echoes unwrapped in space start the unwrapping in time.

    Then the voxels that stand apart from their neighbours by a quarter cycle per echo are fitted again from the
    neighbours' mean: path-following, and in veins the first echoes, may mislead single voxels.
    """
    spacing = np.diff(times)
    pairs = np.flatnonzero(spacing <= float(spacing.min()) * (1 + EQUAL_SPACING))
    mean_spacing = float(spacing[pairs].mean())
    turn = unwrap_in_space(voxels.unpack(_differences(phase, magnitude, pairs, n_threads)), voxels.mask)
    start_hz = (voxels.pack(turn) / (2 * np.pi * mean_spacing)).astype(np.float32)
    lines = PhaseLines(times, phase.shape[1], 1 / mean_spacing, 1 / float(magnitude[0].max()))
    lines.fit(phase, magnitude, start_hz, mean_spacing * pairs.size, n_threads)
    before = -1
    for _ in range(_MOST_RETRIES):
        expected = voxels.pack(mean_of_neighbours(voxels.unpack(lines.slope_hz), voxels.mask, n_threads))
        odd = np.flatnonzero(np.abs(lines.slope_hz - expected) > 0.25 * lines.ambiguity_hz)
        if odd.size in (0, before):
            break
        lines.refit(odd, phase, magnitude, expected[odd], mean_spacing, n_threads)
        before = odd.size
    return lines


def _differences(phase: Floats, magnitude: Floats, pairs: NDArray[np.intp], n_threads: int) -> Floats:
    """Mean difference of phase between the echoes of the pairs (k, k + 1), ±π, (N,)."""
    from r2star.field.line_kernels import average_differences

    out = np.empty(phase.shape[1], np.float32)
    in_parts(
        lambda start, stop: average_differences(phase, magnitude, pairs, out, start, stop),
        out.size,
        n_threads,
    )
    return out


def _alternating_filter(times: NDArray[np.float64]) -> Floats:
    """Weights that read the alternating offset from residuals of a line: 1 on 0, 1, 0, …, 0 on any line."""
    parity = np.arange(times.size) % 2
    line = np.column_stack([np.ones_like(times), times - times.mean()])
    left = parity - line @ np.linalg.lstsq(line, parity, rcond=None)[0]
    power = float(left @ left)
    return (left / power if power > 1e-9 else left * 0).astype(np.float32)


def _median_of_chi_square(freedom: int) -> float:
    """Median of χ² with ``freedom`` degrees; above 2 by Wilson and Hilferty's cube, within 0.3 %."""
    exact = {1: 0.4549, 2: 1.3863}
    return exact.get(freedom, freedom * (1 - 2 / (9 * freedom)) ** 3)
