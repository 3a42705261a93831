#!/usr/bin/env python3
"""How well field gradients are predicted and corrected: voxels filled with spins, summed one by one.

Nothing of the program's own model of dephasing is used to make the signal: complex echoes are sums over spins in a
linear field, with the profile of an excited slice, decay, coil phase and complex noise. Phase and magnitude then go
through B0, gradient, prediction and fit as a participant's do. Writes the tables of ``docs/explanation/field.md``.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np

from r2star.field import (
    GAMMA_HZ_PER_UT,
    choose_dephasing,
    dephasing_factor,
    estimate_b0,
    fit_gradient,
    predict_bias_map,
)
from r2star.fit import fit_decay

PAGE = Path(__file__).parents[1] / "docs/explanation/field.md"
TIMES_S = np.linspace(0.005, 0.029, 8)
SHAPE = (14, 14, 12)
SNR = 60.0
GRADIENTS = (0, 50, 100, 150, 200)
RATES = (20.0, 40.0, 60.0)
METHODS = ("nonlinear", "weighted", "rician")


def rectangle(n_spins: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of spins in units of the slice's thickness, and their weights."""
    return (np.arange(n_spins) + 0.5) / n_spins - 0.5, np.full(n_spins, 1 / n_spins)


def gaussian(n_spins: int = 192) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian profile of full width 1 at half height."""
    offset = 4 * rectangle(n_spins)[0]
    weight = np.exp(-4 * np.log(2) * offset**2)
    return offset, weight / weight.sum()


def windowed_sinc(n_spins: int = 192, time_bandwidth: float = 2.7) -> tuple[np.ndarray, np.ndarray]:
    """The small-angle profile of a Hann-windowed sinc pulse, of full width 1 at half height."""
    offset = 3 * rectangle(n_spins)[0]
    time = rectangle(400)[0]
    pulse = np.sinc(time_bandwidth * time) * (1 + np.cos(2 * np.pi * time))

    def profile(at: np.ndarray) -> np.ndarray:
        return np.abs(np.cos(2 * np.pi * np.multiply.outer(at, time)) @ pulse)

    wide = np.linspace(0, 6, 6001)
    half = 2 * wide[np.argmax(profile(wide) < profile(np.zeros(1))[0] / 2)]
    weight = profile(offset * half)
    return offset, weight / weight.sum()


def echoes(
    size_mm: float, slopes: np.ndarray, rate: float, spins: list[tuple[np.ndarray, np.ndarray]], seed: int
):
    """Complex echoes (E, X, Y, Z) of a linear field of ``slopes`` µT/m, and B0 at the voxels' centres."""
    rng = np.random.default_rng(seed)
    centre = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * size_mm for n in SHAPE), indexing="ij")
    b0_hz = 25 + sum(GAMMA_HZ_PER_UT * 1e-3 * slope * axis for slope, axis in zip(slopes, centre))
    signal = []
    for time in TIMES_S:
        turn = 2 * np.pi * GAMMA_HZ_PER_UT * 1e-3 * size_mm * time * slopes
        inside = np.prod([weight @ np.exp(1j * one * offset) for one, (offset, weight) in zip(turn, spins)])
        signal.append(inside * np.exp((2j * np.pi * b0_hz - rate) * time + 0.1j * centre[0]))
    noise = rng.normal(size=(2, len(TIMES_S), *SHAPE)) / SNR
    return np.array(signal) + noise[0] + 1j * noise[1], b0_hz


