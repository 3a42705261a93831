"""B0 map from the phase of the echoes: φ_e = φ_0 + 2π·B0·t_e, by a weighted line with temporal unwrapping.

The phase at echo time 0 (coils, excitation) is the line's intercept; an offset that alternates with the
echoes, as bipolar readouts leave, is found and taken out first. Arrays only; imports numpy, scipy and its
neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.errors import InputError
from r2star.field.bipolar import (
    LEAST_OFFSET_RAD,
    Alternation,
    find_alternation,
    fit_alternation,
    remove_alternation,
)
from r2star.field.unwrap import mean_of_neighbours, mend_stragglers, unwrap_in_space, unwrap_in_time

_CHUNK = 16384
#: Echo spacings count as equal when they differ by less than this part.
EQUAL_SPACING = 0.02
#: The noise of all voxels together counts like this many degrees of freedom beside a voxel's own residuals.
_POOLED_WEIGHT = 4


@dataclass(frozen=True)
class B0Map:
    """B0 and what its estimation found. Maps are (X, Y, Z) float32, NaN where there is no estimate.

    ``b0_hz`` is relative to the scanner's centre frequency. A constant multiple of ``ambiguity_hz`` can't be
    told from phase; the one whose median is nearest 0 is given. ``echo_offset_rad`` is what the mean phase of
    each echo stands off the line, ``alternation`` the offset between odd and even echoes.
    """

    b0_hz: NDArray[np.float32]
    b0_se_hz: NDArray[np.float32]
    residual_rad: NDArray[np.float32]
    ambiguity_hz: float
    echo_offset_rad: tuple[float, ...]
    alternation: Alternation


def estimate_b0(
    signal: NDArray[np.complexfloating[Any, Any]],
    mask: NDArray[np.bool_],
    echo_times_s: NDArray[np.floating[Any]],
) -> B0Map:
    """B0 = slope of phase / 2π by least squares, weighted by |s|² (the inverse variance of phase).

    Parameters
    ----------
    signal
        (E, N) complex signal, echoes first, of the N voxels of ``mask`` in C order; voxels that are not
        finite or have no signal get no estimate. Changed in place where readouts were bipolar.
    mask
        (X, Y, Z).
    echo_times_s
        (E,) seconds, increasing, at least two.

    Raises
    ------
    InputError
        E364 for fewer than two echoes or times that do not increase, E366 for a mask without a usable voxel.
    """
    times = np.asarray(echo_times_s, np.float64)
    if times.size < 2 or signal.shape[0] != times.size or not np.all(np.diff(times) > 0):
        raise InputError(
            "E364",
            f"phase of {signal.shape[0]} echoes at {times.size} times",
            "two or more echoes, times increasing",
        )
    usable = np.isfinite(signal).all(axis=0) & (signal != 0).all(axis=0)
    if not usable.any():
        raise InputError("E366", "no voxel of the mask has phase and magnitude in all echoes",
                         "a brain with signal", "check the brain mask and the phase images")  # fmt: skip
    inside = np.zeros(mask.shape, bool)
    inside[mask] = usable
    packed = signal if usable.all() else signal[:, usable]
    alternation = find_alternation(packed, inside, times)
    remove_alternation(packed, inside, alternation)
    lines = _fit_lines(packed, inside, times)
    if times.size > 2 and not alternation.tested:
        alternation, lines = _try_unequal_alternation(packed, inside, lines)
    if alternation.found:
        lines.halve_ambiguity()
    return lines.as_map(inside, alternation)


def _try_unequal_alternation(
    signal: NDArray[np.complexfloating[Any, Any]], inside: NDArray[np.bool_], lines: _Lines
) -> tuple[Alternation, _Lines]:
    """Look for an alternation of unequal echoes where residuals hint at one; keep it if it explains them."""
    if float(np.median(np.abs(lines.alternating_rad))) < LEAST_OFFSET_RAD / 2:
        return Alternation(found=False), lines
    alternation = _compare_polarities(signal, inside, lines.times)
    if not alternation.found:
        return alternation, lines
    remove_alternation(signal, inside, alternation)
    better = _fit_lines(signal, inside, lines.times)
    if float(np.median(better.misfit)) < 0.5 * float(np.median(lines.misfit)):
        return alternation, better
    remove_alternation(signal, inside, alternation, sign=-1)
    return replace(alternation, found=False), lines


def _compare_polarities(
    signal: NDArray[np.complexfloating[Any, Any]], inside: NDArray[np.bool_], times: NDArray[np.float64]
) -> Alternation:
    """Offset of an echo from the phase that its two neighbours, of the other polarity, predict for it."""
    first = int(np.argmin(times[2:] - times[:-2]))
    before, here, after = signal[first], signal[first + 1], signal[first + 2]
    share = (times[first + 1] - times[first]) / (times[first + 2] - times[first])
    turn = unwrap_in_space(unpack(np.angle(after * np.conj(before)), inside), inside)[inside]
    left = here * np.conj(before) * np.exp(-1j * np.float32(share) * turn)
    left = np.conj(left) if first % 2 else left
    weight = np.abs(left)
    return fit_alternation(left / weight, np.sqrt(weight), inside)


class _Lines:
    """Weighted lines through the phase of N voxels; filled chunk by chunk."""

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
        """Unwrap in time and fit the line of the voxels of ``part``."""
        weight = (signal.real**2 + signal.imag**2).astype(np.float32)
        phase = unwrap_in_time(signal, weight, self.times, start_hz, span_s)
        time = (self.times - self.times[0]).astype(np.float32)[:, None]
        total = weight.sum(axis=0)
        since_mean = time - (weight * time).sum(axis=0) / total
        mean_phase = (weight * phase).sum(axis=0) / total
        information = (weight * since_mean**2).sum(axis=0)
        slope = (weight * since_mean * phase).sum(axis=0) / information
        residual = phase - mean_phase - slope * since_mean
        self.slope_hz[part] = slope / np.float32(2 * np.pi)
        self.information[part], self.total_weight[part] = information, total
        self.misfit[part] = (weight * residual**2).sum(axis=0)
        if isinstance(part, slice):
            self.echo_sums += (weight * residual).sum(axis=1), weight.sum(axis=1)
        self.alternating_rad[part] = np.tensordot(_alternating_filter(self.times), residual, axes=1)

    def standard_error_hz(self) -> NDArray[np.float32]:
        """√(σ²/Σ w (t − t̄)²)/2π, σ² from the voxel's own residuals moderated by the pooled noise of all."""
        freedom = self.times.size - 2
        if freedom == 0:
            return np.full(self.slope_hz.shape, np.nan, np.float32)
        pooled = float(np.median(self.misfit)) / _median_of_chi_square(freedom)
        variance = (self.misfit + _POOLED_WEIGHT * pooled) / (freedom + _POOLED_WEIGHT)
        return (np.sqrt(variance / self.information) / (2 * np.pi)).astype(np.float32)

    def halve_ambiguity(self) -> None:
        """Bring the median nearest 0 by half cycles: a further π between odd and even echoes is unseen."""
        self.ambiguity_hz /= 2
        turns = np.round(float(np.median(self.slope_hz)) / self.ambiguity_hz)
        self.slope_hz -= np.float32(turns * self.ambiguity_hz)

    def as_map(self, inside: NDArray[np.bool_], alternation: Alternation) -> B0Map:
        """The maps on the grid of ``inside``."""
        offsets = tuple(round(float(offset), 6) for offset in self.echo_sums[0] / self.echo_sums[1])
        root_mean_square = np.sqrt(self.misfit / self.total_weight)
        maps = [unpack(one, inside) for one in (self.slope_hz, self.standard_error_hz(), root_mean_square)]
        return B0Map(maps[0], maps[1], maps[2], self.ambiguity_hz, offsets, alternation)


