"""What the echoes of a fit must hold, watched slab by slab while they are read anyway. Imports numpy and errors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r2star.errors import InputError, Notice
from r2star.steps.echo_rules import check_falling, check_one_decay

#: Voxels of a slab that are looked at first; the others only where these raise suspicion.
N_SAMPLES = 20_000


class EchoWatch:
    """Notices an echo without signal, and two echoes that are one image, over all slabs of an image."""

    def __init__(self, n_echoes: int, *, keeps_samples: bool = False) -> None:
        self._dark = set(range(n_echoes))
        self._equal = set(combinations(range(n_echoes), 2))
        self._keeps_samples = keeps_samples  # for `notices`
        self._samples: list[NDArray[np.float32]] = []

    def see(self, slab: NDArray[np.float32]) -> None:
        """Look at a slab (E, X, Y, n) of echoes."""
        step = max(1, round((slab[0].size / N_SAMPLES) ** (1 / 3)))
        sample = slab[:, ::step, ::step, ::step]
        if self._keeps_samples:
            self._samples.append(sample.reshape(len(slab), -1).copy())
        for echo in tuple(self._dark):
            if (sample[echo] > 0).any() or (slab[echo] > 0).any():
                self._dark.discard(echo)
        for one, other in tuple(self._equal):
            if not (_same(sample[one], sample[other]) and _same(slab[one], slab[other])):
                self._equal.discard((one, other))

    def check(self, paths: Sequence[Path]) -> None:
        """Judge after the last slab; ``paths`` are one file an echo, or one of all.

        Raises
        ------
        InputError
            E301 an echo without a positive voxel, E310 one image for two echoes.
        """
        if self._dark:
            echo = min(self._dark)
            found = f"no voxel of echo {echo + 1} is positive"
            fix = "export the echo again"
            raise InputError("E301", found, "a magnitude image is needed", fix, path=_path(paths, echo))
        if self._equal:
            one, other = min(self._equal)
            found = f"echo {other + 1} holds the same values as echo {one + 1}"
            needed, fix = "each echo is an image of its own", "export the series again"
            raise InputError("E310", found, needed, fix, path=_path(paths, other))

    def notices(
        self, paths: Sequence[Path], echo_times_s: Sequence[float], sigma: float | None
    ) -> list[Notice]:
        """Warn of a signal that rises, or leaves the decay through all echoes, after the last slab."""
        order = np.argsort(echo_times_s)
        samples = list(np.concatenate(self._samples, axis=1)[order])
        named = [
            paths[echo] if len(paths) > 1 else paths[0].with_name(f"{paths[0].name}, echo {echo + 1}")
            for echo in order
        ]
        times = [echo_times_s[echo] for echo in order]
        return check_falling(named, samples) + check_one_decay(named, samples, times, sigma)


def _path(paths: Sequence[Path], echo: int) -> Path:
    return paths[echo] if len(paths) > 1 else paths[0]


def _same(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return np.array_equal(one, other, equal_nan=True)
