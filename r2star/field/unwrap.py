"""Phase unwrapping in space by scikit-image, and the mean of a voxel's neighbours, which tells where it went wrong.

scikit-image's `unwrap_phase` joins voxels in the order of their reliability, by second differences (Herráez 2002,
Appl Opt 41:7437; in 3D Abdul-Rahman 2005, Proc SPIE 5856:32), takes a mask, and only ever adds multiples of 2π.
Arrays only.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.field.voxels import DEPTH, bounding_box, in_parts

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


def mean_of_neighbours(
    values: NDArray[np.float32], mask: NDArray[np.bool_], n_threads: int = 1
) -> NDArray[np.float32]:
    """Mean of the up to 26 neighbours inside the mask, the own value where there is none; NaN outside it.

    All of one shape, of three axes; ``values`` outside the mask don't matter.
    """
    from r2star.field.plane_kernels import average_neighbours

    inside = np.ascontiguousarray(mask).view(np.uint8)
    known, out = np.ascontiguousarray(values, np.float32), np.full(mask.shape, np.nan, np.float32)
    in_parts(
        lambda start, stop: average_neighbours(known, inside, out, start, stop), len(mask), n_threads, DEPTH
    )
    return out
