"""By how much an uncorrected field gradient raises R2*: the mono-exponential fit of a dephased decay.

For the signal e^{−R·t}·F(t) without noise, each estimator's answer R_m follows from its own normal equation.
For a measured R_m the same equation is solved for R; the bias is R_m − R. Arrays only; imports numpy and its
neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.field.dephasing import DephasingModel, dephasing_factor

Floats = NDArray[np.floating[Any]]
_CHUNK = 32768
#: With so many, up to 200 µT/m across 4 mm, a result stays as it is to 1e-4/s.
_ROUNDS, _ARLO_ROUNDS = 3, 8
_FORWARD_ROUNDS = 8


def predict_bias(
    r2star_per_s: Floats, factor: Floats, echo_times_s: Floats, method: str = "nonlinear"
) -> NDArray[np.float32]:
    """Part of a measured R2* that dephasing explains, R_m − R, in 1/s.

    Parameters
    ----------
    r2star_per_s
        (N,) measured without correction.
    factor
        (N, E) dephasing factor F(t) of each voxel.
    echo_times_s
        (E,) seconds.
    method
        The estimator that measured: one of `SOLVERS`.

    Returns
    -------
    (N,) in 1/s; never more than the measured R2*: where the gradient would explain more, all of it. NaN where
    R2* or the factor is NaN, R2* is negative, or there is no solution.

    Examples
    --------
    The size of the effect at 3 T in slices of 2 mm, 150 µT/m, on R2* = 30/s:

    >>> times = np.linspace(0.005, 0.029, 6)
    >>> factor = np.sinc(42.577478461 * 150 * 2e-3 * times)
    >>> round(float(expected_bias(np.array([30.0]), factor[None], times)[0]), 1)
    8.4
    """
    solve = SOLVERS[method]
    out = np.empty(r2star_per_s.shape, np.float32)
    # a common shift of all echoes changes the amplitude only; from the first on, fast decays don't vanish
    times = (np.asarray(echo_times_s, np.float64) - float(echo_times_s[0])).astype(np.float32)
    for start in range(0, out.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        measured = r2star_per_s[part].astype(np.float32)
        with np.errstate(all="ignore"):  # what has no solution becomes NaN
            true = solve(measured, np.maximum(factor[part].T.astype(np.float32), np.float32(1e-6)), times)
        known = (measured >= 0) & np.isfinite(true)
        out[part] = np.where(known, measured - np.maximum(true, 0), np.nan)
    return out


def predict_bias_map(
    r2star_per_s: Floats,
    gradient_ut_per_m: Floats,
    echo_times_s: Floats,
    model: DephasingModel,
    method: str = "nonlinear",
    *,
    corrected: bool = False,
) -> NDArray[np.float32]:
    """`predict_bias` from the gradient: maps (X, Y, Z), (X, Y, Z, 3) in, (X, Y, Z) out, NaN where one is NaN.

    With ``corrected`` the R2* is the true one, from a fit with the factor: the bias of leaving it out.
    """
    out = np.full(r2star_per_s.shape, np.nan, np.float32)
    used = [axis for axis, length in enumerate(model.lengths_mm) if length > 0]
    known = np.isfinite(r2star_per_s) & np.isfinite(gradient_ut_per_m[..., used]).all(axis=-1)
    rate, gradient = r2star_per_s[known], gradient_ut_per_m[known]
    bias = np.empty(rate.shape, np.float32)
    bias_of = expected_bias if corrected else predict_bias
    for start in range(0, bias.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        factor = dephasing_factor(gradient[part], echo_times_s, model)
        bias[part] = bias_of(rate[part], factor, echo_times_s, method)
    out[known] = bias
    return out


def expected_bias(
    true_r2star_per_s: Floats, factor: Floats, echo_times_s: Floats, method: str = "nonlinear"
) -> NDArray[np.float32]:
    """Bias of the uncorrected fit for a known true R2*, in 1/s; shapes as `predict_bias`.

    Sought is the measured R_m whose part explained by dephasing leaves the true R2*, by substitution.
    """
    true = np.asarray(true_r2star_per_s, np.float32)
    bias = np.zeros_like(true)
    for _ in range(_FORWARD_ROUNDS):
        bias = predict_bias(true + bias, factor, echo_times_s, method)
    return bias


def _solve_nonlinear(measured: Floats, factor: Floats, times: Floats) -> Floats:
    """R of Σ F·e^{−R·t}·e·(t − τ) = 0 with e = e^{−R_m·t}, τ = Σe²t/Σe²: there R_m is the optimum.

    Early echoes pull down and late ones up; the logarithm of their ratio is nearly linear in R, and Newton on
    it needs few rounds. There is one solution: the sum changes sign once.
    """
    decay = np.exp(-times[:, None] * measured)
    square = decay * decay
    tau = (times @ square) / square.sum(axis=0)
    pull = factor * decay * (times[:, None] - tau)
    true = measured
    for _ in range(_ROUNDS):
        term = pull * np.exp(-times[:, None] * true)
        late, early = np.maximum(term, 0), np.minimum(term, 0)
        sum_late, sum_early = late.sum(axis=0), early.sum(axis=0)
        distance = (times @ late) / sum_late - (times @ early) / sum_early
        true = true + np.log(sum_late / -sum_early) / distance
    return true


def _solve_loglinear(measured: Floats, factor: Floats, times: Floats) -> Floats:
    """R_m = R − slope of ln F on t."""
    since_mean = times - times.mean()
    return measured + (since_mean / (since_mean @ since_mean)) @ np.log(factor)


def _solve_weighted(measured: Floats, factor: Floats, times: Floats) -> Floats:
    """As log-linear, with the weights e^{−2·R_m·t} of the fitted signal, on which the re-fits settle."""
    weight = np.exp(-2 * times[:, None] * measured)
    since_mean = times[:, None] - (times @ weight) / weight.sum(axis=0)
    return measured + (weight * since_mean * np.log(factor)).sum(axis=0) / (weight * since_mean**2).sum(
        axis=0
    )


def _solve_arlo(measured: Floats, factor: Floats, times: Floats) -> Floats:
    """R for which ARLO (Pei 2015, doi:10.1002/mrm.25137) of the dephased decay is R_m, by substitution."""
    third = (times[1] - times[0]) / 3
    true = measured
    for _ in range(_ARLO_ROUNDS):
        signal = factor * np.exp(-times[:, None] * true)
        integral = third * (signal[:-2] + 4 * signal[1:-1] + signal[2:])
        drop = signal[:-2] - signal[2:]
        mixed = (integral * drop).sum(axis=0)
        found = (third * (drop**2).sum(axis=0) + mixed) / ((integral**2).sum(axis=0) + third * mixed)
        true = true + measured - found
    return true


#: The true R2* behind a measured one, for each estimator. The Rician fit sees the same decay above its noise
#: floor.
SOLVERS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "loglinear": _solve_loglinear,
    "weighted": _solve_weighted,
    "arlo": _solve_arlo,
    "nonlinear": _solve_nonlinear,
    "rician": _solve_nonlinear,
}
