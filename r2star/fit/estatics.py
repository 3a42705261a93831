"""ESTATICS: one R2* shared by several contrasts, each with its own S0. Imports numpy; numba when used.

Multi-parameter protocols acquire the same decay under several weightings (PD, T1, MT). Sₖ(t) = S0ₖ·exp(−R2*·t)
with one R2* (Weiskopf 2014, doi:10.3389/fnins.2014.00278), here by exact least squares of the magnitudes: every
S0ₖ is projected out as in `nonlinear`, and one rate is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from r2star.errors import InputError
from r2star.fit.blocks import Design
from r2star.fit.decay import FloatMap, as_real, broadcast, check_echo_times, count_threads
from r2star.fit.status import Status

CHUNK = 8192


@dataclass(frozen=True)
class Estatics:
    """Maps of one joint fit; ``s0`` and ``s0_se`` are (K, ...), one of each contrast, the others (...)."""

    r2star_per_s: FloatMap
    r2star_se_per_s: FloatMap
    s0: FloatMap
    s0_se: FloatMap
    residual: FloatMap
    status: NDArray[np.uint8]


def fit_estatics(
    signals: Sequence[ArrayLike],
    echo_times_s: Sequence[ArrayLike],
    *,
    noise_sigma: float | None = None,
    mask: ArrayLike | None = None,
    n_threads: int | None = None,
) -> Estatics:
    """Fit Sₖ(t) = S0ₖ·exp(−R2*·t) with one R2* to K contrasts, by least squares over all their echoes.

    Parameters
    ----------
    signals
        K arrays (..., Eₖ) of magnitudes on the same grid, with noise of the same σ.
    echo_times_s
        K arrays (Eₖ,), seconds. At least one contrast needs two echoes.
    noise_sigma
        σ for the standard errors; RSS/(ΣEₖ − K − 1) where None.
    mask, n_threads
        As in `r2star.fit.fit_decay`.

    Raises
    ------
    InputError
        Lists of different lengths, shapes that do not match, echo times that can't show a decay.

    Examples
    --------
    >>> t_pd, t_t1 = np.array([0.003, 0.008, 0.013]), np.array([0.003, 0.006])
    >>> fit = fit_estatics([900 * np.exp(-30 * t_pd), 400 * np.exp(-30 * t_t1)], [t_pd, t_t1])
    >>> round(float(fit.r2star_per_s), 6), fit.s0.round(6).tolist()
    (30.0, [900.0, 400.0])
    """
    values = [as_real(signal, "signal") for signal in signals]
    times = [check_echo_times(value, each) for value, each in zip(values, echo_times_s, strict=False)]
    if not values or len(values) != len(echo_times_s) or len({value.shape[:-1] for value in values}) != 1:
        found = f"signals of shapes {[value.shape for value in values]}, {len(echo_times_s)} lists of times"
        raise InputError("E337", found, "as many lists as signals, all on one grid")
    if all(np.unique(each).size < 2 for each in times):
        raise InputError(
            "E334", "fewer than two distinct echo times in every contrast", "two in one, to see a decay"
        )
    shape = values[0].shape[:-1]
    dtype = np.float64 if any(value.dtype == np.float64 for value in values) else np.float32
    where = np.broadcast_to(True, shape) if mask is None else broadcast(np.asarray(mask, bool), shape, "mask")
    flat = [value.reshape(-1, value.shape[-1]) for value in values]
    voxels = np.flatnonzero(where)
    rows = np.full((where.size, 3 + 2 * len(values)), np.nan, dtype)
    status = np.full(where.size, Status.OUTSIDE_MASK, np.uint8)
    sigma = 0.0 if noise_sigma is None else float(noise_sigma)

    def work(start: int) -> None:
        chosen = voxels[start : start + CHUNK]
        rows[chosen], status[chosen] = _fit_chunk([each[chosen] for each in flat], times, sigma)

    with ThreadPoolExecutor(count_threads(n_threads)) as pool:
        list(pool.map(work, range(0, voxels.size, CHUNK)))
    return _unfold(rows, status, shape, len(values))


def _unfold(
    rows: NDArray[Any], status: NDArray[np.uint8], shape: tuple[int, ...], n_contrasts: int
) -> Estatics:
    maps = [np.ascontiguousarray(row).reshape(shape) for row in rows.T]
    return Estatics(
        r2star_per_s=maps[0],
        r2star_se_per_s=maps[1],
        residual=maps[2],
        s0=np.stack(maps[3 : 3 + n_contrasts]),
        s0_se=np.stack(maps[3 + n_contrasts :]),
        status=status.reshape(shape),
    )


def _fit_chunk(
    signals: list[NDArray[Any]], times: list[NDArray[np.float64]], sigma: float
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Rows of R2*, its standard error, the residual, every S0 and every standard error of S0; and the status."""
    from r2star.fit.joint import fit_joint

    y = np.concatenate(signals, axis=1).astype(np.float64)
    group = np.repeat(np.arange(len(times)), [each.size for each in times])
    t = np.concatenate(times)
    design = Design(np.sort(t))
    x = t / design.span_s
    status = _judge(y, group)
    fine = np.flatnonzero(status == Status.OK)
    largest = y[fine].max(axis=1)
    fitted = np.empty((fine.size, 3 + 2 * len(times)))
    code = np.empty(fine.size, np.uint8)
    fit_joint(y[fine] / largest[:, None], x, group, *design.rate_range, sigma / largest, fitted, code)
    fitted[:, :2] /= design.span_s
    fitted[:, 2:] *= largest[:, None]
    status[fine] = code
    rows = np.full((len(y), 3 + 2 * len(times)), np.nan)
    rows[fine] = fitted
    return rows, status


def _judge(y: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.uint8]:
    status = np.full(len(y), Status.OK, np.uint8)
    positive = np.stack([(y[:, group == k] > 0).sum(axis=1) for k in range(group[-1] + 1)])
    status[positive.max(axis=0) < 2] = Status.TOO_FEW_ECHOES
    status[positive.sum(axis=0) == 0] = Status.NO_SIGNAL
    status[np.isfinite(y).all(axis=1) & (np.where(np.isfinite(y), y, 0) < 0).any(axis=1)] = Status.NEGATIVE
    status[~np.isfinite(y).all(axis=1)] = Status.NOT_FINITE
    return status
