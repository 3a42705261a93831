"""Phase unwrapping: in space by scikit-image, in time by prediction from echo to echo.

scikit-image's `unwrap_phase` joins voxels in the order of their reliability, by second differences (Herráez 2002,
Appl Opt 41:7437; in 3D Abdul-Rahman 2005, Proc SPIE 5856:32), takes a mask, and only ever adds multiples of 2π.
Arrays only.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CYCLE = 2 * np.pi


def unwrap_in_space(phase: NDArray[np.floating[Any]], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Unwrapped phase u = φ + 2πn of a volume, radians; ``phase``, ``mask`` (X, Y, Z), NaN outside the mask.

    Parts of the mask that do not touch are unwrapped each for itself. The largest is shifted by a multiple of
    2π so that its median lies within ±π; every other so that the voxels that face it
    agree best with it.

    >>> ramp = np.linspace(0.0, 12.0, 30)[:, None, None] * np.ones((1, 4, 4))
    >>> wrapped = np.angle(np.exp(1j * ramp))
    >>> steps = np.diff(unwrap_in_space(wrapped, np.ones(ramp.shape, bool))[:, 0, 0])
    >>> bool(np.allclose(steps, 12.0 / 29, atol=1e-5))
    True
    """
    out = np.full(phase.shape, np.nan, np.float32)
    if not mask.any():
        return out
    box = bounding_box(mask)
    inside = np.ascontiguousarray(mask[box])
    unwrapped = _unwrap_box(np.where(inside, phase[box], 0.0), inside)
    _settle_parts(unwrapped, inside)
    out[box] = np.where(inside, unwrapped, np.nan)
    return out


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box of slices that holds every True of a mask that has one."""
    lengths = range(mask.ndim)
    found = [
        np.flatnonzero(mask.any(axis=tuple(other for other in lengths if other != axis))) for axis in lengths
    ]
    return tuple(slice(int(hits[0]), int(hits[-1]) + 1) for hits in found)


def _unwrap_box(phase: NDArray[Any], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    from skimage.restoration import unwrap_phase

    thin: NDArray[Any] = np.squeeze(phase)
    if thin.ndim == 0:
        return np.asarray(phase, np.float64)
    if thin.ndim == 1:
        return np.unwrap(thin).reshape(phase.shape)
    masked: Any = np.ma.array(thin, mask=~inside.reshape(thin.shape))  # type: ignore[no-untyped-call]
    unwrapped = unwrap_phase(masked, rng=_seed_that_repeats())
    return np.asarray(unwrapped.data, np.float64).reshape(phase.shape)


@lru_cache(maxsize=1)
def _seed_that_repeats() -> int | None:
    """The seed with which scikit-image gives the same result every time.

    Random numbers order voxels beside the mask, of which nothing is known. Up to 0.26 their generator is seeded
    if, and only if, no seed is given (its issue 7964); later the other way round. Noise tells which.
    """
    from skimage.restoration import unwrap_phase

    noise = np.random.default_rng(0).uniform(-np.pi, np.pi, (12, 12, 12))
    first, second = (unwrap_phase(noise, rng=None) for _ in range(2))
    return None if np.array_equal(first, second) else 0


def _settle_parts(unwrapped: NDArray[np.float64], inside: NDArray[np.bool_]) -> None:
    """Shift each connected part by its multiple of 2π, in place."""
    from scipy import ndimage

    parts, n_parts = ndimage.label(inside)
    sizes = np.bincount(parts.ravel())[1:]
    main = parts == 1 + int(np.argmax(sizes))
    unwrapped[main] -= _CYCLE * np.round(np.median(unwrapped[main]) / _CYCLE)
    if n_parts == 1:
        return
    distance, nearest = ndimage.distance_transform_edt(~main, return_indices=True)
    others = inside & ~main
    gap = unwrapped[tuple(nearest[:, others])] - unwrapped[others]
    labels = parts[others]
    wanted = np.unique(labels)
    least = np.zeros(n_parts + 1)
    least[wanted] = ndimage.minimum(distance[others], labels, wanted)
    facing = distance[others] < least[labels] + 0.5
    shift = np.zeros(n_parts + 1)
    shift[wanted] = _CYCLE * np.round(ndimage.median(gap[facing], labels[facing], wanted) / _CYCLE)
    unwrapped[others] += shift[labels]


def mean_of_neighbours(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean of the up to 26 neighbours inside the mask, the own value where there is none; (X, Y, Z) all."""
    from scipy.ndimage import uniform_filter

    share = np.float32(1 / 3**mask.ndim)
    own = np.where(mask, values, 0).astype(np.float32)
    n_others = uniform_filter(mask.astype(np.float32), size=3, mode="constant")
    n_others -= share * mask
    others = uniform_filter(own, size=3, mode="constant")
    others -= share * own
    return np.divide(others, n_others, out=own, where=n_others > 0.5 * share)


def unwrap_in_time(
    signal: NDArray[np.complexfloating[Any, Any]],
    weight: NDArray[np.float32],
    echo_times_s: NDArray[np.floating[Any]],
    slope_hz: NDArray[np.floating[Any]],
    span_s: float = 0.0,
) -> NDArray[np.float32]:
    """Phase of each echo relative to the first, ψ_e = arg(s_e s̄_1) + 2πn, radians, (E, N).

    ``signal`` is (E, N), ``slope_hz`` (N,). n is chosen so that each echo lies nearest to its prediction from
    a weighted line through the echoes before it (weights |s|², the inverse variance of phase) and
    ``slope_hz``, which counts as if measured over ``span_s`` seconds.
    """
    n_echoes, n_voxels = signal.shape
    relative = np.zeros((n_echoes, n_voxels), np.float32)
    reference = np.conj(signal[0])
    since_first = (np.asarray(echo_times_s, np.float64) - float(echo_times_s[0])).astype(np.float32)
    line = _RunningLine(weight[0], (np.float32(_CYCLE) * slope_hz).astype(np.float32), np.float32(span_s))
    for echo in range(1, n_echoes):
        measured = np.angle(signal[echo] * reference)
        turns = np.round((line.slope * since_first[echo] + line.start - measured) / np.float32(_CYCLE))
        relative[echo] = measured + np.float32(_CYCLE) * turns
        if echo + 1 < n_echoes:
            line.add(weight[echo], since_first[echo], relative[echo])
    return relative


class _RunningLine:
    """Weighted line start + slope·t through the echoes so far, the first at (0, 0), from a known slope."""

    def __init__(
        self, first_weight: NDArray[np.float32], slope: NDArray[np.float32], span_s: np.float32
    ) -> None:
        self.start: NDArray[np.float32] = np.zeros_like(slope)
        self.slope, self._known = slope, slope
        # two measurements of equal weight, span_s apart, tell the slope with the information w·span²/2
        self._information = first_weight * span_s**2 / 2
        self._w = first_weight
        self._t, self._tt, self._p, self._tp = (np.zeros_like(slope) for _ in range(4))

    def add(self, weight: NDArray[np.float32], time: np.float32, phase: NDArray[np.float32]) -> None:
        """Add one echo and refresh the line; where no weight is left it stays as it was."""
        self._w = self._w + weight
        self._t += weight * time
        self._tt += weight * time**2
        self._p += weight * phase
        self._tp += weight * time * phase
        total = np.where(self._w > 0, self._w, np.float32(1))
        mean_time = self._t / total
        spread = self._tt - self._t * mean_time + self._information
        moment = self._tp - self._p * mean_time + self._information * self._known
        self.slope = np.divide(moment, spread, out=self.slope.copy(), where=spread > 0)
        self.start = self._p / total - self.slope * mean_time
