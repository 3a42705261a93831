"""What the field costs beside the plain fit: medians of interleaved rounds, arrays and files, in CPU seconds.

Run ``python benchmarks/bench_field.py [--rounds 5] [--shape 192 224 96]``: a head of 1 × 1 × 1.5 mm with 6 echoes. The
aim: reporting or correcting costs at most 1.5 times the plain fit plus unwrapping. Printed as well is the harder
reading, that all but the unwrapping costs at most 1.5 times the plain fit.
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
    estimate_b0,
    fit_packed_gradient,
    iterate_dephasing,
    predict_packed_bias,
)
from r2star.field import lines as lines_module
from r2star.fit import fit_decay
from r2star.images import Grid, write_image
from r2star.steps import field as field_step
from r2star.steps.fit import fit_maps

TIMES = np.linspace(0.005, 0.030, 6)
VOXEL_MM = (1.0, 1.0, 1.5)
RATE = 30.0
SIDECARS = {
    "2D": {"MRAcquisitionType": "2D", "SliceThickness": 1.5},
    "3D": {"MRAcquisitionType": "3D"},
}


class Head:
    """Complex noisy echoes of an ellipsoid with a steep frontal field, in noisy air; x fastest in memory."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        rng = np.random.default_rng(0)
        x, y, z = (
            axis.T
            for axis in np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
        )
        inside = x**2 / 0.7 + y**2 / 0.8 + z**2 / 0.7 < 1
        b0_hz = 200 * np.exp(-((x - 0.1) ** 2 + (y - 0.5) ** 2 + (z + 0.5) ** 2) / 0.06) + 60 * x + 30 * y
        self.mask = inside.T
        self.magnitude = np.empty((TIMES.size, *inside.shape), np.float32)
        self.phase = np.empty_like(self.magnitude)
        for echo, time_s in enumerate(TIMES):
            signal = inside * np.exp((2j * np.pi * b0_hz - RATE) * time_s)
            signal += (rng.normal(size=inside.shape) + 1j * rng.normal(size=inside.shape)) / 60
            self.magnitude[echo], self.phase[echo] = 1000 * np.abs(signal), np.angle(signal)
        self.packed = [np.stack([echo[inside] for echo in one]) for one in (self.phase, self.magnitude)]

    @property
    def echoes_last(self) -> np.ndarray:
        """Magnitude (X, Y, Z, E), a view."""
        return np.moveaxis(self.magnitude, 0, -1).transpose(2, 1, 0, 3)


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

    def apart(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call, and time what goes into unwrapping in space under a name of its own."""
        unwrap = lines_module.unwrap_in_space
        lines_module.unwrap_in_space = lambda *given: self.run(f"{name}: unwrapping", unwrap, *given)
        try:
            return self.run(name, function, *args, **kwargs)
        finally:
            lines_module.unwrap_in_space = unwrap


def corrected_fit(magnitude, gradient, model, n_threads):
    """The fit with the factor, as the step does it, slab by slab."""
    for number, factor in enumerate(iterate_dephasing(gradient.ut_per_m, TIMES, model, 8, n_threads)):
        slab = slice(8 * number, 8 * number + 8)
        fit_decay(magnitude[:, :, slab], TIMES, n_threads=n_threads, dephasing=factor)


def plain_fit(magnitude, n_threads):
    for start in range(0, magnitude.shape[2], 8):
        fit_decay(magnitude[:, :, start : start + 8], TIMES, n_threads=n_threads)


def bench_arrays(clock: Clock, head: Head, n_threads: int) -> None:
    magnitude = head.echoes_last
    clock.run("plain fit", plain_fit, magnitude, n_threads)
    phase, size = head.packed
    b0 = clock.apart("B0", estimate_b0, phase, size, head.mask, TIMES, n_threads)
    gradient = clock.run("gradient", fit_packed_gradient, b0.voxels, b0.packed_hz, VOXEL_MM, b0.packed_se_hz,
                         n_threads=n_threads)  # fmt: skip
    rate = np.full(b0.packed_hz.size, RATE, np.float32)
    for kind in SIDECARS:
        model = choose_dephasing(kind, 1.5, VOXEL_MM)
        known = (rate, gradient.packed_ut_per_m, TIMES, model)
        clock.run(f"bias {kind}", predict_packed_bias, *known, n_threads=n_threads)
        clock.run(f"bias taken out {kind}", predict_packed_bias, *known, corrected=True, n_threads=n_threads)
        clock.run(f"corrected fit {kind}", corrected_fit, magnitude, gradient, model, n_threads)


def bench_files(clock: Clock, folder: Path, n_threads: int) -> None:
    magnitude, phase = (tuple(sorted(folder.glob(f"{kind}-*.nii.gz"))) for kind in ("mag", "phase"))
    times = tuple(TIMES.tolist())
    fitted = clock.run("files: plain fit", fit_maps, magnitude, times, folder, n_threads=n_threads)
    maps = clock.apart("files: B0", field_step.estimate_b0, phase, magnitude, folder / "mask.nii.gz", times, folder,
                       sidecar=SIDECARS["2D"], n_threads=n_threads)  # fmt: skip
    known = {"gradient_map": maps.gradient_map, "facts": maps.facts}
    clock.run("files: bias", field_step.predict_gradient_bias, fitted.r2star_map, times, folder, **known,
              n_threads=n_threads)  # fmt: skip
    clock.run("files: corrected fit", fit_maps, magnitude, times, folder, n_threads=n_threads,
              gradient_map=maps.gradient_map, field_facts=maps.facts)  # fmt: skip


def write_files(folder: Path, head: Head) -> None:
    """Echoes as scanners store them: whole numbers, phase from −4096 to 4094."""
    grid = Grid(head.mask.shape, np.diag([*VOXEL_MM, 1.0]))
    write_image(folder / "mask.nii.gz", head.mask, grid, dtype=np.uint8)
    for echo in range(TIMES.size):
        write_image(folder / f"mag-{echo}.nii.gz", np.round(head.magnitude[echo].T), grid, dtype=np.int16)
        stored = 2 * np.floor(head.phase[echo].T / np.pi * 2048)
        write_image(folder / f"phase-{echo}.nii.gz", stored, grid, dtype=np.int16)


def show(clock: Clock) -> None:
    """A line a part, then of each round's sums all / (plain fit + unwrapping), and all but unwrapping / plain fit."""
    plain, files = clock.per_round("plain fit"), clock.per_round("files: plain fit")
    for part, seconds in clock.seconds.items():
        against = files if part.startswith("files") else plain
        print(f"| {part} | {np.median(seconds):.2f} | {np.median(np.array(seconds) / against):.2f} |")
    for kind in SIDECARS:
        report = ("plain fit", "B0", "gradient", f"bias {kind}")
        correct = (f"corrected fit {kind}", "B0", "gradient", f"bias taken out {kind}")
        show_ratios(clock, f"arrays, {kind}", "plain fit", "B0: unwrapping", report, correct)
    report = ("files: plain fit", "files: B0", "files: bias")
    correct = ("files: corrected fit", "files: B0", "files: bias")
    show_ratios(clock, "files, 2D", "files: plain fit", "files: B0: unwrapping", report, correct)


def show_ratios(clock: Clock, what: str, plain: str, unwrapping: str, *sums: tuple[str, ...]) -> None:
    """Both readings of "1.5 times the plain fit plus unwrapping" for reporting and correcting."""
    for name, parts in zip(("report", "correct"), sums, strict=True):
        together = np.median(clock.per_round(*parts) / clock.per_round(plain, unwrapping))
        apart = np.median(clock.per_round(*parts, f"-{unwrapping}") / clock.per_round(plain))
        print(f"| {what} | {name} | {together:.2f} | {apart:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shape", type=int, nargs=3, default=(192, 224, 96))
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    bench_arrays(Clock(), Head((20, 20, 10)), asked.threads)  # compile
    head, clock = Head(tuple(asked.shape)), Clock()
    with tempfile.TemporaryDirectory() as name:
        write_files(Path(name), head)
        for _ in range(asked.rounds):
            bench_arrays(clock, head, asked.threads)
            bench_files(clock, Path(name), asked.threads)
    print(
        f"{head.mask.size} voxels, {head.mask.sum()} in the brain, {TIMES.size} echoes, {asked.threads} threads"
    )
    show(clock)


if __name__ == "__main__":
    main()
