"""B0 map from the phase of the echoes: φ_e = φ_0 + 2π·B0·t_e, by a weighted line with temporal unwrapping.

The phase at echo time 0 (coils, excitation) is the line's intercept; an offset that alternates with the echoes,
as bipolar readouts leave, is found and taken out first. Arrays only; imports numpy, scipy and its neighbours.
"""

from __future__ import annotations

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
from r2star.field.lines import PhaseLines, fit_phase_lines, unpack
from r2star.field.unwrap import bounding_box, unwrap_in_space


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
        raise InputError("E364", f"phase of {signal.shape[0]} echoes at {times.size} times",
                         "two or more echoes, times increasing")  # fmt: skip
    usable = (np.isfinite(signal) & (signal != 0)).all(axis=0)
    if not usable.any():
        raise InputError("E366", "no voxel of the mask has phase and magnitude in all echoes",
                         "a brain with signal", "check the brain mask and the phase images")  # fmt: skip
    inside = np.zeros(mask.shape, bool)
    inside[mask] = usable
    packed = signal if usable.all() else signal[:, usable]
    box = np.ascontiguousarray(inside[bounding_box(inside)])
    alternation = find_alternation(packed, box, times)
    remove_alternation(packed, box, alternation)
    lines = fit_phase_lines(packed, box, times)
    if times.size > 2 and not alternation.tested:
        alternation, lines = _try_unequal_alternation(packed, box, lines)
    if alternation.found:
        lines.halve_ambiguity()
    return B0Map(
        unpack(lines.slope_hz, inside), unpack(lines.standard_error_hz(), inside), unpack(lines.residual_rad, inside),
        lines.ambiguity_hz, lines.echo_offset_rad, alternation,
    )  # fmt: skip


def _try_unequal_alternation(
    signal: NDArray[np.complexfloating[Any, Any]], inside: NDArray[np.bool_], lines: PhaseLines
) -> tuple[Alternation, PhaseLines]:
    """Look for an alternation of unequal echoes where residuals hint at one; keep it if it explains them."""
    if float(np.median(np.abs(lines.alternating_rad))) < LEAST_OFFSET_RAD / 2:
        return Alternation(found=False), lines
    alternation = _compare_polarities(signal, inside, lines.times)
    if not alternation.found:
        return alternation, lines
    remove_alternation(signal, inside, alternation)
    better = fit_phase_lines(signal, inside, lines.times)
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
