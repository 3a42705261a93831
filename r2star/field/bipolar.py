"""The phase offset between odd and even echoes that readouts of alternating polarity leave.

Eddy currents and gradient delays shift echoes of opposite polarity against each other: the even ones carry
θ(r) = a + b·r beside the evolution with B0 (Yu 2010, doi:10.1002/jmri.22111, recalled). Arrays only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Offsets below this are no sign of alternating readouts, radians.
LEAST_OFFSET_RAD = 0.1
_ENOUGH_VOXELS = 200_000


@dataclass(frozen=True)
class Alternation:
    """Offset θ(r) of the even echoes: constant, slope per voxel along each axis, its root mean square.

    ``coherence`` is |Σ w e^{i(measured − θ)}| / Σ w, 1 where θ explains all. θ is known up to π: a further π
    looks like a shift of B0 by half a cycle per echo spacing. Two echoes leave it untested.
    """

    found: bool
    constant_rad: float = 0.0
    slope_rad_per_voxel: tuple[float, ...] = (0.0, 0.0, 0.0)
    rms_rad: float = 0.0
    coherence: float = 0.0
    tested: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a sidecar."""
        return asdict(self)


def equally_spaced(times: NDArray[np.float64]) -> bool:
    """Whether all echo spacings agree to a thousandth."""
    spacing = np.diff(times)
    return bool(np.ptp(spacing) <= 1e-3 * spacing.mean())


def find_alternation(
    signal: NDArray[np.complexfloating[Any, Any]], inside: NDArray[np.bool_], times: NDArray[np.float64]
) -> Alternation:
    """Offset between odd and even echoes from the second differences of phase of equally spaced echoes.

    φ_{e+2} − 2φ_{e+1} + φ_e = ∓2θ holds whatever B0 is. ``signal`` (E, N) of the voxels of ``inside``. Fewer
    than three echoes, or unequal ones, tell nothing here.
    """
    if times.size < 3 or not equally_spaced(times):
        return Alternation(found=False, tested=False)
    doubled = np.zeros(signal.shape[1], np.complex64)
    scale = np.float32(1 / np.abs(signal[0]).max())  # the fourth power of raw units could overflow
    for echo in range(times.size - 2):
        before, here, after = (signal[one] * scale for one in (echo, echo + 1, echo + 2))
        bend = after * before * np.conj(here) ** 2
        doubled += np.conj(bend) if echo % 2 == 0 else bend
    weight = np.abs(doubled)
    unit = np.divide(doubled, weight, out=np.zeros_like(doubled), where=weight > 0)
    twice = fit_alternation(unit, np.sqrt(weight), inside, LEAST_OFFSET_RAD * 2)
    slopes = tuple(slope / 2 for slope in twice.slope_rad_per_voxel)
    return Alternation(twice.found, twice.constant_rad / 2, slopes, twice.rms_rad / 2, twice.coherence)


def fit_alternation(
    unit: NDArray[np.complexfloating[Any, Any]],
    weight: NDArray[np.floating[Any]],
    inside: NDArray[np.bool_],
    least_rad: float = LEAST_OFFSET_RAD,
) -> Alternation:
    """Fit arg(unit) = a + b·r without unwrapping: slopes from neighbours' differences, then twice a line.

    ``unit`` and ``weight`` (N,) belong to the voxels of ``inside``. Found is an offset whose root mean square
    exceeds ``least_rad`` and that most voxels share.
    """
    slope = _slope_between_neighbours(unit * weight, inside)
    every = slice(None, None, max(1, weight.size // _ENOUGH_VOXELS))
    weight = weight[every]
    vector = unit[every] * weight
    position = _positions(inside)[every]
    centre = position.mean(axis=0)
    position -= centre
    constant = 0.0
    for _ in range(2):
        left = np.conj(np.exp(1j * (position @ slope.astype(np.float32)))) * vector
        constant = float(np.angle(left.sum()))
        slope = slope + _weighted_slope(position, np.angle(left * np.exp(-1j * constant)), weight)
    left = np.exp(-1j * (position @ slope.astype(np.float32))) * vector
    constant = float(np.angle(left.sum()))
    total = float(weight.sum())
    offset = constant + position @ slope
    rms = float(np.sqrt((weight * offset**2).sum() / total))
    coherence = float(np.abs(left.sum()) / total)
    at_origin = constant - float(centre @ slope)
    return Alternation(
        rms > least_rad and coherence > 0.5, at_origin, tuple(map(float, slope)), rms, coherence
    )


def _positions(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Voxel indices of the True voxels, (N, 3)."""
    return np.stack(np.nonzero(inside), axis=-1).astype(np.float32)


def _slope_between_neighbours(
    vector: NDArray[np.complexfloating[Any, Any]], inside: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Mean phase step from voxel to voxel along each axis, radians."""
    volume = np.zeros(inside.shape, np.complex64)
    volume[inside] = vector
    steps = []
    for axis in range(inside.ndim):
        ahead = np.moveaxis(volume, axis, 0)
        steps.append(np.angle(np.vdot(ahead[:-1], ahead[1:])) if ahead.shape[0] > 1 else 0.0)
    return np.array(steps, np.float64)


def _weighted_slope(
    position: NDArray[np.float32], phase: NDArray[np.floating[Any]], weight: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Weighted least-squares slope of phase over position, minimum norm where an axis has no extent."""
    total = weight.sum()
    mean = (weight @ position) / total
    since_mean = position - mean
    normal = since_mean.T @ (since_mean * weight[:, None])
    moment = since_mean.T @ (weight * phase)
    return np.linalg.lstsq(normal.astype(np.float64), moment.astype(np.float64), rcond=1e-9)[0]


def remove_alternation(
    signal: NDArray[np.complexfloating[Any, Any]],
    inside: NDArray[np.bool_],
    alternation: Alternation,
    sign: int = 1,
) -> None:
    """Take θ(r) out of every second echo of ``signal`` (E, N), in place; ``sign`` −1 puts it back."""
    if not alternation.found:
        return
    slope = np.array(alternation.slope_rad_per_voxel, np.float32)
    offset = np.float32(alternation.constant_rad) + _positions(inside) @ slope
    signal[1::2] *= np.exp(np.complex64(-1j * sign) * offset).astype(signal.dtype)