def _fit_lines(
    signal: NDArray[np.complexfloating[Any, Any]], inside: NDArray[np.bool_], times: NDArray[np.float64]
) -> _Lines:
    spacing = np.diff(times)
    shortest = float(spacing.min())
    pairs = np.flatnonzero(spacing <= shortest * (1 + EQUAL_SPACING))
    mean_spacing = float(spacing[pairs].mean())
    difference = np.empty(signal.shape[1], np.float32)
    for part in _chunks(signal.shape[1]):
        turn = sum(signal[pair + 1, part] * np.conj(signal[pair, part]) for pair in pairs)
        difference[part] = np.angle(turn)
    unwrapped = unwrap_in_space(unpack(difference, inside), inside)
    start_hz = mend_stragglers(unwrapped, inside, 2 * np.pi)[inside] / np.float32(2 * np.pi * mean_spacing)
    lines = _Lines(times, signal.shape[1], 1 / mean_spacing)
    for part in _chunks(signal.shape[1]):
        lines.fit(part, signal[:, part], start_hz[part], mean_spacing * pairs.size)
    _retry_outliers(lines, signal, inside, mean_spacing)
    return lines


def _retry_outliers(
    lines: _Lines,
    signal: NDArray[np.complexfloating[Any, Any]],
    inside: NDArray[np.bool_],
    spacing_s: float,
) -> None:
    """Fit again from their neighbours' mean the few voxels that stand a quarter cycle per echo apart from it.

    In veins the phase difference of the first echoes may mislead the prediction of the later ones.
    """
    expected = mean_of_neighbours(unpack(lines.slope_hz, inside), inside)[inside]
    odd = np.flatnonzero(np.abs(lines.slope_hz - expected) > 0.25 * lines.ambiguity_hz)
    for part in _chunks(odd.size):
        lines.fit(odd[part], signal[:, odd[part]], expected[odd[part]], spacing_s)


def unpack(values: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Values of the True voxels of a mask, in C order, on its grid; NaN elsewhere."""
    volume = np.full(inside.shape, np.nan, np.float32)
    volume[inside] = values
    return volume


def _chunks(n_voxels: int) -> Iterator[slice]:
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
