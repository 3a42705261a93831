"""Signals against analytic limits, scipy's Rician distribution and spins summed one by one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from r2star.simulate.decay import dephasing, noisy_complex, rician, simulate_decay

TIMES_S = np.array([0.004, 0.011, 0.020, 0.045])


def test_without_noise_it_is_the_exponential():
    rate, s0 = np.array([[15.0, 40.0, 120.0]]), np.array([[100.0], [900.0]])
    signal = simulate_decay(TIMES_S, rate, s0)
    assert signal.shape == (2, 3, 4)
    for echo, time in enumerate(TIMES_S):
        np.testing.assert_allclose(signal[..., echo], s0 / np.exp(rate * time), rtol=1e-12)


def test_echo_order_does_not_matter():
    forward = simulate_decay(TIMES_S, [20.0, 50.0], 100.0)
    np.testing.assert_array_equal(simulate_decay(TIMES_S[::-1], [20.0, 50.0], 100.0), forward[:, ::-1])


@pytest.mark.parametrize("snr", [0.0, 1.0, 3.0, 20.0])
def test_noise_is_rician(snr: float):
    sigma = 5.0
    noisy = rician(np.full(20_000, snr * sigma), sigma, np.random.default_rng(3))
    assert stats.kstest(noisy / sigma, stats.rice(snr).cdf).pvalue > 0.01


def test_complex_noise_has_its_sigma_and_keeps_the_phase():
    phase = np.full(50_000, 2.0)
    magnitude, noisy_phase = noisy_complex(np.full(50_000, 100.0), phase, 2.0, np.random.default_rng(5))
    values = magnitude * np.exp(1j * noisy_phase)
    error = values - 100.0 * np.exp(2j)
    assert abs(error.mean()) < 4 * 2.0 / np.sqrt(25_000)
    np.testing.assert_allclose([error.real.std(), error.imag.std()], 2.0, rtol=0.02)


def test_dephasing_is_the_sum_of_spins():
    gradient, length = np.array([3.0, -20.0, 8.0]), (1.0, 2.0, 3.0)
    positions = [(np.arange(400) + 0.5) / 400 - 0.5] * 3
    summed = np.ones(TIMES_S.size)
    for g, d, x in zip(gradient, length, positions, strict=True):
        spins = np.exp(2j * np.pi * g * d * x[:, None] * TIMES_S)
        summed = summed * np.abs(spins.mean(axis=0))
    np.testing.assert_allclose(dephasing(gradient, length, TIMES_S), summed, atol=1e-4)


def test_published_size_of_the_gradient_effect():
    # METHODS: R2* 30/s, echoes 5–29 ms, 2 mm, 75 µT/m raises the fitted R2* by 2.1/s; 150 µT/m by 8.4/s
    times = np.linspace(0.005, 0.029, 6)
    for gradient_ut_per_m, rise in ((75.0, 2.1), (150.0, 8.4)):
        hz_per_mm = gradient_ut_per_m * 42.577e-3
        signal = simulate_decay(times, 30.0, 1.0, gradient_hz_per_mm=[0, 0, hz_per_mm], length_mm=(0, 0, 2.0))
        from scipy.optimize import curve_fit

        (_, fitted), _ = curve_fit(lambda t, a, r: a * np.exp(-r * t), times, signal, p0=(1.0, 30.0))
        assert fitted - 30.0 == pytest.approx(rise, abs=0.05)


def test_equal_generators_give_equal_noise():
    one, other = (simulate_decay(TIMES_S, 30.0, 100.0, 5.0, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_nan_stays_nan():
    assert np.isnan(simulate_decay(TIMES_S, [np.nan, 20.0], 1.0)).tolist() == [[True] * 4, [False] * 4]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="negative"):
        simulate_decay([-0.001], 20.0)
    with pytest.raises(ValueError, match="negative"):
        simulate_decay(TIMES_S, 20.0, noise_sigma=-1.0)
    with pytest.raises(ValueError, match="generator"):
        simulate_decay(TIMES_S, 20.0, noise_sigma=1.0)
