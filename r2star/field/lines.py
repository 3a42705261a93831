"""Weighted straight lines through the phase of many voxels over echo time, unwrapped in space and time.

Packed voxels throughout: arrays (E, N) of the True voxels of a mask in C order. Imports numpy and its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.field.unwrap import mean_of_neighbours, unwrap_in_space, unwrap_in_time

#: Echo spacings count as equal when they differ by less than this part.
EQUAL_SPACING = 0.02
#: The noise of all voxels together counts like this many degrees of freedom beside a voxel's own residuals.
POOLED_WEIGHT = 4
_CHUNK = 16384
_MOST_RETRIES = 4
_CYCLE = np.float32(2 * np.pi)


class PhaseLines:
    """Lines φ = φ_0 + 2π·slope·t of N voxels and how well they fit, filled chunk by chunk."""

    def __init__(self, times: NDArray[np.float64], n_voxels: int, ambiguity_hz: float) -> None:
        self.times, self.ambiguity_hz = times, ambiguity_hz
        self.slope_hz = np.empty(n_voxels, np.float32)
        self.information = np.empty(n_voxels, np.float32)  # Σ w (t − t̄)², with w = |s|²
        self.misfit = np.empty(n_voxels, np.float32)  # Σ w r²
        self.total_weight = np.empty(n_voxels, np.float32)
        self.alternating_rad = np.empty(n_voxels, np.float32)  # offset of even echoes in the residuals
        self.echo_sums = np.zeros((2, times.size))  # Σ w r and Σ w of each echo

    def fit(
        self,
        part: slice | NDArray[np.intp],
        signal: NDArray[np.complexfloating[Any, Any]],
        start_hz: NDArray[np.float32],
        span_s: float,
    ) -> None:
        """Unwrap in time and fit the voxels of ``part``, whose signal this is."""
        weight = (signal.real**2 + signal.imag**2).astype(np.float32)
        phase = unwrap_in_time(signal, weight, self.times, start_hz, span_s)
        time = (self.times - self.times[0]).astype(np.float32)[:, None]
        total = weight.sum(axis=0)
        since_mean = time - (weight * time).sum(axis=0) / total
        mean_phase = (weight * phase).sum(axis=0) / total
        information = (weight * since_mean**2).sum(axis=0)
        slope = (weight * since_mean * phase).sum(axis=0) / information
        residual = phase - mean_phase - slope * since_mean
        self.slope_hz[part] = slope / _CYCLE
        self.information[part], self.total_weight[part] = information, total
        self.misfit[part] = (weight * residual**2).sum(axis=0)
        self.alternating_rad[part] = np.tensordot(_alternating_filter(self.times), residual, axes=1)
        if isinstance(part, slice):  # single voxels that are fitted again would count twice
            self.echo_sums += (weight * residual).sum(axis=1), weight.sum(axis=1)

    @property
    def echo_offset_rad(self) -> tuple[float, ...]:
        """Weighted mean residual of each echo."""
        return tuple(round(float(offset), 6) for offset in self.echo_sums[0] / self.echo_sums[1])

    @property
    def residual_rad(self) -> NDArray[np.float32]:
        """Weighted root mean square residual of each voxel."""
        return np.sqrt(self.misfit / self.total_weight, dtype=np.float32)

    def standard_error_hz(self) -> NDArray[np.float32]:
        """√(σ²/Σ w (t − t̄)²)/2π, σ² from the voxel's own residuals moderated by the pooled noise of all."""
        freedom = self.times.size - 2
        if freedom == 0:
            return np.full(self.slope_hz.shape, np.nan, np.float32)
        pooled = float(np.median(self.misfit)) / _median_of_chi_square(freedom)
        variance = (self.misfit + POOLED_WEIGHT * pooled) / (freedom + POOLED_WEIGHT)
        return (np.sqrt(variance / self.information) / _CYCLE).astype(np.float32)

    def halve_ambiguity(self) -> None:
        """Bring the median nearest 0 by half cycles: a further π between odd and even echoes is unseen."""
        self.ambiguity_hz /= 2
        turns = np.round(float(np.median(self.slope_hz)) / self.ambiguity_hz)
        self.slope_hz -= np.float32(turns * self.ambiguity_hz)


def fit_phase_lines(
    signal: NDArray[np.complexfloating[Any, Any]], inside: NDArray[np.bool_], times: NDArray[np.float64]
) -> PhaseLines:
    """Fit the voxels of ``inside``: the closest echoes unwrapped in space start the unwrapping in time.

    Then the voxels that stand apart from their neighbours by a quarter cycle per echo are fitted again from the
    neighbours' mean: path-following, and in veins the first echoes, may mislead single voxels.
    """
    spacing = np.diff(times)
    pairs = np.flatnonzero(spacing <= float(spacing.min()) * (1 + EQUAL_SPACING))
    mean_spacing = float(spacing[pairs].mean())
    difference = np.empty(signal.shape[1], np.float32)
    for part in chunks(signal.shape[1]):
        turn = sum(signal[pair + 1, part] * np.conj(signal[pair, part]) for pair in pairs)
        difference[part] = np.angle(turn)
    start_hz = unwrap_in_space(unpack(difference, inside), inside)[inside] / (
        _CYCLE * np.float32(mean_spacing)
    )
    lines = PhaseLines(times, signal.shape[1], 1 / mean_spacing)
    for part in chunks(signal.shape[1]):
        lines.fit(part, signal[:, part], start_hz[part], mean_spacing * pairs.size)
    before = -1
    for _ in range(_MOST_RETRIES):
        expected = mean_of_neighbours(unpack(lines.slope_hz, inside), inside)[inside]
        odd = np.flatnonzero(np.abs(lines.slope_hz - expected) > 0.25 * lines.ambiguity_hz)
        for part in chunks(odd.size):
            some = odd[part]
            lines.fit(some, signal[:, some], expected[some], mean_spacing)
        if odd.size in (0, before):
            break
        before = odd.size
    return lines


def unpack(values: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Values of the True voxels of a mask, in C order, on its grid; NaN elsewhere."""
    volume = np.full(inside.shape, np.nan, np.float32)
    volume[inside] = values
    return volume


def chunks(n_voxels: int) -> Iterator[slice]:
    """Slices of voxels that fit the cache."""
    return (slice(start, min(start + _CHUNK, n_voxels)) for start in range(0, n_voxels, _CHUNK))


def _alternating_filter(times: NDArray[np.float64]) -> NDArray[np.float32]:
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
