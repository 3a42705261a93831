"""What the field costs beside the plain fit: medians of interleaved rounds, arrays and files, in CPU seconds.

Run ``python benchmarks/bench_field.py [--rounds 3] [--shape 192 224 120]``. The aim: reporting or correcting costs at
most 1.5 times the plain fit, plus unwrapping.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from r2star.field import (
    choose_dephasing,
    dephasing_factor,
    estimate_b0,
    fit_gradient,
    iterate_dephasing,
    predict_bias_map,
)
from r2star.field import unwrap as unwrap_module
from r2star.fit import fit_decay
from r2star.images import Grid, write_image
from r2star.steps import field as field_step
from r2star.steps.fit import fit_maps

TIMES = np.linspace(0.005, 0.029, 8)
RATE = 30.0


def simulate(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Complex echoes (E, N) of an ellipsoid's voxels with a steep frontal field, and its mask."""
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    mask = x**2 / 0.7 + y**2 / 0.8 + z**2 / 0.7 < 1
    b0 = (200 * np.exp(-((x - 0.1) ** 2 + (y - 0.5) ** 2 + (z + 0.5) ** 2) / 0.06) + 60 * x + 30 * y)[mask]
    signal = np.empty((TIMES.size, b0.size), np.complex64)
    for echo, time_s in enumerate(TIMES):
        noise = rng.normal(size=b0.size) + 1j * rng.normal(size=b0.size)
        signal[echo] = 1000 * (np.exp((2j * np.pi * b0 - RATE) * time_s) + noise / 60)
    return signal, mask


class Clock:
    """CPU seconds (of all threads) of every named part, round after round."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def run(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call and time."""
        start = time.process_time()
        result = function(*args, **kwargs)
        self.seconds[name].append(time.process_time() - start)
        return result

    def per_round(self, *names: str) -> np.ndarray:
        """Sum of parts in each round; a name with a minus in front is taken off."""
        return sum(
            (-1 if name.startswith("-") else 1) * np.array(self.seconds[name.lstrip("-")]) for name in names
        )


def corrected_fit(magnitude, gradient, model, n_threads):
    """The fit with the factor, slab by slab."""
    factors = iterate_dephasing(gradient, TIMES, model, depth=8)
    for number, factor in enumerate(factors):
        slab = magnitude[:, :, 8 * number : 8 * number + 8]
        fit_decay(slab, TIMES, "nonlinear", n_threads=n_threads, dephasing=factor)


def plain_fit(magnitude, n_threads):
    for start in range(0, magnitude.shape[2], 8):
        fit_decay(magnitude[:, :, start : start + 8], TIMES, "nonlinear", n_threads=n_threads)


def bench_arrays(clock: Clock, signal, mask, n_threads: int) -> None:
    # echoes slowest and x fastest, as the fit reads them from files
    magnitude = np.zeros((TIMES.size, *mask.shape[::-1]), np.float32).T
    magnitude[mask] = np.abs(signal).T
    clock.run("plain fit", plain_fit, magnitude, n_threads)
    unwrap = unwrap_module._unwrap_box
    unwrap_module._unwrap_box = lambda *args: clock.run("unwrapping", unwrap, *args)
    try:
        b0 = clock.run("B0", estimate_b0, signal.copy(), mask, TIMES)
    finally:
        unwrap_module._unwrap_box = unwrap
    gradient = clock.run("gradient", fit_gradient, b0.b0_hz, (1.0, 1.0, 1.0)).ut_per_m
    gradient = np.asfortranarray(gradient)
    rate = np.where(mask, np.float32(RATE), np.float32(np.nan))
    for kind in ("2D", "3D"):
        model = choose_dephasing(kind, 1.0, (1.0, 1.0, 1.0))
        clock.run(f"bias {kind}", predict_bias_map, rate, gradient, TIMES, model)
        clock.run(f"factor {kind}", dephasing_factor, gradient, TIMES, model)
        clock.run(f"corrected fit {kind}", corrected_fit, magnitude, gradient, model, n_threads)


def bench_files(clock: Clock, folder: Path, n_threads: int) -> None:
    magnitude = tuple(sorted(folder.glob("mag-*.nii.gz")))
    phase = tuple(sorted(folder.glob("phase-*.nii.gz")))
    times = tuple(TIMES.tolist())
    sidecar = {"MRAcquisitionType": "2D", "SliceThickness": 1.0}
    fitted = clock.run("step: fit", fit_maps, magnitude, times, folder, n_threads=n_threads)
    unwrap = unwrap_module._unwrap_box
    unwrap_module._unwrap_box = lambda *args: clock.run("step: unwrapping", unwrap, *args)
    try:
        maps = clock.run("step: B0 and gradient", field_step.estimate_b0, phase, magnitude,
                         folder / "mask.nii.gz", times, folder, sidecar=sidecar, n_threads=n_threads)  # fmt: skip
    finally:
        unwrap_module._unwrap_box = unwrap
    clock.run("step: bias", field_step.predict_gradient_bias, fitted.r2star_map, maps.gradient_map,
              maps.facts, times, folder)  # fmt: skip


def write_files(folder: Path, signal, mask) -> None:
    grid = Grid(mask.shape, np.eye(4))
    write_image(folder / "mask.nii.gz", mask, grid, dtype=np.uint8)
    rng = np.random.default_rng(1)
    for echo in range(TIMES.size):
        air = rng.normal(0, 1000 / 60, (*mask.shape, 2)).astype(np.float32)
        whole = air[..., 0] + 1j * air[..., 1]
        whole[mask] = signal[echo]
        write_image(folder / f"mag-{echo}.nii.gz", np.round(np.abs(whole)), grid, dtype=np.int16)
        stored = 2 * np.floor(np.angle(whole) / np.pi * 2048)
        write_image(folder / f"phase-{echo}.nii.gz", stored, grid, dtype=np.int16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", type=int, nargs=3, default=(192, 224, 120))
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    signal, mask = simulate(tuple(asked.shape))
    clock = Clock()
    bench_arrays(
        Clock(), signal[:, :4000], np.arange(4000).reshape(20, 20, 10) >= 0, asked.threads
    )  # compile
    with tempfile.TemporaryDirectory() as name:
        write_files(Path(name), signal, mask)
        for _ in range(asked.rounds):
            bench_arrays(clock, signal, mask, asked.threads)
            bench_files(clock, Path(name), asked.threads)
    print(f"{mask.size} voxels, {mask.sum()} in the brain, {TIMES.size} echoes, {asked.threads} threads")
    for part, seconds in clock.seconds.items():
        print(f"{part:24s}{np.median(seconds):8.2f} s")
    plain = clock.per_round("plain fit")
    for kind in ("2D", "3D"):
        report = clock.per_round("plain fit", "B0", "-unwrapping", "gradient", f"bias {kind}") / plain
        correct = clock.per_round("B0", "-unwrapping", "gradient", f"corrected fit {kind}") / plain
        own = clock.per_round(f"corrected fit {kind}") / plain
        print(f"{kind}: report {np.median(report):.2f}, correct {np.median(correct):.2f} of the plain fit "
              f"without unwrapping; corrected fit alone {np.median(own):.2f}")  # fmt: skip
    step = clock.per_round("step: fit")
    field = clock.per_round("step: fit", "step: B0 and gradient", "-step: unwrapping", "step: bias") / step
    print(f"files: fit and field {np.median(field):.2f} of the fit without unwrapping")


if __name__ == "__main__":
    main()
