"""Bias, spread and honesty of every estimator, as the table in docs/explanation/estimators.md.

``python scripts/estimator_accuracy.py`` rewrites the part of the page between its two markers. Imports r2star.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from r2star.fit import METHODS, fit_decay

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "estimators.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
ECHO_TIMES_S = np.arange(1, 13) * 0.003
S0 = 1000.0
SNRS = (20, 50, 100)
RATES_PER_S = (5, 20, 40, 80, 150)


def cramer_rao_bound(rate_per_s: float, sigma: float) -> float:
    """Smallest standard deviation of R2* under Gaussian noise, 1/s."""
    signal = S0 * np.exp(-rate_per_s * ECHO_TIMES_S)
    jacobian = np.stack([signal / S0, -ECHO_TIMES_S * signal], axis=1)
    return float(sigma * np.sqrt(np.linalg.inv(jacobian.T @ jacobian)[1, 1]))


def row(method: str, snr: float, rate_per_s: float, n_voxels: int) -> list[str]:
    """One line: mean and median bias, spread over the bound, reported error over the spread, voxels without value."""
    rng = np.random.default_rng([snr, rate_per_s])
    sigma = S0 / snr
    noise = rng.normal(0, sigma, (2, n_voxels, ECHO_TIMES_S.size))
    signal = np.hypot(S0 * np.exp(-rate_per_s * ECHO_TIMES_S) + noise[0], noise[1])
    decay = fit_decay(
        signal, ECHO_TIMES_S, method, noise_sigma=sigma if METHODS[method].uses_noise_model else None
    )
    rate = decay.r2star_per_s[decay.has_value]
    error = np.sqrt(np.mean(decay.r2star_se_per_s[decay.has_value] ** 2))
    return [
        method,
        f"{snr:g}",
        f"{rate_per_s:g}",
        f"{rate.mean() - rate_per_s:+.2f}",
        f"{np.median(rate) - rate_per_s:+.2f}",
        f"{rate.std():.2f}",
        f"{rate.std() / cramer_rao_bound(rate_per_s, sigma):.2f}",
        f"{error / rate.std():.2f}",
        f"{100 * (1 - rate.size / n_voxels):.2f}",
    ]


def table(n_voxels: int) -> str:
    """The whole table in Markdown."""
    heads = (
        "estimator",
        "SNR",
        "R2* 1/s",
        "bias (mean)",
        "bias (median)",
        "SD",
        "SD / bound",
        "SE / SD",
        "no value %",
    )
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for method in METHODS:
        lines += [
            "| " + " | ".join(row(method, snr, rate, n_voxels)) + " |" for snr in SNRS for rate in RATES_PER_S
        ]
    return "\n".join(lines)


def main() -> None:
    """Rewrite the page, or print the table with ``--print``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-voxels", type=int, default=40_000)
    parser.add_argument("--print", action="store_true", help="print, and leave the page as it is")
    options = parser.parse_args()
    text = table(options.n_voxels)
    if options.print:
        print(text)
        return
    head, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
