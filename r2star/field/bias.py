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

from r2star.field.dephasing import DephasingModel, angles_per_s, dephasing_factor
from r2star.field.voxels import PART, in_parts

Floats = NDArray[np.floating[Any]]
Solver = Callable[[Floats, Floats, Floats], Floats]

#: The table: R2* up to 160/s, angles up to 1.6 rad at the last echo (|F| down to 0.62).
RATE_STEP_PER_S, N_RATES, N_SQUARES = 1.0, 161, 33
LARGEST_ANGLE = 1.6
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
    return _in_chunks(_explained, r2star_per_s, factor, echo_times_s, method)


def expected_bias(
    true_r2star_per_s: Floats, factor: Floats, echo_times_s: Floats, method: str = "nonlinear"
) -> NDArray[np.float32]:
    """Bias of the uncorrected fit for a known true R2*, in 1/s; shapes as `predict_bias`.

    Sought is the measured R_m whose part explained by dephasing leaves the true R2*, by substitution.
    """
    return _in_chunks(_expected, true_r2star_per_s, factor, echo_times_s, method)


def predict_bias_map(
    r2star_per_s: Floats,
    gradient_ut_per_m: Floats,
    echo_times_s: Floats,
    model: DephasingModel,
    method: str = "nonlinear",
    *,
    corrected: bool = False,
    n_threads: int = 1,
) -> NDArray[np.float32]:
    """`predict_bias` from the gradient: maps (X, Y, Z), (X, Y, Z, 3) in, (X, Y, Z) out, NaN where one is NaN.

    With ``corrected`` the R2* is the true one, from a fit with the factor: the bias of leaving it out. Where spins
    have not run far apart the bias comes from a table (`_tabulate`), right to 0.1 % of it; elsewhere voxel by voxel.
    """
    rates = np.ascontiguousarray(r2star_per_s.T, np.float32).reshape(-1)
    gradients = np.ascontiguousarray(gradient_ut_per_m.T, np.float32).reshape(3, -1)
    bias = predict_packed_bias(
        rates, gradients, echo_times_s, model, method, corrected=corrected, n_threads=n_threads
    )
    return bias.reshape(r2star_per_s.shape[::-1]).T


def predict_packed_bias(
    rates: NDArray[np.float32],
    gradients: NDArray[np.float32],
    echo_times_s: Floats,
    model: DephasingModel,
    method: str = "nonlinear",
    *,
    corrected: bool = False,
    n_threads: int = 1,
) -> NDArray[np.float32]:
    """`predict_bias_map` of voxels: R2* (N,) and gradients (3, N), as `FieldGradient` holds them, give (N,)."""
    from r2star.field.dephasing_kernels import interpolate_bias

    table, square_step = _tabulate(np.asarray(echo_times_s, np.float64), method, corrected)
    scales, bias = angles_per_s(model), np.empty_like(rates)
    in_parts(
        lambda start, stop: interpolate_bias(
            rates, gradients, scales, table, RATE_STEP_PER_S, square_step, bias, start, stop
        ),
        rates.size, n_threads, PART,
    )  # fmt: skip
    further = np.flatnonzero(bias < -0.5)
    bias_of = expected_bias if corrected else predict_bias
    factor = dephasing_factor(gradients[:, further].T, np.asarray(echo_times_s), model)
    bias[further] = bias_of(rates[further], factor, echo_times_s, method)
    if not corrected:
        np.minimum(bias, rates, out=bias)  # never more than the measured R2*
    return bias


def _tabulate(times: Floats, method: str, corrected: bool) -> tuple[NDArray[np.float32], float]:
    """Bias / s² over R2*, s² and Σ a⁴/s⁴, and the step of s²; a = γGd/2 along the axes, s² = Σ a².

    To fourth order ln Π sinc(a·t) = −s²·t²/6 − Σ a⁴·t⁴/180: with one axis Σ a⁴ = s⁴, with three equal ones s⁴/3.
    """
    square_step = (LARGEST_ANGLE / float(times.max())) ** 2 / (N_SQUARES - 1)
    squares = square_step * np.maximum(np.arange(N_SQUARES), 1e-3)
    rates = RATE_STEP_PER_S * np.arange(N_RATES, dtype=np.float64)
    measured, square = (grid.ravel() for grid in np.meshgrid(rates, squares, indexing="ij"))
    since_first = times - times[0]
    bias_of = _expected if corrected else _explained
    columns = []
    for n_axes in (3, 1):
        angle = np.sqrt(square / n_axes) * times[:, None]
        factor = np.sinc(angle / np.pi) ** n_axes
        columns.append(bias_of(measured, factor, since_first, SOLVERS[method]) / square)
    return np.stack(columns, axis=-1).reshape(N_RATES, N_SQUARES, 2).astype(np.float32), square_step


def _in_chunks(
    bias_of: Callable[[Floats, Floats, Floats, Solver], Floats],
    rates: Floats,
    factor: Floats,
    echo_times_s: Floats,
    method: str,
) -> NDArray[np.float32]:
    """Bias of voxels (N,) with factors (N, E); NaN for a negative rate, at most the rate that was measured."""
    out = np.empty(rates.shape, np.float32)
    # a common shift of all echoes changes the amplitude only; from the first on, fast decays don't vanish
    times = (np.asarray(echo_times_s, np.float64) - float(echo_times_s[0])).astype(np.float32)
    for start in range(0, out.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        rate = rates[part].astype(np.float32)
        with np.errstate(all="ignore"):  # what has no solution becomes NaN
            bias = bias_of(rate, np.maximum(factor[part].T.astype(np.float32), np.float32(1e-6)), times,
                           SOLVERS[method])  # fmt: skip
        known = (rate >= 0) & np.isfinite(bias)
        out[part] = np.where(known, np.minimum(bias, rate) if bias_of is _explained else bias, np.nan)
    return out


def _explained(measured: Floats, factor: Floats, times: Floats, solve: Solver) -> Floats:
    """R_m − R of a measured rate R_m."""
    return measured - solve(measured, factor, times)


def _expected(true: Floats, factor: Floats, times: Floats, solve: Solver) -> Floats:
    """R_m − R of a true rate R, by substitution."""
    bias = np.zeros_like(true)
    for _ in range(_FORWARD_ROUNDS):
        bias = true + bias - solve(true + bias, factor, times)
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
    """R for which ARLO of the dephased decay is R_m, less the error that ARLO makes without dephasing too."""
    plain = _invert_arlo(measured, np.ones_like(factor), times)
    return measured + _invert_arlo(measured, factor, times) - plain


def _invert_arlo(measured: Floats, factor: Floats, times: Floats) -> Floats:
    """R for which ARLO (Pei 2015, doi:10.1002/mrm.25137) of F(t)·e^{−R·t} is R_m, by substitution."""
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
SOLVERS: dict[str, Solver] = {
    "loglinear": _solve_loglinear,
    "weighted": _solve_weighted,
    "arlo": _solve_arlo,
    "nonlinear": _solve_nonlinear,
    "rician": _solve_nonlinear,
}