def measure(size_mm: float, gradient: float, rate: float, kind: str, profile, seed: int) -> dict[str, float]:
    """Errors of everything for one set of voxels, medians over them."""
    point = (np.zeros(1), np.ones(1))
    slopes = np.array([15.0, -10.0, gradient]) if kind == "2D" else gradient * np.array([0.5, 0.3, 0.8])
    spins = [point, point, profile()] if kind == "2D" else [rectangle()] * 3
    signal, b0_hz = echoes(size_mm, slopes, rate, spins, seed)
    mask = np.ones(SHAPE, bool)
    phase, magnitude = (part(signal).astype(np.float32) for part in (np.angle, np.abs))
    packed = [np.stack([echo.T.ravel() for echo in one]) for one in (phase, magnitude)]
    b0 = estimate_b0(*packed, mask, TIMES_S)
    found = fit_gradient(b0.b0_hz, (size_mm,) * 3, b0.b0_se_hz).ut_per_m
    model = choose_dephasing(kind, size_mm, (size_mm,) * 3)
    factor, last = dephasing_factor(found, TIMES_S, model), np.moveaxis(magnitude, 0, -1)
    plain = fit_decay(last, TIMES_S).r2star_per_s
    result = {
        "b0": np.median(np.abs(b0.b0_hz - b0_hz)),
        "plain": np.nanmedian(plain) - rate,
        "predicted": np.nanmedian(predict_bias_map(plain, found, TIMES_S, model)),
    }
    for method in METHODS:
        sigma = 1 / SNR if method == "rician" else None
        fitted = fit_decay(last, TIMES_S, method, noise_sigma=sigma, dephasing=factor).r2star_per_s
        result[method] = 100 * (np.nanmedian(fitted) / rate - 1)
    return result


def row(kind: str, size_mm: float, gradient: float, profile=rectangle) -> str:
    """One line of a table: the worst over the rates, but the smallest and largest of the uncorrected bias."""
    found = [measure(size_mm, gradient, rate, kind, profile, seed) for seed, rate in enumerate(RATES)]
    bias = [one["plain"] for one in found]
    missed = max(abs(one["predicted"] - one["plain"]) for one in found)
    worst = [max((one[method] for one in found), key=abs) for method in METHODS]
    told = " | ".join(f"{error:+.1f}" for error in worst)
    b0 = max(one["b0"] for one in found)
    return f"| {size_mm:g} | {gradient:g} | {min(bias):+.1f} to {max(bias):+.1f} | {missed:.2f} | {told} | {b0:.2f} |"


NAMES = "| mm | µT/m | uncorrected, 1/s | prediction, 1/s | nonlinear, % | weighted, % | rician, % | B0, Hz |"
HEAD = f"{NAMES}\n{'|---:' * 8}|"
PROFILES = {"rectangle": rectangle, "windowed sinc": windowed_sinc, "Gaussian": gaussian}


def encoded(turns: float) -> list[float]:
    """What is left of a uniform object at so many cycles a voxel: box, all of k-space, Hamming, 6/8 of k-space."""
    k = np.linspace(-0.5, 0.5, 2001)  # cycles per voxel that were measured
    at = np.argmin(np.abs(k + turns))
    windows = np.ones_like(k), 0.54 + 0.46 * np.cos(2 * np.pi * k), (k > -0.25).astype(float)
    return [float(np.sinc(turns)), *(float(window[at] / window[1000]) for window in windows)]


def tables() -> dict[str, str]:
    """Name → Markdown."""
    sizes = (1.0, 2.0, 3.0, 4.0)
    slices = [row("2D", size, gradient) for size, gradient in product(sizes, GRADIENTS)]
    voxels = [row("3D", size, gradient) for size, gradient in product((1.0, 2.0, 4.0), (50, 100, 150, 200))]
    shapes = [
        f"| {name} {row('2D', 2.0, gradient, profile)}"
        for gradient in (50, 100, 150)
        for name, profile in PROFILES.items()
    ]
    left = [f"| {turns:g} | " + " | ".join(f"{one:.2f}" for one in encoded(turns)) + " |"
            for turns in (0.1, 0.2, 0.3, 0.4)]  # fmt: skip
    names = (
        "| cycles a voxel | box | all of k-space | Hamming filter | 6/8, far side lost |\n"
        + "|---:" * 5
        + "|"
    )
    return {
        "slices": "\n".join([HEAD, *slices]),
        "voxels": "\n".join([HEAD, *voxels]),
        "profiles": "\n".join([f"| profile {NAMES}", f"|---{'|---:' * 8}|", *shapes]),
        "encoding": "\n".join([names, *left]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into the page")
    asked = parser.parse_args()
    text = PAGE.read_text() if asked.write else ""
    for name, table in tables().items():
        if asked.write:
            begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
            before, after = text.split(begin)[0], text.split(end)[1]
            text = f"{before}{begin}\n\n{table}\n\n{end}{after}"
        else:
            print(f"\n{name}\n\n{table}")
    if asked.write:
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
