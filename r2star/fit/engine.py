"""Runs an estimator over all voxels: chunks, threads, and the voxels that can't use every echo. Imports numpy.

Threads share nothing but the maps they write, each its own voxels; the kernels release the interpreter lock.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.fit.blocks import Blocks, Design, Rules
from r2star.fit.methods import Estimator, Method
from r2star.fit.status import Status

CHUNK = 16384


@dataclass(frozen=True)
class Job:
    """Voxels along the first axis of every array, echoes along the second."""

    signal: NDArray[Any]
    dephasing: NDArray[Any] | None
    sigma: NDArray[Any]
    mask: NDArray[np.bool_] | None
    order: NDArray[np.int64]
    design: Design
    method: Method
    rules: Rules
    n_coils: int
    maps: tuple[NDArray[np.floating], ...]
    status: NDArray[np.uint8]
    doubt: Status = Status.OK


def run_job(job: Job, n_threads: int) -> None:
    """Fit every voxel of the job, chunk after chunk, on up to ``n_threads`` threads."""
    estimate = job.method.load()
    starts = range(0, job.status.size, CHUNK)
    n_workers = max(1, min(n_threads, len(starts)))
    waiting = iter(starts)  # shared: a thread that the machine slows down takes fewer

    def work(_: int) -> None:
        room = _room(job, min(CHUNK, job.status.size))
        listed = np.empty(CHUNK, np.int64)
        for start in waiting:
            _fit_chunk(job, start, room, listed, estimate)

    if n_workers == 1:
        work(0)
        return
    with ThreadPoolExecutor(n_workers) as pool:
        list(pool.map(work, range(n_workers)))


def _room(job: Job, n_voxels: int) -> Blocks:
    return Blocks.empty(
        n_voxels, job.order.size, with_dephasing=job.dephasing is not None, n_coils=job.n_coils
    )  # fmt: skip


def _fit_chunk(job: Job, start: int, room: Blocks, listed: NDArray[np.int64], estimate: Estimator) -> None:
    from r2star.fit.packing import list_voxels
    from r2star.fit.writing import clear_maps

    stop = min(start + CHUNK, job.status.size)
    voxels = listed[: list_voxels(job.mask, start, stop, listed)]
    if voxels.size < stop - start:
        clear_maps(job.maps, job.status, start, stop)
    if voxels.size == 0:
        return
    blocks = room.first(voxels.size)
    if not _fit_voxels(job, voxels, blocks, estimate):
        return
    run = blocks.run.ravel()[: voxels.size]
    for code in np.unique(run[run != job.order.size]):
        _fit_run(job, voxels[run == code], int(code), estimate)


def _fit_voxels(job: Job, voxels: NDArray[np.int64], blocks: Blocks, estimate: Estimator) -> bool:
    """Fit the listed voxels by the echoes of the job; whether some of them can't use all."""
    from r2star.fit.judging import judge_dephasing, judge_signal
    from r2star.fit.packing import pack_signal
    from r2star.fit.writing import write_maps

    pack_signal(job.signal, job.order, voxels, blocks.signal)
    if any(job.sigma.strides):
        pack_signal(job.sigma[:, None], np.zeros(1, np.int64), voxels, blocks.sigma[:, None])
    else:  # one σ for all voxels
        blocks.sigma[:] = job.sigma[0]
    some_lack_echoes = judge_signal(
        blocks.signal, blocks.sigma, job.rules, blocks.largest, blocks.variation, blocks.run, blocks.status
    )  # fmt: skip
    if job.dephasing is not None:
        pack_signal(job.dephasing, job.order, voxels, blocks.dephasing)
        judge_dephasing(blocks.dephasing, blocks.status)
    estimate(blocks, job.design)
    write_maps(
        blocks.result,
        blocks.status,
        blocks.largest,
        blocks.variation,
        blocks.sigma,
        job.design.span_s,
        job.design.rate_range,
        float(np.finfo(job.maps[0].dtype).max),
        voxels,
        job.maps,
        job.status,
        int(job.doubt),
    )
    return bool(some_lack_echoes)


def _fit_run(job: Job, voxels: NDArray[np.int64], code: int, estimate: Estimator) -> None:
    """Fit voxels that can use only the echoes first to end, all of them the same ones."""
    first, end = divmod(code, job.order.size + 1)
    times = job.design.echo_times_s[first:end]
    if times[-1] == times[0]:
        for each in job.maps:
            if each.size:
                each[voxels] = np.nan
        job.status[voxels] = Status.TOO_FEW_ECHOES
        return
    run = replace(
        job,
        order=job.order[first:end],
        design=Design(times),
        rules=job.rules._replace(lowest_echo=-np.inf, drop_sigmas=0.0, saturation=np.inf),
        doubt=Status.SATURATED if first else Status.ECHOES_DROPPED,
    )
    _fit_voxels(run, voxels, _room(run, voxels.size), estimate)
