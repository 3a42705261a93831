"""Inner loops over voxels: phase differences, and lines through the phase over time. Imports numba, no files.

Packed voxels are (E, N). Each kernel does the part start ≤ i < stop of its output and only reads its inputs, so that
any number of threads gives the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.fit.compiling import helper, kernel

Floats = NDArray[np.float32]

LANES = 512  # voxels at a time: their numbers stay in the fastest memory
CYCLE = np.float32(2 * np.pi)
PER_CYCLE = np.float32(1 / (2 * np.pi))
ROUNDER = np.float32(1.5 * 2.0**23)  # adding it rounds a float32 to an integer, taking it off leaves that
ONE = np.float32(1)
TINY = np.float32(1e-30)


@helper
def nearest_turns(angle: Any) -> Any:
    """The whole number of cycles nearest to an angle in radians, float32."""
    return (angle * PER_CYCLE + ROUNDER) - ROUNDER


@kernel
def average_differences(
    phase: Floats, magnitude: Floats, pairs: NDArray[np.int64], out: Floats, start: int, stop: int
) -> None:
    """Mean over echo pairs of the wrapped difference of phase, weighted by the product of magnitudes, in ±π."""
    total, weight = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for first in range(start, stop, LANES):
        last = min(first + LANES, stop)
        n, mean = last - first, out[first:last]
        mean[:] = ONE * 0
        for attempt in range(3):  # around the first pair, then twice around the mean so far
            total[:] = ONE * 0
            weight[:] = TINY
            for k in range(1 if attempt == 0 else pairs.size):
                here, ahead = phase[pairs[k], first:last], phase[pairs[k] + 1, first:last]
                w_here, w_ahead = magnitude[pairs[k], first:last], magnitude[pairs[k] + 1, first:last]
                for i in range(n):
                    apart = ahead[i] - here[i] - mean[i]
                    w = w_here[i] * w_ahead[i]
                    total[i] += w * (apart - CYCLE * nearest_turns(apart))
                    weight[i] += w
            for i in range(n):
                moved = mean[i] + total[i] / weight[i]
                mean[i] = moved - CYCLE * nearest_turns(moved)


@kernel
def fit_lines(
    phase: Floats,
    magnitude: Floats,
    scale: float,
    times: Floats,
    alternating: Floats,
    start_hz: Floats,
    span_s: float,
    found: Floats,
    echo_sums: NDArray[np.float64],
    start: int,
    stop: int,
) -> None:
    """Unwrap each voxel in time and fit its weighted line φ = φ_0 + 2π·slope·t, weights (scale·magnitude)².

    Each echo takes the turn nearest to its prediction from the line through the echoes before it and from
    ``start_hz``, which counts as if measured over ``span_s``. ``found`` (5, N) becomes the slope (Hz), Σ w (t − t̄)²,
    Σ w r², Σ w, and the product of residuals r with ``alternating``; Σ w r and Σ w of each echo are added to
    ``echo_sums``. ``times`` are since the first echo.
    """
    n_echoes = times.size
    unwrapped, weight = np.empty((n_echoes, LANES), np.float32), np.empty((n_echoes, LANES), np.float32)
    w, t, tt, p, tp = (np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES, np.float32),
                       np.empty(LANES, np.float32), np.empty(LANES, np.float32))  # fmt: skip
    slope, begin, known = (
        np.empty(LANES, np.float32),
        np.empty(LANES, np.float32),
        np.empty(LANES, np.float32),
    )
    lane_sums, described = np.zeros((2, n_echoes, LANES), np.float32), np.empty((5, LANES), np.float32)
    information_per_weight, factor = np.float32(span_s * span_s * 0.5), np.float32(scale)
    for first in range(start, stop, LANES):
        last = min(first + LANES, stop)
        n, reference = last - first, phase[0, first:last]
        for echo in range(n_echoes):
            row, sizes = weight[echo], magnitude[echo, first:last]
            for i in range(n):
                row[i] = (factor * sizes[i]) * (factor * sizes[i])
        begin[:], t[:], tt[:], p[:], tp[:] = ONE * 0, ONE * 0, ONE * 0, ONE * 0, ONE * 0
        for i in range(n):
            known[i] = CYCLE * start_hz[first + i]
            slope[i] = known[i]
            w[i] = weight[0, i]
            unwrapped[0, i] = ONE * 0
        for echo in range(1, n_echoes):
            time, row, here, out = times[echo], weight[echo], phase[echo, first:last], unwrapped[echo]
            for i in range(n):
                measured = here[i] - reference[i]
                out[i] = measured + CYCLE * nearest_turns(slope[i] * time + begin[i] - measured)
            if echo + 1 < n_echoes:
                for i in range(n):
                    w[i] += row[i]
                    t[i] += row[i] * time
                    tt[i] += row[i] * time * time
                    p[i] += row[i] * out[i]
                    tp[i] += row[i] * time * out[i]
                for i in range(n):
                    prior = information_per_weight * weight[0, i]
                    mean = t[i] / w[i]
                    spread = tt[i] - t[i] * mean + prior
                    slope[i] = (tp[i] - p[i] * mean + prior * known[i]) / (abs(spread) + TINY)
                    begin[i] = p[i] / w[i] - slope[i] * mean
        _describe_lines(unwrapped, weight, times, alternating, described, lane_sums, n)
        for row in range(described.shape[0]):
            found[row][first:last] = described[row, :n]
    for echo in range(n_echoes):
        for i in range(LANES):
            echo_sums[0, echo] += lane_sums[0, echo, i]
            echo_sums[1, echo] += lane_sums[1, echo, i]


@kernel
def _describe_lines(
    unwrapped: Floats,
    weight: Floats,
    times: Floats,
    alternating: Floats,
    found: Floats,
    sums: Floats,
    n: int,
) -> None:
    slope, information, misfit, total, offset = found[0], found[1], found[2], found[3], found[4]
    mean_time, mean_phase = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
    found[:] = ONE * 0
    for echo in range(times.size):
        row, out, time = weight[echo], unwrapped[echo], times[echo]
        for i in range(n):
            total[i] += row[i]
            mean_time[i] += row[i] * time
            mean_phase[i] += row[i] * out[i]
    for i in range(n):
        mean_time[i] /= total[i]
        mean_phase[i] /= total[i]
    for echo in range(times.size):
        row, out, time = weight[echo], unwrapped[echo], times[echo]
        for i in range(n):
            since = time - mean_time[i]
            information[i] += row[i] * since * since
            slope[i] += row[i] * since * (out[i] - mean_phase[i])
    for i in range(n):
        slope[i] /= information[i] + TINY
    for echo in range(times.size):
        row, out, time, share = weight[echo], unwrapped[echo], times[echo], alternating[echo]
        for i in range(n):
            left = out[i] - mean_phase[i] - slope[i] * (time - mean_time[i])
            misfit[i] += row[i] * left * left
            offset[i] += share * left
            sums[0, echo, i] += row[i] * left
            sums[1, echo, i] += row[i]
    for i in range(n):
        slope[i] *= PER_CYCLE
