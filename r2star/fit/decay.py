"""`fit_decay`: from an array of magnitudes to maps of R2*. Imports numpy; numba comes with the estimator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from r2star.errors import InputError, UsageError
from r2star.fit.blocks import Design, Rules
from r2star.fit.engine import Job, run_job
from r2star.fit.methods import METHODS, Method
from r2star.fit.status import Status

FloatMap = NDArray[np.floating]

SLAB_VOXELS = 2**20  # what is copied at a time of an array whose memory order can't be walked in one stride
FLOOR_SIGMAS = 3.0
EVEN_TOLERANCE = 1e-3  # of the spacing: echo times are written with rounding


@dataclass(frozen=True)
class Decay:
    """Maps of one fit, all of the shape of the signal without its echoes; NaN where there is no value.

    Attributes
    ----------
    r2star_per_s, r2star_se_per_s
        R2* and its standard error, 1/s.
    s0, s0_se
        Signal at t = 0 and its standard error, in the signal's unit.
    residual
        √(RSS/(E − 2)), in the signal's unit: σ where the model holds, more where it does not. NaN for two echoes.
    r_squared
        1 − RSS / Σ(M − mean M)².
    status
        Codes of `r2star.fit.Status`.
    """

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
    standard_errors: bool = True,
) -> Decay:
    """Fit S(t) = S0·exp(−R2*·t)·|F(t)| to magnitudes, voxel by voxel.

    Each voxel is fitted by itself with the same instructions: slabs, chunks, threads and voxel order change no
    bit. Nothing of the signal's size is copied, whether its echoes are last or first in memory
    (``np.moveaxis(echoes, 0, -1)``).

    Parameters
    ----------
    signal
        (..., E) real magnitudes, in any unit. Maps are float64 for a float64 signal, else float32.
    echo_times_s
        (E,) seconds, in any order, evenly spaced or not.
    method
        A name of `METHODS`.
    noise_sigma
        σ of the noise in one receiver channel's real part, in the signal's unit, one for all or (...);
        0 or NaN where unknown. Known, it gives the standard errors, also of two echoes, and a voxel whose
        largest echo is below 3σ is BELOW_NOISE_FLOOR. Unknown, σ² is RSS/(E − 2) of each voxel.
    n_threads
        Threads to use; all that the process may use where None.
    dephasing
        (..., E) |F| of a macroscopic field gradient, 0 to 1; `nonlinear`, `weighted` and `rician` take it.
    n_coils
        Channels of a root-sum-of-squares image, for `rician`.
    mask
        (...) true where to fit; all where None.
    drop_below_sigmas
        Noise-floor rule for late echoes: the first echo below so many σ, and all later ones, are left out
        (ECHOES_DROPPED). 0 keeps all. Methods with a logarithm leave out from the first zero on anyway.
    saturation_level
        Echoes at or above it, and earlier ones, are left out (SATURATED). None keeps all.
    standard_errors
        False leaves the two maps of standard errors NaN, without memory, and saves about a tenth of the time.

    Returns
    -------
    Decay
        A voxel without a value is NaN, and its status says why.

    Raises
    ------
    InputError
        Shapes that do not match, fewer than two distinct echo times, times that are negative or not finite,
        complex data, uneven echoes for `arlo`.
    UsageError
        An unknown method, or an option that the method does not take.

    Examples
    --------
    >>> import numpy as np
    >>> echo_times_s = [0.004, 0.009, 0.020]
    >>> decay = fit_decay([800 * np.exp(-25 * t) for t in echo_times_s], echo_times_s)
    >>> round(float(decay.r2star_per_s), 9), round(float(decay.s0), 9), Status(int(decay.status)).label
    (25.0, 800.0, 'ok')
    """
    chosen = _find_method(method, dephasing, n_coils)
    values = as_real(signal, "signal")
    order, design = _order_echoes(check_echo_times(values, echo_times_s), chosen)
    shape = values.shape[:-1]
    factors = (
        None if dephasing is None else broadcast(as_real(dephasing, "dephasing"), values.shape, "dephasing")
    )
    sigma = broadcast(
        as_real(0.0 if noise_sigma is None else noise_sigma, "noise_sigma"), shape, "noise_sigma"
    )
    where = None if mask is None else broadcast(np.asarray(mask, bool), shape, "mask")
    rules = Rules(
        lowest_echo=0.0 if chosen.takes_logarithm else -np.inf,
        drop_sigmas=drop_below_sigmas,
        saturation=np.inf if saturation_level is None else saturation_level,
        floor_sigmas=FLOOR_SIGMAS,
    )
    decay = _empty_decay(values, standard_errors)
    for part, axes in _walk(values):

        def flat(
            array: NDArray[Any], *echoes: int, part: tuple[slice, ...] = part, axes: list[int] = axes
        ) -> NDArray[Any]:
            last = [array.ndim - 1] if echoes else []
            turned = array.transpose(*axes, *last)
            return (turned[part] if part else turned).reshape(-1, *echoes)

        job = Job(
            signal=flat(values, values.shape[-1]),
            dephasing=None if factors is None else flat(factors, values.shape[-1]),
            sigma=flat(sigma),
            mask=None if where is None else flat(where),
            order=order,
            design=design,
            method=chosen,
            rules=rules,
            n_coils=n_coils,
            maps=tuple(
                flat(each) if each.flags.writeable else np.empty(0, each.dtype) for each in _float_maps(decay)
            ),
            status=flat(decay.status),
        )
        run_job(job, count_threads(n_threads))
    return decay


def _find_method(name: str, dephasing: ArrayLike | None, n_coils: int) -> Method:
    if name not in METHODS:
        raise UsageError("E540", f"no fit is called {name!r}", f"one of {', '.join(METHODS)}")
    if dephasing is not None and not METHODS[name].takes_dephasing:
        takers = ", ".join(key for key, each in METHODS.items() if each.takes_dephasing)
        raise UsageError("E541", f"the {name} fit knows no dephasing", f"one of {takers}")
    if n_coils < 1:
        raise UsageError("E542", f"n_coils is {n_coils}", "1 or more")
    return METHODS[name]


def count_threads(wanted: int | None) -> int:
    """The number of threads wanted, or all that this process may use."""
    if wanted is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if wanted < 1:
        raise UsageError("E543", f"n_threads is {wanted}", "1 or more")
    return wanted


def as_real(array: ArrayLike, name: str) -> NDArray[Any]:
    """The array in a type that kernels read, without a copy where that can be."""
    values = np.asarray(array)
    if values.dtype.kind not in "fiub":
        found = f"{name} holds {values.dtype.name}"
        raise InputError("E330", found, "real numbers", "take the modulus of complex data first")
    if values.dtype.kind == "f" and values.dtype.itemsize not in (4, 8):
        return values.astype(np.float32 if values.dtype.itemsize < 4 else np.float64)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def broadcast(array: NDArray[Any], shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """The array seen in another shape; an InputError where it does not fit."""
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise InputError("E331", f"{name} of shape {array.shape}", f"a shape that fits {shape}") from None


def check_echo_times(signal: NDArray[Any], echo_times_s: ArrayLike) -> NDArray[np.float64]:
    """The echo times as numbers, one for each entry of the signal's last axis."""
    times = np.atleast_1d(np.asarray(echo_times_s, np.float64))
    if signal.ndim == 0 or times.ndim != 1 or signal.shape[-1] != times.size:
        found = f"a signal of shape {signal.shape} and {times.size} echo times"
        raise InputError("E332", found, "one time for each entry of the last axis")
    if not (np.isfinite(times).all() and (times >= 0).all()):
        raise InputError("E333", f"echo times {times.tolist()} s", "finite ones, none below zero")
    return times


