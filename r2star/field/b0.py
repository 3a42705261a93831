"""B0 map from the phase of the echoes: φ_e = φ_0 + 2π·B0·t_e, by a weighted line with temporal unwrapping.

The phase at echo time 0 (coils, excitation) is the line's intercept; an offset that alternates with the echoes,
as bipolar readouts leave, is found and taken out first. Arrays only; imports numpy, scipy and its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
from r2star.field.lines import PhaseLines, fit_phase_lines
from r2star.field.unwrap import unwrap_in_space
from r2star.field.voxels import Voxels

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class B0Map:
    """B0 and its standard error of N voxels, packed (N,), and what the estimation found.

    B0 is relative to the scanner's centre frequency. A constant multiple of ``ambiguity_hz`` can't be
    told from phase; the one whose median is nearest 0 is given. ``residual_rad`` (N,) is the weighted root mean
    square by which the phase of each voxel with an estimate stands off its line, ``echo_offset_rad`` what the mean
    phase of each echo does, ``alternation`` the offset between odd and even echoes.
    """

    voxels: Voxels
    packed_hz: Floats
    packed_se_hz: Floats
    residual_rad: Floats
    ambiguity_hz: float
    echo_offset_rad: tuple[float, ...]
    alternation: Alternation

    @property
    def b0_hz(self) -> Floats:
        """(X, Y, Z), NaN where there is no estimate; made anew at every call."""
        return self.voxels.unpack(self.packed_hz).T

    @property
    def b0_se_hz(self) -> Floats:
        """(X, Y, Z), NaN where there is no estimate, and for two echoes; made anew at every call."""
        return self.voxels.unpack(self.packed_se_hz).T


def estimate_b0(
    phase_rad: Floats,
    magnitude: Floats,
    mask: NDArray[np.bool_],
    echo_times_s: NDArray[np.floating],
    n_threads: int = 1,
) -> B0Map:
    """B0 = slope of phase / 2π by least squares, weighted by magnitude² (the inverse variance of phase).

    Parameters
    ----------
    phase_rad, magnitude
        (E, N) float32, echoes first, of the N voxels of ``mask``, x fastest (the C order of ``mask.T``): radians,
        wrapped or not, and signal in any unit. Voxels that are not finite, or without a positive magnitude in
        every echo, get no estimate. ``phase_rad`` is changed in place where readouts were bipolar.
    mask
        (X, Y, Z).
    echo_times_s
        (E,) seconds, increasing, at least two.
    n_threads
        Threads to use; any number gives the same bits.

    Raises
    ------
    InputError
        E364 for fewer than two echoes or times that do not increase, E366 for a mask without a usable voxel.
    """
    times = np.asarray(echo_times_s, np.float64)
    if times.size < 2 or phase_rad.shape[0] != times.size or not np.all(np.diff(times) > 0):
        raise InputError("E364", f"phase of {phase_rad.shape[0]} echoes at {times.size} times",
                         "two or more echoes, times increasing")  # fmt: skip
    voxels, phase, size = _usable(Voxels.of(mask.T), phase_rad, magnitude)
    inside = voxels.in_box()
    alternation = find_alternation(phase, size, inside, times)
    remove_alternation(phase, inside, alternation)
    lines = fit_phase_lines(phase, size, inside, times, n_threads)
    if times.size > 2 and not alternation.tested:
        alternation, lines = _try_unequal_alternation(phase, size, inside, lines, n_threads)
    if alternation.found:
        lines.halve_ambiguity()
    return B0Map(
        voxels, lines.slope_hz, lines.standard_error_hz(), lines.residual_rad, lines.ambiguity_hz,
        lines.echo_offset_rad, alternation,
    )  # fmt: skip


def _usable(voxels: Voxels, phase: Floats, magnitude: Floats) -> tuple[Voxels, Floats, Floats]:
    """Leave out voxels without phase or magnitude in an echo."""
    # a sum is finite if all of its terms are
    usable = np.isfinite(phase.sum(axis=0) + magnitude.sum(axis=0)) & (magnitude.min(axis=0) > 0)
    if not usable.any():
        raise InputError("E366", "no voxel of the mask has phase and magnitude in all echoes",
                         "a brain with signal", "check the brain mask and the phase images")  # fmt: skip
    if usable.all():
        return voxels, phase, magnitude
    mask = np.zeros(voxels.mask.shape, bool)
    mask.reshape(-1)[voxels.index[usable]] = True
    return Voxels.of(mask), phase[:, usable], magnitude[:, usable]


def _try_unequal_alternation(
    phase: Floats, magnitude: Floats, voxels: Voxels, lines: PhaseLines, n_threads: int
) -> tuple[Alternation, PhaseLines]:
    """Look for an alternation of unequal echoes where residuals hint at one; keep it if it explains them."""
    if float(np.median(np.abs(lines.alternating_rad))) < LEAST_OFFSET_RAD / 2:
        return Alternation(found=False), lines
    alternation = _compare_polarities(phase, magnitude, voxels, lines.times)
    if not alternation.found:
        return alternation, lines
    remove_alternation(phase, voxels, alternation)
    better = fit_phase_lines(phase, magnitude, voxels, lines.times, n_threads)
    if float(np.median(better.misfit)) < 0.5 * float(np.median(lines.misfit)):
        return alternation, better
    remove_alternation(phase, voxels, alternation, sign=-1)
    return replace(alternation, found=False), lines


def _compare_polarities(
    phase: Floats, magnitude: Floats, voxels: Voxels, times: NDArray[np.float64]
) -> Alternation:
    """Offset of an echo from the phase that its two neighbours, of the other polarity, predict for it."""
    first = int(np.argmin(times[2:] - times[:-2]))
    before, here, after = phase[first : first + 3]
    share = np.float32((times[first + 1] - times[first]) / (times[first + 2] - times[first]))
    wrapped = np.angle(np.exp(np.complex64(1j) * (after - before)))
    turn = voxels.pack(unwrap_in_space(voxels.unpack(wrapped), voxels.mask))
    left = here - before - share * turn
    sign = np.complex64(-1j if first % 2 else 1j)
    return fit_alternation(np.exp(sign * left), np.sqrt(magnitude[first] * magnitude[first + 1]), voxels)
