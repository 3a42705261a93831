"""The parts beneath the estimators: elementary functions, moments, blocks of voxels, import cost, kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import ive
from scipy.stats import chi

from r2star.fit import Status, compiling, first_moment, fit_decay
from r2star.fit.blocks import LANES
from r2star.fit.elementary import fast_exp, fast_log
from r2star.fit.moments import TABLE_SIGMAS, moment_slope


def test_exp_and_log_are_right_to_the_last_bits() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-700, 700, 3000), rng.normal(0, 1, 3000), [0.0, 1e-300, -1e-20]])
    np.testing.assert_allclose([fast_exp(v) for v in x], np.exp(x), rtol=1e-15)
    y = np.exp(np.concatenate([rng.uniform(-650, 650, 3000), rng.normal(0, 0.2, 3000)]))
    np.testing.assert_allclose([fast_log(v) for v in y], np.log(y), rtol=5e-16, atol=1e-18)
    assert fast_exp(0.0) == 1.0
    assert fast_log(1.0) == 0.0


@pytest.mark.parametrize("n_coils", [1, 4, 16])
@pytest.mark.parametrize("signal", [0.0, 0.4, 2.0, 9.0])
def test_first_moment_is_the_integral_of_the_distribution(n_coils: int, signal: float) -> None:
    def density(m: float) -> float:
        if signal == 0:
            return float(chi(2 * n_coils).pdf(m))
        bell = np.exp(-((m - signal) ** 2) / 2) * ive(n_coils - 1, m * signal)
        return float(signal * (m / signal) ** n_coils * bell)

    reach = np.sqrt(signal**2 + 2 * n_coils) + 15
    integral = quad(lambda m: m * density(m), 0, reach, limit=200, epsabs=1e-12)[0]
    assert first_moment(signal, n_coils) == pytest.approx(integral, rel=1e-9)


def test_far_above_the_noise_the_series_is_the_moment_to_twelve_digits() -> None:
    s = np.array([40.0001, 41.0, 60.0, 300.0])
    x = s * s / 4
    exact = np.sqrt(np.pi / 2) * ((1 + 2 * x) * ive(0, x) + 2 * x * ive(1, x))
    np.testing.assert_allclose(first_moment(s), exact, rtol=2e-13)


@pytest.mark.parametrize("n_coils", [1, 4, 16, 32])
def test_the_moment_goes_over_into_its_series_without_a_step(n_coils: int) -> None:
    edge, reach = TABLE_SIGMAS * np.sqrt(n_coils), 0.01
    below, above = (
        first_moment([edge - reach, edge], n_coils),
        first_moment([edge + reach, edge + 2 * reach], n_coils),
    )
    third = np.diff(np.concatenate([below, above]), n=3)
    assert np.abs(third).max() < 1e-11 * edge  # of four points across the edge, all on one smooth curve


@pytest.mark.parametrize("n_coils", [1, 2, 32])
def test_slope_of_the_moment_is_its_derivative(n_coils: int) -> None:
    s = np.array([0.1, 1.0, 7.0, 39.0 * np.sqrt(n_coils)])
    numeric = (first_moment(s + 1e-5, n_coils) - first_moment(s - 1e-5, n_coils)) / 2e-5
    np.testing.assert_allclose(moment_slope(s, n_coils), numeric, rtol=1e-6)


@pytest.mark.parametrize("n_coils", [1, 4])
def test_rician_is_the_least_squares_fit_of_the_first_moment(n_coils: int) -> None:
    from scipy.optimize import least_squares

    rng = np.random.default_rng(2)
    times, sigma = np.arange(1, 9) * 0.004, 20.0
    clean = 500 * np.exp(-70 * times)
    noise = rng.normal(0, sigma, (15, 8, 2 * n_coils))
    noise[..., 0] += clean
    signal = np.linalg.norm(noise, axis=-1)
    decay = fit_decay(signal, times, "rician", noise_sigma=sigma, n_coils=n_coils)
    for i in np.flatnonzero(decay.has_value):
        fit = least_squares(
            lambda p, y=signal[i]: (
                sigma * first_moment(500 * p[0] * np.exp(-100 * p[1] * times) / sigma, n_coils) - y
            ),
            (1.0, 0.7),
            method="lm",
            xtol=1e-14,
            ftol=1e-14,
        )
        assert decay.r2star_per_s[i] == pytest.approx(100 * fit.x[1], rel=1e-6)
        assert decay.s0[i] == pytest.approx(500 * fit.x[0], rel=1e-6)
    assert decay.has_value.mean() > 0.9


@pytest.mark.parametrize("n_coils", [1, 32])
def test_rician_finds_the_decay_whose_moments_it_is_given_at_every_height_above_the_noise(
    n_coils: int,
) -> None:
    """From the floor to far above it; the highest ones lie where a series stands in for the table of moments."""
    times, rate = np.arange(1, 7) * 0.005, 35.0
    s0 = np.sqrt(n_coils) * np.array([8.0, 33.0, 70.0, 100.0, 130.0, 150.0, 400.0])
    signal = 3.0 * first_moment(s0[:, None] * np.exp(-rate * times), n_coils)
    decay = fit_decay(signal, times, "rician", noise_sigma=3.0, n_coils=n_coils)
    np.testing.assert_allclose(decay.r2star_per_s, rate, rtol=1e-8)
    np.testing.assert_allclose(decay.s0, 3.0 * s0, rtol=1e-8)
    np.testing.assert_allclose(
        [decay.r2star_per_s[-2:] / rate, decay.s0[-2:] / (3.0 * s0[-2:])], 1.0, rtol=1e-11
    )


@pytest.mark.parametrize("r2star", [10.0, 40.0, 80.0])
def test_rician_has_no_bias_and_honest_errors(r2star: float) -> None:
    n, sigma, times = 60_000, 50.0, np.linspace(0.003, 0.036, 12)
    rng = np.random.default_rng(int(r2star))
    signal = np.hypot(
        1000 * np.exp(-r2star * times) + rng.normal(0, sigma, (n, 12)), rng.normal(0, sigma, (n, 12))
    )
    decay = fit_decay(signal, times, "rician", noise_sigma=sigma)
    assert abs(np.median(decay.r2star_per_s) - r2star) < 0.1
    assert np.sqrt(np.mean(decay.r2star_se_per_s**2)) == pytest.approx(decay.r2star_per_s.std(), rel=0.05)
    plain = np.median(fit_decay(signal, times, "nonlinear").r2star_per_s)
    lost = {10.0: 0.0, 40.0: 0.46, 80.0: 3.5}[
        r2star
    ]  # to the noise floor, as docs/explanation/estimators.md has it
    assert r2star - plain == pytest.approx(lost, abs=0.15)


def test_status_names_and_meanings_make_a_lookup_table() -> None:
    assert [code.value for code in Status] == list(range(len(Status)))
    assert Status.OK == 0
    assert Status.OK.has_value
    assert not Status.NO_SIGNAL.has_value
    assert len({code.label for code in Status}) == len({code.meaning for code in Status}) == len(Status)
    assert all(code.meaning.endswith(".") and "\t" not in code.meaning for code in Status)


def test_the_table_of_methods_costs_no_compiler() -> None:
    code = (
        "import sys; from r2star.fit import METHODS, Status; assert 'nonlinear' in METHODS; "
        "heavy = {'numba', 'numpy', 'scipy'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ})


def test_kernels_compile_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "_is_writable", lambda _: False)
    compiling.kernel_cache.cache_clear()
    try:
        private = compiling.kernel_cache()
        assert private is not None
        assert private.stat().st_mode & 0o077 == 0  # what is cached is executed: nobody else may write there

        def no_folder(**_: str) -> str:
            raise OSError

        monkeypatch.setattr(compiling.tempfile, "mkdtemp", no_folder)
        compiling.kernel_cache.cache_clear()
        assert compiling.kernel_cache() is None
        assert compiling.kernel(lambda x: x + 1.0)(2.0) == 3.0
    finally:
        compiling.kernel_cache.cache_clear()


@pytest.mark.parametrize("last", [LANES - 1, 2 * LANES - 1, 3000])
def test_gaps_in_a_block_change_no_voxel(last: int) -> None:
    """A few voxels that span as many as a block holds are not taken for neighbours."""
    rng = np.random.default_rng(7)
    signal = rng.uniform(100, 1000, (3001, 6)).astype(np.float32)
    mask = np.zeros(3001, bool)
    mask[: LANES // 2] = mask[last] = True
    times = 0.004 * np.arange(1, 7)
    inside = fit_decay(signal, times, "loglinear", mask=mask)
    everywhere = fit_decay(signal, times, "loglinear")
    np.testing.assert_array_equal(inside.r2star_per_s[mask], everywhere.r2star_per_s[mask])
    np.testing.assert_array_equal(inside.status[mask], everywhere.status[mask])
    assert np.isnan(inside.r2star_per_s[~mask]).all()


@pytest.mark.parametrize("hole", [1, LANES // 2, LANES - 1, LANES, 899, slice(0, None, 2), slice(1, None, 2)])
def test_voxels_left_out_of_many_move_no_other(hole: int | slice) -> None:
    signal = np.random.default_rng(7).uniform(100, 1000, (900, 6)).astype(np.float32)
    mask = np.ones(900, bool)
    mask[hole] = False
    times = 0.004 * np.arange(1, 7)
    inside, everywhere = (fit_decay(signal, times, "loglinear", mask=each) for each in (mask, None))
    np.testing.assert_array_equal(inside.r2star_per_s[mask], everywhere.r2star_per_s[mask])
    np.testing.assert_array_equal(inside.status, np.where(mask, everywhere.status, Status.OUTSIDE_MASK))
    assert np.isnan(inside.r2star_per_s[hole]).all()


@pytest.mark.parametrize("method", ["loglinear", "weighted"])
def test_what_follows_a_lost_echo_does_not_decide_whether_the_first_ones_are_fitted(method: str) -> None:
    """Fits of all echoes of these voxels rise or end at the bound; from the first two R2* is ln 3 / 4 ms."""
    signal = [[9.0, 3.0, 0.0, 2.0, 14.0, 1.0, 6.0, 6.0], [9.0, 3.0] + 6 * [0.0]]
    decay = fit_decay(np.array(signal), 0.003 + 0.004 * np.arange(8), method)
    np.testing.assert_allclose(decay.r2star_per_s, np.log(3) / 0.004, rtol=1e-10)
    assert decay.status.tolist() == 2 * [Status.ECHOES_DROPPED]