def _order_echoes(times: NDArray[np.float64], method: Method) -> tuple[NDArray[np.int64], Design]:
    order = np.argsort(times, kind="stable")
    steps = np.diff(times[order])
    if not (steps > 0).any():
        raise InputError("E334", "fewer than two distinct echo times", "two or more, to see a decay")
    if method.needs_even_echoes and np.ptp(steps) > EVEN_TOLERANCE * steps.mean():
        found = f"unevenly spaced echo times {times[order].tolist()} s"
        raise InputError("E335", found, f"even spacing for {method.module}", "use the nonlinear fit")
    return order, Design(times[order])


def _empty_decay(signal: NDArray[Any], standard_errors: bool) -> Decay:
    """Room for the maps, in the signal's memory order; unwanted standard errors are one NaN, seen everywhere."""
    shape, axes = signal.shape[:-1], _memory_order(signal)
    dtype = np.float64 if signal.dtype == np.float64 else np.float32

    def room(kind: Any) -> NDArray[Any]:
        return np.empty([shape[axis] for axis in axes], kind).transpose(np.argsort(axes))

    def error() -> NDArray[Any]:
        return room(dtype) if standard_errors else np.broadcast_to(np.asarray(np.nan, dtype), shape)

    return Decay(room(dtype), error(), room(dtype), error(), room(dtype), room(dtype), room(np.uint8))


def _float_maps(decay: Decay) -> tuple[FloatMap, ...]:
    return (
        decay.r2star_per_s, decay.r2star_se_per_s, decay.s0, decay.s0_se, decay.residual, decay.r_squared
    )  # fmt: skip


def _memory_order(signal: NDArray[Any]) -> list[int]:
    """Axes of the voxels from the slowest in memory to the fastest."""
    return sorted(range(signal.ndim - 1), key=lambda axis: -abs(signal.strides[axis]))


def _walk(signal: NDArray[Any]) -> Iterator[tuple[tuple[slice, ...], list[int]]]:
    """Parts that can be seen as (N, E) without a copy: the whole in nearly every case, else slabs to be copied."""
    axes = _memory_order(signal)
    turned = signal.transpose(*axes, signal.ndim - 1)
    try:
        turned.reshape(-1, signal.shape[-1], copy=False)
    except ValueError:
        n_slabs = max(1, SLAB_VOXELS * turned.shape[0] // (turned.size // turned.shape[-1]))
        for start in range(0, turned.shape[0], n_slabs):
            yield (slice(start, start + n_slabs),), axes
    else:
        yield (), axes
