"""What an estimator is given: voxels in blocks of lanes, and echo times in a unit of their own. Imports numpy.

A block holds `LANES` voxels, echoes first: ``signal[block, echo, lane]``. Every loop of a kernel runs over all
lanes of a block, also over the padding of the last one, so a voxel meets the same instructions wherever it
stands, and its result does not depend on its neighbours, the chunk or the thread.

Inside, a signal is divided by its largest echo, and time is counted from the first echo in units of the span
``T`` of the echoes: ``x = (t − t₁)/T`` runs from 0 to 1, and the dimensionless rate is ``ρ = R2*·T``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LANES = 256  # rows of some echoes stay in a core's first cache

#: Rows of ``Blocks.result``: estimates, then the variances that noise of σ = 1 would give them.
RATE, AMPLITUDE, SQUARED_ERROR, RATE_VARIANCE, AMPLITUDE_VARIANCE, FREEDOM = range(6)
N_ROWS = 6

#: Beyond these the echoes can't tell rates apart: a fall by e¹² from the first echo to the next one, a rise by e⁵.
LARGEST_FALL = 12.0
LARGEST_RISE = 5.0


@dataclass(frozen=True, eq=False)
class Design:
    """Echo times (sorted) in the unit of the kernels; one object for a whole job, which tables are kept by."""

    echo_times_s: NDArray[np.float64]

    @cached_property
    def span_s(self) -> float:
        """T, from the first echo to the last, s."""
        return float(self.echo_times_s[-1] - self.echo_times_s[0])

    @cached_property
    def x(self) -> NDArray[np.float64]:
        """(E,) times from the first echo in units of T, 0 to 1."""
        return np.asarray((self.echo_times_s - self.echo_times_s[0]) / self.span_s)

    @cached_property
    def powers(self) -> NDArray[np.float64]:
        """(4, E') powers xᵏ, k = 0 to 3, with zeros after the last echo to a multiple of four: see `four_rows`."""
        powers = np.zeros((4, -(-self.x.size // 4) * 4))
        powers[:, : self.x.size] = self.x ** np.arange(4)[:, None]
        return powers

    @cached_property
    def x_first(self) -> float:
        """Time of the first echo in units of T: S0 lies that far before it."""
        return float(self.echo_times_s[0]) / self.span_s

    @cached_property
    def rate_range(self) -> tuple[float, float]:
        """Smallest and largest dimensionless rate that a fit may return."""
        first_step = self.x[self.x > 0][0]
        return -LARGEST_RISE, LARGEST_FALL / float(first_step)


class Rules(NamedTuple):
    """What an echo must be, to be used."""

    lowest_echo: float
    """An echo at or below it, and all later ones, are left out."""
    drop_sigmas: float
    """So are echoes below so many σ, from the first one on."""
    saturation: float
    """An echo at or above it, and all earlier ones, are left out."""
    floor_sigmas: float
    """A voxel whose largest echo is below so many σ is not fitted."""


@dataclass(frozen=True)
class Blocks:
    """Voxels to fit and the room for their results.

    Attributes
    ----------
    signal
        (B, E, LANES) magnitudes over the voxel's largest; padding and voxels with a fault hold ones.
    dephasing
        (B, E, LANES) |F|, or (B, 0, LANES) where there is none.
    sigma
        (B, LANES) noise scale over the voxel's largest magnitude; 0 where it isn't known.
    result
        (B, N_ROWS, LANES), written by the estimator.
    status
        (B, LANES) codes of `r2star.fit.Status`; an estimator may change OK into a fault.
    """

    signal: NDArray[np.float64]
    dephasing: NDArray[np.float64]
    sigma: NDArray[np.float64]
    largest: NDArray[np.float64]
    variation: NDArray[np.float64]
    run: NDArray[np.int32]
    result: NDArray[np.float64]
    status: NDArray[np.uint8]
    n_coils: int = 1

    @classmethod
    def empty(cls, n_voxels: int, n_echoes: int, *, with_dephasing: bool = False, n_coils: int = 1) -> Blocks:
        """Room for at least ``n_voxels``."""
        n = -(-n_voxels // LANES)
        return cls(
            signal=np.empty((n, n_echoes, LANES)),
            dephasing=np.empty((n, n_echoes if with_dephasing else 0, LANES)),
            sigma=np.empty((n, LANES)),
            largest=np.empty((n, LANES)),
            variation=np.empty((n, LANES)),
            run=np.empty((n, LANES), np.int32),
            result=np.empty((n, N_ROWS, LANES)),
            status=np.empty((n, LANES), np.uint8),
            n_coils=n_coils,
        )

    def first(self, n_voxels: int) -> Blocks:
        """The leading blocks, as many as ``n_voxels`` fill, sharing memory."""
        n = -(-n_voxels // LANES)
        return Blocks(
            self.signal[:n], self.dephasing[:n], self.sigma[:n], self.largest[:n], self.variation[:n],
            self.run[:n], self.result[:n], self.status[:n], self.n_coils,
        )  # fmt: skip
