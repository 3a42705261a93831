"""`nonlinear` against an independent solver, on simulated and on real voxels, and against the Cramér–Rao bound."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.optimize import least_squares

from r2star.fit import Status, fit_decay


def solve(
    signal: np.ndarray, echo_times_s: np.ndarray, factor: np.ndarray | None = None
) -> tuple[float, float, float]:
    """R2*, S0 and the sum of squares of one voxel by a general solver with a numerical start of its own."""
    weight = np.ones(signal.size) if factor is None else factor
    scale = signal.max()
    y, span = signal / scale, np.ptp(echo_times_s)

    def residual(p: np.ndarray) -> np.ndarray:
        return p[0] * weight * np.exp(-p[1] * (echo_times_s - echo_times_s[0]) / span) - y

    best = min(
        (
            least_squares(residual, (1.0, start), method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15)
            for start in (0.3, 3.0)
        ),
        key=lambda fit: fit.cost,
    )
    rate = best.x[1] / span
    return rate, best.x[0] * scale * np.exp(rate * echo_times_s[0]), 2 * best.cost * scale**2


def test_optimum_of_a_general_solver() -> None:
    rng = np.random.default_rng(7)
    times = np.array([0.004, 0.0071, 0.012, 0.0165, 0.024, 0.033])
    r2star, s0 = rng.uniform(5, 100, 600), rng.uniform(100, 900, 600)
    clean = s0[:, None] * np.exp(-r2star[:, None] * times)
    signal = np.abs(clean + rng.normal(0, 0.04 * s0[:, None], clean.shape))
    factor = np.sinc(rng.uniform(0, 20, (600, 1)) * times)
    for weight in (None, factor):
        decay = fit_decay(signal, times, dephasing=weight)
        rows = [solve(signal[i], times, None if weight is None else weight[i]) for i in range(600)]
        rate, level, squares = np.array(rows).T
        value = decay.has_value
        assert value.mean() > 0.99
        np.testing.assert_allclose(decay.r2star_per_s[value], rate[value], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(decay.s0[value], level[value], rtol=1e-6)
        np.testing.assert_allclose(decay.residual[value], np.sqrt(squares[value] / 4), rtol=1e-6)


@pytest.mark.parametrize("method", ["nonlinear", "weighted", "loglinear"])
def test_two_echoes_give_their_logarithms_slope_at_every_rate(method: str) -> None:
    """The fit of two echoes is exact; at rates 2.40660 and 4.05895 an iteration can stall far from the optimum."""
    dimensionless = np.concatenate(
        [
            np.linspace(-3, 7, 20_001),
            *(centre + np.linspace(-3e-4, 3e-4, 3001) for centre in (2.4066, 4.05895)),
        ]
    )
    signal = np.exp(-dimensionless[:, None] * [0.0, 1.0])
    decay = fit_decay(signal, [0.004, 0.009], method)
    np.testing.assert_allclose(decay.r2star_per_s, dimensionless / 0.005, rtol=1e-9, atol=1e-9)


def test_standard_errors_are_those_of_the_normal_equations() -> None:
    rng = np.random.default_rng(3)
    times = np.array([0.005, 0.009, 0.017, 0.024])
    signal = 500 * np.exp(-30 * times) + rng.normal(0, 5, (200, 4))
    decay = fit_decay(signal, times)
    for i in range(200):
        e = np.exp(-decay.r2star_per_s[i] * times)
        jacobian = np.stack([e, -times * decay.s0[i] * e], axis=1)
        variance = np.sum((signal[i] - decay.s0[i] * e) ** 2) / 2
        s0_se, rate_se = np.sqrt(variance * np.diag(np.linalg.inv(jacobian.T @ jacobian)))
        assert decay.r2star_se_per_s[i] == pytest.approx(rate_se, rel=1e-9)
        assert decay.s0_se[i] == pytest.approx(s0_se, rel=1e-9)
        assert decay.residual[i] == pytest.approx(np.sqrt(variance), rel=1e-9)
        assert decay.r_squared[i] == pytest.approx(
            1 - 2 * variance / np.sum((signal[i] - signal[i].mean()) ** 2)
        )


def test_the_best_of_two_optima_is_found() -> None:
    times = np.arange(1, 7) * 0.005
    rng = np.random.default_rng(11)
    signal = np.hypot(*rng.normal(0, 1, (2, 4000, 6)))  # pure noise, where optima are many and flat
    decay = fit_decay(signal, times)
    rates = np.linspace(-150, 2000, 20_000)
    bank = np.exp(-rates[:, None] * (times - times[0]))
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    for i in np.flatnonzero(decay.has_value)[:500]:
        e = np.exp(-decay.r2star_per_s[i] * (times - times[0]))
        assert (signal[i] @ e) / np.linalg.norm(e) >= (bank @ signal[i]).max() * (1 - 1e-4)


@pytest.mark.parametrize(("snr", "r2star"), [(20, 5), (20, 40), (50, 80), (100, 150)])
def test_variance_meets_the_cramer_rao_bound(snr: float, r2star: float) -> None:
    n, times = 60_000, np.linspace(0.002, 0.020, 12)
    rng = np.random.default_rng(int(snr + r2star))
    clean = 1000 * np.exp(-r2star * times)
    signal = clean + rng.normal(0, 1000 / snr, (n, 12))
    jacobian = np.stack([clean / 1000, -times * clean], axis=1)
    bound = np.sqrt(np.linalg.inv(jacobian.T @ jacobian)[1, 1]) * 1000 / snr
    assert (signal > 0).mean() > 0.9999
    decay = fit_decay(np.abs(signal), times)
    spread = decay.r2star_per_s.std()
    assert spread == pytest.approx(bound, rel=0.03)
    assert np.sqrt(np.mean(decay.r2star_se_per_s**2)) == pytest.approx(spread, rel=0.05)


def test_a_real_brain_agrees_with_a_general_solver(shared_data: Path) -> None:
    folder = shared_data / "real-crop"
    signal = np.asarray(nib.load(folder / "mag_4d.nii.gz").dataobj, np.float32)
    times = np.array([0.004, 0.008, 0.012])
    decay = fit_decay(signal, times)
    with_signal = np.flatnonzero((signal > 0).all(axis=-1).ravel())
    chosen = np.random.default_rng(0).choice(with_signal, 2500, replace=False)
    status = decay.status.ravel()[chosen]
    rate = np.array([solve(each, times)[0] for each in signal.reshape(-1, 3)[chosen].astype(float)])
    agrees = np.isclose(decay.r2star_per_s.ravel()[chosen], rate, rtol=1e-4, atol=1e-4)
    assert agrees.mean() >= 0.999
    assert np.isin(status[~agrees], [Status.AT_BOUND, Status.NOT_CONVERGED, Status.RISING]).all()
