"""`fit_decay`: from an array of magnitudes to maps of R2*. Imports numpy; numba comes with the estimator.

The work is cut into chunks of voxels, packed into blocks, fitted and written, each chunk by one of the threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from r2star.errors import InputError
from r2star.fit.blocks import Blocks, Design
from r2star.fit.methods import METHODS, Method
from r2star.fit.status import Status

CHUNK = 16384
FloatMap = NDArray[np.floating]


@dataclass(frozen=True)
class Decay:
    """Maps of one fit, all of the shape of the signal without its echoes; NaN where there is no value."""

    r2star_per_s: FloatMap
    r2star_se_per_s: FloatMap
    s0: FloatMap
    s0_se: FloatMap
    residual: FloatMap
    r_squared: FloatMap
    status: NDArray[np.uint8]

    @property
    def has_value(self) -> NDArray[np.bool_]:
        """Where there is a value, by the status."""
        return np.isin(self.status, [code for code in Status if code.has_value])


@dataclass(frozen=True)
class _Job:
    """Everything that a chunk needs, voxels along the first axis of each array."""

    signal: NDArray
    dephasing: NDArray | None
    sigma: NDArray
    mask: NDArray[np.bool_] | None
    order: NDArray[np.int64]
    design: Design
    method: Method
    thresholds: tuple[float, float, float, float]
    n_coils: int
    maps: tuple[NDArray, ...]
    status: NDArray[np.uint8]


def fit_decay(
    signal: ArrayLike,
    echo_times_s: ArrayLike,
    method: str = "nonlinear",
    noise_sigma: ArrayLike | None = None,
    n_threads: int | None = None,
    dephasing: ArrayLike | None = None,
    n_coils: int = 1,
    *,
    mask: ArrayLike | None = None,
    drop_below_sigmas: float = 0.0,
    saturation_level: float | None = None,
) -> Decay:
    """Fit S(t) = S0·exp(−R2*·t)·|F(t)| to magnitudes, voxel by voxel."""
    values = _as_real(signal, "signal")
    order, design = _order_echoes(values, echo_times_s)
    shape = values.shape[:-1]
    axes = _memory_order(values)
    spatial = [shape[a] for a in axes]
    dtype = np.float64 if values.dtype == np.float64 else np.float32
    maps = tuple(np.empty(spatial, dtype) for _ in range(6))
    status = np.empty(spatial, np.uint8)

    def flat(array: ArrayLike | None, *echoes: int) -> NDArray | None:
        if array is None:
            return None
        whole = np.broadcast_to(np.asarray(array), (*shape, *echoes))
        turned = whole.transpose(*axes, *([whole.ndim - 1] if echoes else []))
        return turned.reshape(-1, *echoes)

    job = _Job(
        flat(values, values.shape[-1]),
        flat(dephasing, values.shape[-1]),
        flat(0.0 if noise_sigma is None else noise_sigma),
        flat(mask),
        order,
        design,
        METHODS[method],
        (
            0.0 if METHODS[method].takes_logarithm else -1.0,
            drop_below_sigmas,
            np.inf if saturation_level is None else saturation_level,
            3.0,
        ),
        n_coils,
        tuple(each.reshape(-1) for each in maps),
        status.reshape(-1),
    )
    _run(job, n_threads)
    back = np.argsort(axes)
    return Decay(*(each.transpose(back) for each in maps), status=status.transpose(back))


def _as_real(array: ArrayLike, name: str) -> NDArray:
    values = np.asarray(array)
    if values.dtype.kind == "f" and values.dtype.itemsize in (4, 8):
        return values
    if values.dtype.kind not in "fiub":
        raise InputError(
            "E330", f"{name} has type {values.dtype}", "real magnitudes", "take the modulus of complex data"
        )
    return values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)


def _order_echoes(signal: NDArray, echo_times_s: ArrayLike) -> tuple[NDArray[np.int64], Design]:
    times = np.atleast_1d(np.asarray(echo_times_s, np.float64))
    if signal.ndim == 0 or times.ndim != 1 or signal.shape[-1] != times.size:
        raise InputError(
            "E331",
            f"signal of shape {signal.shape} and {times.size} echo times",
            "echoes along the last axis",
        )
    if not (np.isfinite(times).all() and (times >= 0).all()):
        raise InputError("E332", f"echo times {times.tolist()} s", "finite, not negative")
    order = np.argsort(times, kind="stable")
    if np.unique(times).size < 2:
        raise InputError("E333", f"{np.unique(times).size} distinct echo times", "at least two")
    return order, Design(times[order])


def _memory_order(values: NDArray) -> list[int]:
    strides = values.strides[:-1]
    return sorted(range(len(strides)), key=lambda axis: -abs(strides[axis]))


def _run(job: _Job, n_threads: int | None) -> None:
    estimate = job.method.load()
    starts = range(0, job.status.size, CHUNK)
    wanted = n_threads or len(os.sched_getaffinity(0))
    n_workers = max(1, min(wanted, len(starts)))

    def work(worker: int) -> None:
        blocks = Blocks.empty(
            CHUNK, job.order.size, with_dephasing=job.dephasing is not None, n_coils=job.n_coils
        )
        for start in starts[worker::n_workers]:
            _fit_chunk(job, start, blocks, estimate)

    if n_workers == 1:
        work(0)
        return
    with ThreadPoolExecutor(n_workers) as pool:
        list(pool.map(work, range(n_workers)))


def _fit_chunk(job: _Job, start: int, room: Blocks, estimate: Callable[[Blocks, Design], None]) -> None:
    from r2star.fit.packing import judge_signal, pack_signal, write_maps

    stop = min(start + CHUNK, job.status.size)
    if job.mask is None:
        voxels = np.arange(start, stop)
    else:
        voxels = np.flatnonzero(job.mask[start:stop]) + start
        for each in job.maps:
            each[start:stop] = np.nan
        job.status[start:stop] = Status.OUTSIDE_MASK
        if voxels.size == 0:
            return
    blocks = room.first(voxels.size)
    pack_signal(job.signal, job.order, voxels, blocks.signal)
    if job.dephasing is not None:
        pack_signal(job.dephasing, job.order, voxels, blocks.dephasing)
    pack_signal(job.sigma[:, None], np.zeros(1, np.int64), voxels, blocks.sigma[:, None])
    judge_signal(
        blocks.signal,
        blocks.sigma,
        job.thresholds,
        blocks.largest,
        blocks.variation,
        blocks.run,
        blocks.status,
    )
    estimate(blocks, job.design)
    limit = float(np.finfo(job.maps[0].dtype).max)
    write_maps(
        blocks.result,
        blocks.status,
        blocks.largest,
        blocks.variation,
        blocks.sigma,
        job.design.span_s,
        limit,
        voxels,
        job.maps,
        job.status,
        0,
    )
