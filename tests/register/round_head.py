"""A round head and its brain on a grid of 3 mm, for tests that look at outlines and brightness."""

from __future__ import annotations

import numpy as np

from r2star.images import Grid, Image

_AFFINE = np.diag([3.0, 3, 3, 1])
_AFFINE[:3, 3] = -96
GRID = Grid((65, 65, 65), _AFFINE)
PLACES_MM = np.stack(np.meshgrid(*[np.linspace(-96, 96, 65)] * 3, indexing="ij"), -1)
BRAIN_MM, HEAD_MM = np.array([64.0, 78, 58]), np.array([82.0, 94, 78])


def within(half_axes_mm: np.ndarray, places_mm: np.ndarray = PLACES_MM) -> np.ndarray:
    return np.asarray((places_mm / half_axes_mm) ** 2).sum(-1) < 1


MASK = Image(within(BRAIN_MM).astype(np.float32), GRID)
