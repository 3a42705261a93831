"""Inner loops over voxels: the dephasing factor, and the bias of R2* from a table. Imports numba, no files."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.fit.compiling import helper, kernel
from r2star.fit.elementary import fused

Floats = NDArray[np.float32]

LANES = 512  # voxels at a time: their numbers stay in the fastest memory
ONE = np.float32(1)
#: Up to this angle the series of sin x / x is right to float32.
SERIES_LIMIT = np.float32(3.2)
FAR = np.float32(math.inf)


@helper
def series(square: Any) -> Any:
    """The value of |sin x / x| by x², to x¹⁶, at most 1."""
    p = np.float32(1 / 355687428096000)
    p = fused(p, square, np.float32(-1 / 1307674368000))
    p = fused(p, square, np.float32(1 / 6227020800))
    p = fused(p, square, np.float32(-1 / 39916800))
    p = fused(p, square, np.float32(1 / 362880))
    p = fused(p, square, np.float32(-1 / 5040))
    p = fused(p, square, np.float32(1 / 120))
    p = fused(p, square, np.float32(-1 / 6))
    p = abs(fused(p, square, ONE))
    return p if p < ONE else ONE


@kernel
def fill_factor(
    gradients: tuple[Floats, ...], scales: Floats, times: Floats, factor: Floats, start: int, stop: int
) -> None:
    """|F(t)| = Π |sin x / x|, x = scale·G·t over the axes, into voxels start to stop of ``factor`` (E, N).

    ``gradients`` are three rows (N,); an axis of scale 0 is not looked at. Where one of them is unknown |F| is 1.
    """
    angles, known = np.empty((3, LANES), np.float32), np.empty(LANES, np.bool_)
    for first in range(start, stop, LANES):
        last = min(first + LANES, stop)
        known[:] = True
        for axis in range(3):
            if scales[axis] > 0:
                row, angle, scale = gradients[axis][first:last], angles[axis], scales[axis]
                for i in range(last - first):
                    angle[i] = abs(row[i]) * scale
                    known[i] &= angle[i] < FAR
        n_known = 0
        for i in range(last - first):
            n_known += known[i]
        for echo in range(times.size):
            factor[echo][first:last] = ONE
        for axis in range(3):
            if n_known > 0 and scales[axis] > 0:
                _multiply_sinc(angles[axis], known, times, factor, first, last)


@kernel
def _multiply_sinc(
    angle: Floats, known: NDArray[np.bool_], times: Floats, factor: Floats, first: int, last: int
) -> None:
    """Multiply first to last of ``factor`` by |sin x / x|, x = angle·t, at most 1; by 1 where an angle is unknown."""
    limit, n_beyond = SERIES_LIMIT / times.max(), 0
    for i in range(last - first):
        angle[i] = angle[i] if known[i] else np.float32(0)
        n_beyond += angle[i] > limit
    for echo in range(times.size):
        out, time = factor[echo][first:last], times[echo]
        if n_beyond == 0:
            for i in range(last - first):
                x = angle[i] * time
                out[i] *= series(x * x)
        else:
            for i in range(last - first):
                x = angle[i] * time
                out[i] *= abs(np.float32(math.sin(x)) / x) if x > SERIES_LIMIT else series(x * x)


@kernel
def interpolate_bias(
    rates: Floats,
    gradients: Floats,
    scales: Floats,
    table: Floats,
    rate_step: float,
    square_step: float,
    out: Floats,
    start: int,
    stop: int,
) -> None:
    """Bias of R2* from a table of bias / s², s² = Σ a², over R2*, s² and Σ a⁴/s⁴ = 1/3 and 1.

    ``gradients`` (3, N) times ``scales`` are the angles a per second; an axis of scale 0 is not looked at. Outside
    the table the result is −1, and NaN where a number is not known or R2* is below 0.
    """
    n_rates, n_squares, _ = table.shape
    per_rate, per_square = np.float32(1 / rate_step), np.float32(1 / square_step)
    for i in range(start, stop):
        rate, square, fourth = rates[i], np.float32(0), np.float32(0)
        for axis in range(3):
            if scales[axis] > 0:
                a = gradients[axis, i] * scales[axis]
                square += a * a
                fourth += a * a * a * a
        if not (rate >= 0 and square < math.inf):
            out[i] = math.nan
            continue
        x, y = rate * per_rate, square * per_square
        if x >= np.float32(n_rates - 1) or y >= np.float32(n_squares - 1):
            out[i] = np.float32(-1)
            continue
        j, k = int(x), int(y)
        x, y = x - np.float32(j), y - np.float32(k)
        share = np.float32(1.5) * (fourth / max(square * square, np.float32(1e-30))) - np.float32(0.5)
        low = (ONE - x) * ((ONE - y) * table[j, k, 0] + y * table[j, k + 1, 0]) + x * (
            (ONE - y) * table[j + 1, k, 0] + y * table[j + 1, k + 1, 0]
        )
        high = (ONE - x) * ((ONE - y) * table[j, k, 1] + y * table[j, k + 1, 1]) + x * (
            (ONE - y) * table[j + 1, k, 1] + y * table[j + 1, k + 1, 1]
        )
        out[i] = square * (low + min(max(share, np.float32(0)), ONE) * (high - low))
