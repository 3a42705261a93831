"""A diffeomorphic warp of one volume onto another by local correlation, and its inverse. Numpy and the kernels.

Greedy ascent: φ ← φ∘(id + v), v the smoothed gradient of the mean squared local correlation, exact and not the
usual approximation at the window's centre. Displacements are in voxels, (3, X, Y, Z), 0 at the edge of the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Volume = NDArray[np.float32]

#: Windows with less than this share of weight have nothing to say.
_LEAST_SHARE = 0.1


@dataclass(frozen=True)
class Level:
    """One resolution: the grid is shrunk by ``shrink``; smoothing in its voxels."""

    shrink: int
    iterations: int
    update_sigma: float = 2.5
    total_sigma: float = 1.0
    step: float = 0.5
    radius: int = 3
    floor: float = 0.1


@dataclass(frozen=True)
class Channel:
    """Two volumes on one grid that should look alike, and their share in the whole."""

    fixed: Volume
    moving: Volume
    share: float = 1.0


class Slabs:
    """Runs kernels in slabs along x over a few threads."""

    def __init__(self, n_threads: int) -> None:
        self.n_threads = max(1, n_threads)
        self._pool = ThreadPoolExecutor(self.n_threads) if self.n_threads > 1 else None

    def run(self, kernel: Callable[..., None], size: int, *arguments: Any) -> None:
        """Call ``kernel(*arguments, x0, x1)`` over all slabs."""
        if self._pool is None:
            kernel(*arguments, 0, size)
            return
        edges = np.linspace(0, size, 2 * self.n_threads + 1).astype(int)
        jobs = [self._pool.submit(kernel, *arguments, int(a), int(b)) for a, b in pairwise(edges)]
        for job in jobs:
            job.result()

    def smooth(self, values: Volume, taps: Volume) -> Volume:
        """Smoothed (..., X, Y, Z) copy."""
        from r2star.register.kernels import smooth_slab

        out = np.empty_like(values)
        for index in np.ndindex(values.shape[:-3]):
            self.run(smooth_slab, values.shape[-3], values[index], taps, out[index])
        return out

    def sample(self, values: Volume, moved: Volume) -> Volume:
        """``values(x + moved)`` for (..., X, Y, Z) values."""
        from r2star.register.kernels import sample_slab

        out = np.empty((*values.shape[:-3], *moved.shape[1:]), np.float32)
        for index in np.ndindex(values.shape[:-3]):
            self.run(sample_slab, moved.shape[1], values[index], moved, out[index])
        return out

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


def gaussian_taps(sigma: float) -> Volume:
    """Normalised Gaussian weights out to 3σ.

    >>> float(gaussian_taps(1.0).sum().round(6)), gaussian_taps(0.0).tolist()
    (1.0, [1.0])
    """
    reach = int(np.ceil(3 * sigma))
    places = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (places / max(sigma, 1e-6)) ** 2)
    return np.asarray(weights / weights.sum(), np.float32)


def find_warp(
    channels: Sequence[Channel], levels: Sequence[Level], *, weight: Volume | None = None, n_threads: int = 1
) -> tuple[Volume, list[float]]:
    """Displacement u with moving(x + u(x)) ≈ fixed(x), and the similarity before each iteration.

    ``weight`` (X, Y, Z), 0 to 1, is what each voxel counts in every window that holds it: 0 in lesions,
    where there is nothing to match.
    """
    shape = channels[0].fixed.shape
    slabs = Slabs(n_threads)
    moved = np.zeros((3, *(1,) * 3), np.float32)
    history: list[float] = []
    try:
        for level in levels:
            small = _shrunk_shape(shape, level.shrink)
            moved = _regrid(moved, small)
            parts = [
                Channel(_prepare(one.fixed, level, small), _prepare(one.moving, level, small), one.share)
                for one in channels
            ]
            scale = None if weight is None else _regrid_scalar(weight, small)
            moved = _climb(parts, scale, moved, level, slabs, history)
        return _regrid(moved, shape), history
    finally:
        slabs.close()


def _climb(
    channels: Sequence[Channel],
    weight: Volume | None,
    moved: Volume,
    level: Level,
    slabs: Slabs,
    history: list[float],
) -> Volume:
    update_taps, total_taps = gaussian_taps(level.update_sigma), gaussian_taps(level.total_sigma)
    windows = _Windows.over(channels[0].fixed.shape, weight, level, slabs)
    fixed = [windows.moments(one.fixed) for one in channels]
    rim = _rim(channels[0].fixed.shape)
    start = len(history)
    step = level.step
    for _ in range(level.iterations):
        force = np.zeros_like(moved)
        score = 0.0
        for one, moments in zip(channels, fixed):
            score += _add_force(one, moments, slabs.sample(one.moving, moved), windows, force)
        history.append(score / float(windows.share.sum()))
        if len(history) - start > 6 and history[-1] < history[-6] + 1e-4:
            if step < 0.3 * level.step:
                break
            step *= 0.5
        velocity = slabs.smooth(force, update_taps) * rim
        size = float(np.sqrt(np.max(np.einsum("cxyz,cxyz->xyz", velocity, velocity))))
        if size <= 0:
            break
        velocity *= np.float32(step / size)
        moved = velocity + slabs.sample(moved, velocity)
        if level.total_sigma > 0:
            moved = slabs.smooth(moved, total_taps) * rim
    return moved


@dataclass(frozen=True)
class _Windows:
    """Cubic windows in which voxels count by ``weight`` (None: all the same).

    ``share`` is each window's mean weight, and what the window counts in the similarity.
    """

    taps: Volume
    floor: np.float32
    weight: Volume | None
    share: Volume
    used: Volume  # 1 where a window holds enough to be matched
    slabs: Slabs

    @classmethod
    def over(cls, shape: tuple[int, ...], weight: Volume | None, level: Level, slabs: Slabs) -> _Windows:
        taps = np.full(2 * level.radius + 1, 1 / (2 * level.radius + 1), np.float32)
        share = np.ones(shape, np.float32) if weight is None else slabs.smooth(weight, taps)
        used = (share > _LEAST_SHARE).astype(np.float32)
        return cls(taps, np.float32(level.floor), weight, share * used, used, slabs)

    def mean(self, values: Volume) -> Volume:
        """Weighted window means of (..., X, Y, Z) values."""
        if self.weight is None:
            return self.slabs.smooth(values, self.taps)
        total = self.slabs.smooth(values * self.weight, self.taps)
        return np.asarray(total / np.maximum(self.share, np.float32(_LEAST_SHARE)))

    def moments(self, fixed: Volume) -> tuple[Volume, Volume]:
        """Mean and variance of each window."""
        mean = self.mean(fixed)
        return mean, self.mean(fixed * fixed) - mean * mean

    def gather(self, terms: Volume) -> Volume:
        """What all windows that hold a voxel add up to there, by its weight."""
        total = self.slabs.smooth(terms, self.taps)
        return total if self.weight is None else total * self.weight


def _add_force(
    one: Channel, moments: tuple[Volume, Volume], moving: Volume, windows: _Windows, force: Volume
) -> float:
    """Add the gradient of a channel's share in the similarity to ``force``; that share's sum over windows.

    A window's similarity counts by its mean weight, which cancels the division in its weighted means.
    """
    from r2star.register.kernels import correlation_slab, force_slab, products_slab

    size, slabs = moving.shape[0], windows.slabs
    raw = np.empty((3, *moving.shape), np.float32)
    raw[0] = moving
    slabs.run(products_slab, size, moving, one.fixed, raw[1], raw[2])
    terms = np.empty((4, *moving.shape), np.float32)
    score = np.empty_like(moving)
    means = windows.mean(raw)
    slabs.run(correlation_slab, size, means, *moments, windows.used, windows.floor, terms, score)
    slabs.run(force_slab, size, moving, one.fixed, windows.gather(terms), one.share, force)
    if windows.weight is not None:
        score *= windows.share
    return one.share * float(score.sum(dtype=np.float64))


def invert_warp(
    moved: Volume, *, n_iterations: int = 40, tolerance: float = 0.005, n_threads: int = 1
) -> Volume:
    """Displacement v with v(x) = −u(x + v(x)), by fixed-point iteration until it changes less than ``tolerance``."""
    slabs = Slabs(n_threads)
    inverse = -moved
    try:
        for _ in range(n_iterations):
            better = -slabs.sample(moved, inverse)
            change = float(np.abs(better - inverse).max())
            inverse = better
            if change < tolerance:
                break
    finally:
        slabs.close()
    return inverse


def _shrunk_shape(shape: tuple[int, ...], shrink: int) -> tuple[int, int, int]:
    x, y, z = (max(int(np.ceil(n / shrink)), 4) for n in shape)
    return x, y, z


def _prepare(volume: Volume, level: Level, small: tuple[int, int, int]) -> Volume:
    """Smoothed, resampled to the level's grid, brought to mean 0 and standard deviation 1."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(volume, 0.5 * (level.shrink - 1), mode="nearest") if level.shrink > 1 else volume
    values = _regrid_scalar(smooth, small)
    return np.asarray((values - values.mean()) / max(float(values.std()), 1e-12), np.float32)


