"""The voxels of a mask as packed rows, and work on parts of them in threads. Imports numpy.

Inside this package volumes are (Z, Y, X), x fastest, which is an image's own order in memory: the transpose of
the (X, Y, Z) that users hand in.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

#: Packed voxels of one call of a kernel. Fixed, so that sums do not depend on the number of threads.
PART = 32768
#: Slices of one call.
DEPTH = 4


@dataclass(frozen=True)
class Voxels:
    """The True voxels of a mask (Z, Y, X), in the order of its memory."""

    mask: NDArray[np.bool_]
    index: NDArray[np.intp]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Voxels:
        """Voxels of a mask (Z, Y, X)."""
        mask = np.ascontiguousarray(mask)
        return cls(mask, np.flatnonzero(mask))

    def pack(self, volume: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Values of a volume (Z, Y, X) at the voxels, (N,)."""
        # no index lies outside, and other modes than "raise" write straight into ``out``
        return volume.reshape(-1).take(self.index, out=out, mode="clip")

    def unpack(self, values: NDArray[np.float32], outside: float = np.nan) -> NDArray[np.float32]:
        """A volume (Z, Y, X) with the values (N,) at the voxels; (..., Z, Y, X) of values (..., N)."""
        volumes = np.full((*values.shape[:-1], *self.mask.shape), outside, np.float32)
        rows = volumes.reshape(-1, self.mask.size)
        for row, own in zip(rows, values.reshape(-1, values.shape[-1]), strict=True):
            row[self.index] = own
        return volumes

    def in_box(self) -> Voxels:
        """The same voxels in the smallest box that holds them."""
        return Voxels.of(self.mask[bounding_box(self.mask)])


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box of slices that holds every True of a mask that has one."""
    lengths = range(mask.ndim)
    found = [
        np.flatnonzero(mask.any(axis=tuple(other for other in lengths if other != axis))) for axis in lengths
    ]
    return tuple(slice(int(hits[0]), int(hits[-1]) + 1) for hits in found)


def in_parts(function: Callable[[int, int], T], count: int, n_threads: int, length: int = PART) -> list[T]:
    """Call ``function(start, stop)`` on parts of range(count), in threads; results in the order of the parts."""
    parts = [(start, min(start + length, count)) for start in range(0, count, length)]
    if n_threads == 1 or len(parts) == 1:
        return [function(*part) for part in parts]
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(lambda part: function(*part), parts))
