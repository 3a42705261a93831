"""The phase offset between odd and even echoes that readouts of alternating polarity leave.

Eddy currents and gradient delays shift echoes of opposite polarity against each other: the even ones carry
θ(r) = a + b·r beside the evolution with B0 (Yu 2010, doi:10.1002/jmri.22111, recalled). Arrays only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2star.field.voxels import Voxels

Floats = NDArray[np.float32]

#: Offsets below this are no sign of alternating readouts, radians.
LEAST_OFFSET_RAD = 0.1
#: A few numbers are fitted, so that about so many voxels, evenly spread, are plenty.
_ENOUGH_VOXELS = 60_000


@dataclass(frozen=True)
class Alternation:
    """Offset θ(r) of the even echoes: constant at the centre of the mask, slope per voxel along each axis.

    ``rms_rad`` is its root mean square; ``coherence`` is |Σ w e^{i(measured − θ)}| / Σ w, 1 where θ explains all.
    θ is known up to π: a further π looks like a shift of B0 by half a cycle per echo spacing. Two echoes leave
    it untested.
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


def find_alternation(
    phase: Floats, magnitude: Floats, voxels: Voxels, times: NDArray[np.float64]
) -> Alternation:
    """Offset between odd and even echoes from the second differences of phase of equally spaced echoes.

    φ_{e+2} − 2φ_{e+1} + φ_e = ∓2θ holds whatever B0 is. ``phase``, ``magnitude`` (E, N) are of the voxels. Fewer
    than three echoes, or unequal ones, tell nothing here.
    """
    spacing = np.diff(times)
    if times.size < 3 or np.ptp(spacing) > 1e-3 * spacing.mean():
        return Alternation(found=False, tested=False)
    thin = _Thinned.of(voxels)
    some, weights = phase.take(thin.chosen, axis=1), magnitude.take(thin.chosen, axis=1)
    weights /= weights[0].max()  # the fourth power of raw units could overflow
    doubled = np.zeros(some.shape[1], np.complex64)
    for echo in range(times.size - 2):
        bend = some[echo + 2] + some[echo] - 2 * some[echo + 1]
        strength = weights[echo + 2] * weights[echo] * weights[echo + 1] ** 2
        doubled += strength * _turned(-bend if echo % 2 == 0 else bend)
    weight = np.abs(doubled)
    unit = np.divide(doubled, weight, out=np.zeros_like(doubled), where=weight > 0)
    twice = _fit_thin(unit, np.sqrt(weight), thin, _centre(voxels.mask), 2 * LEAST_OFFSET_RAD)
    slopes = tuple(slope / 2 for slope in twice.slope_rad_per_voxel)
    return Alternation(twice.found, twice.constant_rad / 2, slopes, twice.rms_rad / 2, twice.coherence)


def fit_alternation(
    unit: NDArray[np.complexfloating[Any, Any]], weight: NDArray[np.floating[Any]], voxels: Voxels
) -> Alternation:
    """Fit arg(unit) = a + b·r without unwrapping; ``unit`` and ``weight`` (N,) are of the voxels.

    Found is an offset whose root mean square exceeds 0.1 rad and that most voxels share.
    """
    thin = _Thinned.of(voxels)
    return _fit_thin(unit[thin.chosen], weight[thin.chosen], thin, _centre(voxels.mask), LEAST_OFFSET_RAD)


class _Thinned(NamedTuple):
    """Every so-many-th voxel along each axis: which of the N, the thinned mask, and the step."""

    chosen: NDArray[np.intp]
    mask: NDArray[np.bool_]
    step: int

    @classmethod
    def of(cls, voxels: Voxels) -> _Thinned:
        step = max(1, round((voxels.index.size / _ENOUGH_VOXELS) ** (1 / 3)))
        every = (slice(None, None, step),) * 3
        mask = voxels.mask[every]
        places = np.ravel_multi_index([step * along for along in np.nonzero(mask)], voxels.mask.shape)
        return cls(np.searchsorted(voxels.index, places), mask, step)


def _turned(angle: Floats) -> NDArray[np.complex64]:
    """e^{i·angle}; the cosine and sine of single precision take a third of the time of a complex power."""
    turned = np.empty(angle.shape, np.complex64)
    np.cos(angle, out=turned.real)
    np.sin(angle, out=turned.imag)
    return turned


def _fit_thin(
    unit: NDArray[np.complexfloating[Any, Any]],
    weight: NDArray[np.floating[Any]],
    thin: _Thinned,
    centre: Floats,
    least_rad: float,
) -> Alternation:
    """Slopes from the differences between neighbours, then twice a line through what is left."""
    vector = unit * weight
    position = np.float32(thin.step) * _positions(thin.mask) - centre
    slope = _slope_between_neighbours(vector, thin.mask) / thin.step
    for _ in range(2):
        left = _turned(-position @ slope.astype(np.float32)) * vector
        left *= np.exp(-1j * np.angle(left.sum()))
        slope = slope + _weighted_slope(position, np.angle(left), weight)
    left = _turned(-position @ slope.astype(np.float32)) * vector
    constant, total = float(np.angle(left.sum())), float(weight.sum())
    rms = float(np.sqrt((weight * (constant + position @ slope) ** 2).sum() / total))
    coherence = float(np.abs(left.sum()) / total)
    found = rms > least_rad and coherence > 0.5
    return Alternation(found, constant, tuple(map(float, slope)), rms, coherence)


def _positions(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Voxel indices along x, y, z of the True voxels of a mask (Z, Y, X), (N, 3)."""
    return np.stack(np.nonzero(inside)[::-1], axis=-1).astype(np.float32)


def _centre(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean index of the True voxels along x, y, z."""
    counts = (inside.sum(axis=tuple({0, 1, 2} - {axis})) for axis in (2, 1, 0))
    return np.array([np.average(np.arange(one.size), weights=one) for one in counts], np.float32)


def _slope_between_neighbours(
    vector: NDArray[np.complexfloating[Any, Any]], inside: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Mean phase step from voxel to voxel along x, y, z, radians."""
    volume = np.zeros(inside.shape, np.complex64)
    volume[inside] = vector
    steps = []
    for axis in (2, 1, 0):
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


def remove_alternation(phase: Floats, voxels: Voxels, alternation: Alternation, sign: int = 1) -> None:
    """Take θ(r) out of every second echo of ``phase`` (E, N), in place; ``sign`` −1 puts it back."""
    if not alternation.found:
        return
    slope = np.array(alternation.slope_rad_per_voxel, np.float32)
    place = _positions(voxels.mask) - _centre(voxels.mask)
    phase[1::2] -= np.float32(sign) * (np.float32(alternation.constant_rad) + place @ slope)
