"""Simulated voxels whose signal is summed over the spins inside them: the oracle of this folder's tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

Field = Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def _centres(shape, voxel_mm):
    axes = [(np.arange(n) - (n - 1) / 2) * size for n, size in zip(shape, voxel_mm)]
    return np.meshgrid(*axes, indexing="ij")


def _offsets(lengths_mm, n_spins):
    axes = [
        ((np.arange(n_spins) + 0.5) / n_spins - 0.5) * length if length else np.zeros(1)
        for length in lengths_mm
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


@pytest.fixture(scope="session")
def sum_over_spins():
    """Complex signal (E, X, Y, Z) of voxels filled with spins, with complex Gaussian noise, and B0 at their centres."""

    def simulate(
        shape: tuple[int, int, int],
        voxel_mm: tuple[float, float, float],
        field_hz: Field,
        r2star_per_s: float,
        echo_times_s: NDArray[np.float64],
        dephasing_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
        snr: float = 60.0,
        seed: int = 0,
        n_spins: int = 24,
    ):
        rng = np.random.default_rng(seed)
        centres = _centres(shape, voxel_mm)
        offsets = _offsets(dephasing_mm, n_spins)
        signal = np.zeros((len(echo_times_s), *shape), np.complex128)
        for offset in offsets:
            field = field_hz(*(centre + step for centre, step in zip(centres, offset)))
            for echo, time in enumerate(echo_times_s):
                signal[echo] += np.exp(2j * np.pi * field * time)
        decay = np.exp(-r2star_per_s * np.asarray(echo_times_s))
        signal *= decay[:, None, None, None] / len(offsets)
        noise = rng.normal(size=signal.shape) + 1j * rng.normal(size=signal.shape)
        return (signal + noise / snr if snr else signal), field_hz(*centres)

    return simulate


@pytest.fixture(scope="session")
def polar():
    """Phase and magnitude, packed as `estimate_b0` takes them, of complex echoes (E, X, Y, Z) in a mask."""

    def pack(signal, mask):
        packed = np.stack([echo.T[mask.T] for echo in signal])
        return np.angle(packed).astype(np.float32), np.abs(packed).astype(np.float32)

    return pack
