"""Multi-echo signals with known R2*: decay, dephasing and noise. Arrays in and out; imports numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


def simulate_decay(
    echo_times_s: ArrayLike,
    r2star_per_s: ArrayLike,
    s0: ArrayLike = 1.0,
    noise_sigma: float = 0.0,
    rng: np.random.Generator | None = None,
    *,
    gradient_hz_per_mm: ArrayLike | None = None,
    length_mm: Sequence[float] = (0.0, 0.0, 0.0),
) -> Array:
    """Magnitude signal S(t) = S0·exp(−R2*·t)·|F(t)|, seen through Rician noise: |S + n₁ + i·n₂|.

    Parameters
    ----------
    echo_times_s
        (E,) seconds, in any order and spacing.
    r2star_per_s, s0
        Broadcast against each other to the shape (...).
    noise_sigma
        Standard deviation of n₁ and n₂ each, in the units of S0; 0 for none.
    rng
        Needed where there is noise: equal generators give equal signals.
    gradient_hz_per_mm
        (..., 3) gradient of the macroscopic field along the voxel axes; None for none.
    length_mm
        Lengths over which spins dephase along these axes.

    Returns
    -------
    (..., E) float64, echoes last; NaN where R2*, S0 or the gradient is.

    Raises
    ------
    ValueError
        An echo time or ``noise_sigma`` is negative, or there is noise but no ``rng``.

    Examples
    --------
    >>> simulate_decay([0.0, 0.01, 0.02], r2star_per_s=100.0, s0=1000.0).round(1)
    array([1000. ,  367.9,  135.3])
    """
    times = np.atleast_1d(np.asarray(echo_times_s, float))
    if (times < 0).any() or noise_sigma < 0:
        raise ValueError("echo times and noise_sigma can't be negative")
    rate, amplitude = np.broadcast_arrays(np.asarray(r2star_per_s, float), np.asarray(s0, float))
    signal = amplitude[..., None] * np.exp(-rate[..., None] * times)
    if gradient_hz_per_mm is not None:
        signal = signal * dephasing(np.asarray(gradient_hz_per_mm, float), length_mm, times)
    if noise_sigma == 0:
        return np.asarray(signal)
    if rng is None:
        raise ValueError("noise needs a random generator")
    return rician(signal, noise_sigma, rng)


def rician(signal: Array, noise_sigma: float, rng: np.random.Generator) -> Array:
    """Magnitude of a signal in complex Gaussian noise, |S + n₁ + i·n₂|, same shape and precision as ``signal``.

    The mean of M² is S² + 2σ²; where S = 0 it is Rayleigh noise of mean σ·√(π/2).

    >>> background = rician(np.zeros(100_000), 2.0, np.random.default_rng(1))
    >>> float(round(background.mean() / (2.0 * np.sqrt(np.pi / 2)), 2))
    1.0
    """
    real, imaginary = complex_noise(signal, noise_sigma, rng)
    real += signal
    return np.asarray(np.hypot(real, imaginary))


def noisy_complex(
    magnitude: Array, phase_rad: Array, noise_sigma: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Magnitude and phase in (−π, π] of M·e^{iφ} in complex Gaussian noise, shapes as given."""
    real, imaginary = complex_noise(magnitude, noise_sigma, rng)
    real += magnitude * np.cos(phase_rad)
    imaginary += magnitude * np.sin(phase_rad)
    return np.hypot(real, imaginary), np.arctan2(imaginary, real)


def complex_noise(like: Array, sigma: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Two independent N(0, σ) fields of the shape and floating precision of ``like``."""
    kind = np.float32 if like.dtype == np.float32 else np.float64
    return tuple(rng.standard_normal(like.shape, dtype=kind) * kind(sigma) for _ in range(2))  # type: ignore[return-value]


def dephasing(gradient_hz_per_mm: Array, length_mm: Sequence[float], echo_times_s: Array) -> Array:
    """|F(t)| = Π_axes |sinc(G·d·t)|, sinc(x) = sin(πx)/(πx): spins of a box-shaped voxel in a linear field.

    Parameters
    ----------
    gradient_hz_per_mm
        (..., 3) along the voxel axes, Hz/mm (42.577 Hz/mm is 1 mT/m).
    length_mm
        (3,) lengths d.
    echo_times_s
        (E,) seconds.

    Returns
    -------
    (..., E), in [0, 1]; the first zero lies where G·d·t = 1.

    >>> dephasing(np.array([0.0, 0.0, 10.0]), (1.0, 1.0, 2.0), np.array([0.0, 0.05])).round(3)
    array([1., 0.])
    """
    factor = np.ones((*gradient_hz_per_mm.shape[:-1], len(echo_times_s)), gradient_hz_per_mm.dtype)
    for axis, length in enumerate(length_mm):
        if length > 0:
            turns_per_s = gradient_hz_per_mm[..., axis, None] * gradient_hz_per_mm.dtype.type(length)
            factor *= np.sinc(turns_per_s * echo_times_s.astype(factor.dtype))
    return np.abs(factor)
