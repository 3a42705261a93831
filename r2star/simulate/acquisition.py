"""What a scanner does to a head's signal: coil, dephasing, phase and noise. Arrays only; imports numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.simulate.decay import dephasing, noisy_complex, rician

Array = NDArray[Any]

_COIL_RADIUS_MM = 90.0


def coil_profile(rng: np.random.Generator, shape: tuple[int, ...], affine: Array) -> Array:
    """Receive sensitivity (X, Y, Z): 1 in the middle, a random slope, brighter towards the coil around."""
    slope = np.clip(rng.standard_normal(3), -2, 2) * 0.05
    bowl = 0.12 + 0.04 * rng.random(3)
    steps = (affine[:3, :3] / _COIL_RADIUS_MM).astype(np.float32)
    i, j, k = np.ogrid[tuple(slice(-(n - 1) / 2, n / 2) for n in shape)]
    i, j, k = (along.astype(np.float32) for along in (i, j, k))
    profile = np.ones(shape, np.float32)
    for axis in range(3):
        relative = steps[axis, 0] * i + steps[axis, 1] * j + steps[axis, 2] * k
        profile += relative * (np.float32(slope[axis]) + np.float32(bowl[axis]) * relative)
    return profile


def dephase(magnitude: Array, b0_hz: Array, affine: Array, echo_times_s: Sequence[float]) -> None:
    """Take from each echo (E, X, Y, Z) what the field B0 (Hz) takes, linear across each voxel, in place."""
    size = np.linalg.norm(affine[:3, :3], axis=0)
    seen = magnitude[0] > 0
    gradient = np.stack(
        [g[seen] / np.float32(d) for g, d in zip(np.gradient(b0_hz), size, strict=True)], axis=-1
    )
    for echo, time in enumerate(echo_times_s):
        magnitude[echo][seen] *= dephasing(gradient, tuple(size), np.array([time]))[..., 0]


def add_noise(magnitude: Array, sigma: float, rng: np.random.Generator) -> None:
    """Turn noise-free echoes (E, X, Y, Z) into Rician ones, in place."""
    for echo in magnitude:
        echo[:] = rician(echo, sigma, rng)


def add_phase_and_noise(
    magnitude: Array, b0_hz: Array, echo_times_s: Sequence[float], sigma: float, rng: np.random.Generator
) -> Array:
    """Give echoes the phase 2π·B0·t + φ0 and complex noise: magnitude in place, phase in (−π, π] returned.

    φ0 is a random slope of about 1 rad from the middle to the border, as a coil gives it.
    """
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in b0_hz.shape]
    slope = rng.standard_normal(3).astype(np.float32)
    offset = slope[0] * axes[0][:, None, None] + slope[1] * axes[1][:, None] + slope[2] * axes[2]
    phase = np.empty_like(magnitude)
    for echo, time in enumerate(echo_times_s):
        turned = np.float32(2 * np.pi * time) * b0_hz + offset
        magnitude[echo], phase[echo] = noisy_complex(magnitude[echo], turned, sigma, rng)
    return phase
