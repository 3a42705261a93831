"""The fit beside a copy of its bytes and beside other programs, interleaved in one run, as medians of ratios.

``python benchmarks/bench_fit.py [--voxels 11500000] [--echoes 8] [--rounds 5] [--write]``. tedana, ukat and scipy are
measured where they are installed, on as many voxels as they manage in a second or so; their rows are per voxel.
``--write`` puts the table into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from r2star.fit import METHODS, fit_decay

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- fit: begin -->", "<!-- fit: end -->"
MASK_SHARE = 0.26
N_PEER_VOXELS = 256

Case = Callable[[], object]


def simulate(n_voxels: int, n_echoes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Echoes (E, N) float32 with Rician noise, air outside a mask of a quarter of the voxels; the mask; the times."""
    rng = np.random.default_rng(0)
    times = 0.003 + np.arange(n_echoes) * (0.030 / n_echoes)
    mask = np.zeros(n_voxels, bool)
    start = int(n_voxels * (1 - MASK_SHARE) / 2)
    mask[start : start + int(n_voxels * MASK_SHARE)] = True
    rate = rng.uniform(10, 60, n_voxels).astype(np.float32)
    level = np.where(mask, rng.uniform(500, 1500, n_voxels), 0).astype(np.float32)
    echoes = np.empty((n_echoes, n_voxels), np.float32)
    for echo, time_s in enumerate(times):
        clean = level * np.exp(-rate * np.float32(time_s))
        real = clean + 20 * rng.standard_normal(n_voxels, dtype=np.float32)
        echoes[echo] = np.hypot(real, 20 * rng.standard_normal(n_voxels, dtype=np.float32))
    return echoes, mask, times


def fit_cases(echoes: np.ndarray, mask: np.ndarray, times: np.ndarray) -> dict[str, tuple[Case, int]]:
    """Name → (call, voxels that it fits): the copy first, then every estimator."""
    signal = np.moveaxis(echoes, 0, -1)
    n, n_mask = mask.size, int(mask.sum())
    target = np.empty_like(echoes)
    cases: dict[str, tuple[Case, int]] = {"copy of the whole input": (lambda: np.copyto(target, echoes), n)}
    for name in METHODS:
        cases[f"{name}, mask"] = (lambda name=name: fit_decay(signal, times, name, mask=mask), n_mask)
    for name in ("loglinear", "weighted", "nonlinear"):
        cases[f"{name}, everywhere"] = (lambda name=name: fit_decay(signal, times, name), n)
    cases["nonlinear, mask, one thread"] = (lambda: fit_decay(signal, times, mask=mask, n_threads=1), n_mask)
    cases["nonlinear, mask, no standard errors"] = (
        lambda: fit_decay(signal, times, mask=mask, standard_errors=False),
        n_mask,
    )
    echoes_last = np.ascontiguousarray(signal)
    cases["nonlinear, mask, echoes last in memory"] = (
        lambda: fit_decay(echoes_last, times, mask=mask),
        n_mask,
    )
    return cases


def peer_cases(echoes: np.ndarray, mask: np.ndarray, times: np.ndarray) -> dict[str, tuple[Case, int]]:
    """Other programs' fits of the first voxels of the mask, those that are installed."""
    few = np.ascontiguousarray(echoes[:, mask][:, :N_PEER_VOXELS].T.astype(np.float64))
    cases: dict[str, tuple[Case, int]] = {}

    def scipy_fit() -> None:
        optimize = importlib.import_module("scipy.optimize")
        for row in few:
            optimize.curve_fit(lambda t, s0, r: s0 * np.exp(-r * t), times, row, p0=(row[0], 30.0))

    cases["scipy curve_fit"] = (scipy_fit, len(few))
    for name, find in (("tedana", _tedana_fit), ("ukat", _ukat_fits)):
        try:
            cases.update({key: (call, len(few)) for key, call in find(few, times).items()})
        except ImportError:
            print(f"{name} is not installed: not measured")
    return cases


def _tedana_fit(few: np.ndarray, times: np.ndarray) -> dict[str, Case]:
    decay = importlib.import_module("tedana.decay")
    good = np.full(len(few), few.shape[1])
    data = few[:, :, None]  # samples × echoes × volumes
    return {
        "tedana curve_fit": lambda: decay.fit_monoexponential(
            data_cat=data, echo_times=list(times * 1000), adaptive_mask=good, report=False
        )
    }


def _ukat_fits(few: np.ndarray, times: np.ndarray) -> dict[str, Case]:
    mapping = importlib.import_module("ukat.mapping.t2star")
    image = few.reshape(-1, 1, 1, few.shape[1])

    def fit(method: str) -> Case:
        return lambda: mapping.T2Star(image, times * 1000, np.eye(4), method=method, multithread=False)

    return {"ukat loglin": fit("loglin"), "ukat 2p_exp": fit("2p_exp")}


def measure(cases: dict[str, tuple[Case, int]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every case, one after the other in each round, after one round that compiles and warms."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peers warn about fits that fail
        for turn in range(rounds + 1):
            cases["nonlinear, mask"][0]()  # while slow peers ran, the system put the echoes' memory away
            for name, (call, _) in cases.items():
                start = time.perf_counter()
                call()
                if turn:
                    seconds[name].append(time.perf_counter() - start)
    return seconds


def table(seconds: dict[str, list[float]], cases: dict[str, tuple[Case, int]], title: str) -> str:
    """Markdown: time, voxels per second, ratio to the copy, and ratio per voxel to the nonlinear fit in the mask."""
    copy = np.array(seconds["copy of the whole input"])
    own = np.array(seconds["nonlinear, mask"]) / cases["nonlinear, mask"][1]
    lines = [title, "", "| case | ms | million voxels/s | times a copy | times `nonlinear` per voxel |"]
    lines.append("|---|---:|---:|---:|---:|")
    for name, each in seconds.items():
        n = cases[name][1]
        taken = np.array(each)
        peer = n <= N_PEER_VOXELS
        lines.append(
            f"| {name} | {1e3 * np.median(taken):.1f} | {n / np.median(taken) / 1e6:.4g} "
            f"| {'' if peer else f'{np.median(taken / copy):.1f}'} | {np.median(taken / n / own):.3g} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print; with ``--write`` keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voxels", type=int, default=11_500_000)
    parser.add_argument("--echoes", type=int, nargs="+", default=[8, 12])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    parts = []
    for n_echoes in options.echoes:
        echoes, mask, times = simulate(options.voxels, n_echoes)
        cases = fit_cases(echoes, mask, times) | peer_cases(echoes, mask, times)
        load = os.getloadavg()[0]
        title = (
            f"{options.voxels:,} voxels × {n_echoes} echoes float32, {int(mask.sum()):,} in the mask, "
            f"{os.cpu_count()} CPUs ({platform.machine()}), load {load:.1f} before, medians of {options.rounds} rounds."
        )
        parts.append(table(measure(cases, options.rounds), cases, title))
        print(parts[-1], end="\n\n", flush=True)
    if options.write:
        head, rest = README.read_text(encoding="utf-8").split(BEGIN)
        text = "\n\n".join(parts)
        README.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