def _regrid_scalar(volume: Volume, shape: tuple[int, ...]) -> Volume:
    """Corner-aligned linear resampling to another shape."""
    from scipy.ndimage import map_coordinates

    if volume.shape == tuple(shape):
        return np.ascontiguousarray(volume, dtype=np.float32)
    axes = [np.linspace(0, old - 1, new) for old, new in zip(volume.shape, shape)]
    grid = np.meshgrid(*axes, indexing="ij")
    return np.asarray(map_coordinates(volume, grid, order=1, mode="nearest"), np.float32)


def _regrid(moved: Volume, shape: tuple[int, ...]) -> Volume:
    """Displacements of one grid as displacements, in its voxels, of another over the same extent."""
    scale = [(new - 1) / max(old - 1, 1) for old, new in zip(moved.shape[1:], shape)]
    return np.stack([_regrid_scalar(part * np.float32(factor), shape) for part, factor in zip(moved, scale)])


def _rim(shape: tuple[int, ...], width: int = 4) -> Volume:
    """1 inside, falling to 0 at the edge of the grid over a few voxels."""
    ramps = [np.clip(np.minimum(np.arange(n), np.arange(n)[::-1]) / width, 0, 1) for n in shape]
    return np.asarray(ramps[0][:, None, None] * ramps[1][:, None] * ramps[2], np.float32)
