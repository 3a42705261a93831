"""Saturation of a receiver or of its numbers, found in the image itself. Imports numpy.

The rule: the first echo is saturated at its largest value where at least `LEAST_VOXELS` voxels share that value
exactly, more than `LEAST_RATIO` times as many as lie just below it (within `BAND` of it, or at the next lower value
where numbers are coarse), and where these voxels take at least `LEAST_DIFFERENT` different values at the second
echo. The last condition tells a clipped signal from tissue that was made equal, such as in a phantom without noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_VOXELS = 20
LEAST_RATIO = 2.0
BAND = 0.02
LEAST_DIFFERENT = 10


@dataclass(frozen=True)
class PileUp:
    """Voxels of the first echo (flat indices, x fastest) that share its largest value."""

    level: float
    voxels: NDArray[np.int64]


def find_pile_up(first_echo: NDArray[Any]) -> PileUp | None:
    """The voxels at the largest value of an image, if they are piled up there."""
    values = np.ravel(first_echo, order="F")
    values = np.where(np.isfinite(values), values, -np.inf) if values.dtype.kind == "f" else values
    level = values.max(initial=0)
    at_top = np.flatnonzero(values == level)
    if not level > 0 or at_top.size < LEAST_VOXELS:
        return None
    below = values[values < level]
    edge = min((1 - BAND) * level, below.max()) if below.size else level
    if at_top.size <= LEAST_RATIO * np.count_nonzero(below >= edge):
        return None
    return PileUp(float(level), at_top)


def is_saturation(pile: PileUp, second_echo: NDArray[Any]) -> bool:
    """Whether the voxels of a pile-up differ at the next echo, as they do where the first one was cut off."""
    return np.unique(np.ravel(second_echo, order="F")[pile.voxels]).size >= LEAST_DIFFERENT
