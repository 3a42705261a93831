"""Predicted bias of R2* against general least squares on dephased decays."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq, least_squares

from r2star.field import (
    GAMMA_HZ_PER_UT,
    choose_dephasing,
    dephasing_factor,
    estimate_b0,
    expected_bias,
    fit_gradient,
    iterate_dephasing,
    predict_bias,
    predict_bias_map,
)
from r2star.field.bias import SOLVERS

EVEN = np.linspace(0.005, 0.029, 6)
UNEVEN = np.array([0.004, 0.007, 0.013, 0.018, 0.03])


def _spins(gradient, length_mm, times, n_spins=2000):
    offset_m = ((np.arange(n_spins) + 0.5) / n_spins - 0.5) * length_mm * 1e-3
    turns = GAMMA_HZ_PER_UT * gradient * offset_m * np.asarray(times)[:, None]
    return np.abs(np.exp(2j * np.pi * turns).mean(axis=1))


def _fit_nonlinear(signal, times):
    start = -np.polyfit(times, np.log(signal), 1)[0]
    found = least_squares(lambda p: p[0] * np.exp(-p[1] * times) - signal, [signal[0], start], x_scale=[1, 30],
                          xtol=1e-14, ftol=1e-14, gtol=1e-14)  # fmt: skip
    return found.x[1]


def _fit_loglinear(signal, times):
    return -np.polyfit(times, np.log(signal), 1)[0]


def _fit_weighted(signal, times):
    weight = signal
    for _ in range(60):
        slope, start = np.polyfit(times, np.log(signal), 1, w=weight)
        weight = np.exp(start + slope * times)
    return -slope


def _fit_arlo(signal, times):
    third = (times[1] - times[0]) / 3
    a = [third * (signal[i] + 4 * signal[i + 1] + signal[i + 2]) for i in range(len(times) - 2)]
    d = [signal[i] - signal[i + 2] for i in range(len(times) - 2)]
    product = sum(x * y for x, y in zip(a, d))
    return (third * sum(y * y for y in d) + product) / (sum(x * x for x in a) + third * product)


FITS = {"nonlinear": _fit_nonlinear, "rician": _fit_nonlinear, "loglinear": _fit_loglinear,
        "weighted": _fit_weighted, "arlo": _fit_arlo}  # fmt: skip


@pytest.mark.parametrize("method", SOLVERS)
@pytest.mark.parametrize("true", [20.0, 40.0, 60.0])
@pytest.mark.parametrize(
    ("gradient", "length_mm"), [(50, 2), (150, 2), (200, 2), (150, 3), (100, 4), (200, 1)]
)
def test_bias_is_that_of_the_estimator_on_dephased_decays(method, true, gradient, length_mm):
    times = EVEN if method == "arlo" else UNEVEN
    factor = _spins(gradient, length_mm, times)
    bias = FITS[method](np.exp(-true * times) * factor, times) - true
    forward = expected_bias(np.array([true]), factor[None], times, method)[0]
    backward = predict_bias(np.array([true + bias]), factor[None], times, method)[0]
    assert forward == pytest.approx(bias, rel=0.01, abs=0.02)
    assert backward == pytest.approx(bias, rel=0.01, abs=0.02)


@pytest.mark.parametrize(
    ("size_mm", "gradient", "published"), [(2, 75, 2.1), (2, 150, 8.4), (4, 75, 8.4), (1, 75, 0.5)]
)
def test_sizes_of_the_effect_at_3_tesla(size_mm, gradient, published):
    factor = _spins(gradient, size_mm, EVEN)
    assert expected_bias(np.array([30.0]), factor[None], EVEN)[0] == pytest.approx(published, abs=0.05)


def test_no_gradient_no_bias_and_no_more_than_all_of_r2star():
    still = np.ones((1, EVEN.size))
    assert predict_bias(np.array([33.0]), still, EVEN)[0] == pytest.approx(0, abs=1e-4)
    steep = _spins(190, 4, EVEN)[None]
    alone = brentq(lambda rate: _fit_nonlinear_rate(rate, steep[0]), 0, 200)
    assert alone > 40
    assert predict_bias(np.array([20.0]), steep, EVEN)[0] == 20.0


def _fit_nonlinear_rate(rate, factor):
    """Zero where ``rate`` is the fit of the factor alone: the greatest R2* that dephasing explains."""
    return rate - _fit_nonlinear(factor, EVEN)


@pytest.mark.parametrize("method", SOLVERS)
def test_no_input_raises_or_exceeds_the_measured_value(method):
    rng = np.random.default_rng(3)
    rate = np.concatenate([rng.uniform(0, 100, 3000), rng.uniform(0, 3000, 3000)])
    gradient = rng.uniform(0, 5000, (6000, 3)) * rng.uniform(size=(6000, 1)) ** 4
    factor = dephasing_factor(gradient, EVEN, choose_dephasing("3D", None, (3.0, 3.0, 3.0)))
    bias = predict_bias(rate, factor, EVEN, method)
    assert not np.isinf(bias).any()
    assert np.nanmax(bias - rate) < 1e-3
    assert np.isfinite(bias[rate < 100]).mean() > 0.98


def test_values_that_are_not_known_stay_unknown():
    factor = np.ones((4, EVEN.size))
    factor[2] = np.nan
    bias = predict_bias(np.array([np.nan, -3.0, 30.0, 30.0]), factor, EVEN)
    assert np.isnan(bias[:3]).all()
    assert bias[3] == pytest.approx(0, abs=1e-4)


def test_maps_know_which_axes_count():
    gradient = np.zeros((2, 2, 2, 3), np.float32)
    gradient[..., 2] = 150.0
    gradient[0, 0, 0, 0] = np.nan  # in plane: of no matter to a slice
    gradient[1, 1, 1, 2] = np.nan
    rate = np.full((2, 2, 2), 38.4, np.float32)
    rate[0, 1, 1] = np.nan
    model = choose_dephasing("2D", 2.0, (1.0, 1.0, 2.0))
    bias = predict_bias_map(rate, gradient, EVEN, model)
    unknown = np.isnan(bias)
    assert np.argwhere(unknown).tolist() == [[0, 1, 1], [1, 1, 1]]
    np.testing.assert_allclose(bias[~unknown], 8.4, atol=0.06)
    back = predict_bias_map(rate - bias, gradient, EVEN, model, corrected=True)
    np.testing.assert_allclose(back[~unknown], bias[~unknown], rtol=5e-3)


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("method", SOLVERS)
@pytest.mark.parametrize(("kind", "size_mm"), [("2D", (1.0, 1.0, 2.0)), ("3D", (1.0, 1.5, 2.0))])
def test_the_table_gives_what_each_voxel_by_itself_gives(method, corrected, kind, size_mm):
    times = EVEN if method == "arlo" else UNEVEN
    rng = np.random.default_rng(8)
    shape = (20, 20, 10)
    rate = rng.uniform(0, 200, shape).astype(np.float32)
    gradient = rng.normal(0, 90, (*shape, 3)).astype(np.float32)
    model = choose_dephasing(kind, size_mm[2], size_mm)
    bias_of = expected_bias if corrected else predict_bias
    alone = bias_of(
        rate.ravel(), dephasing_factor(gradient, times, model).reshape(-1, times.size), times, method
    )
    by_table = predict_bias_map(rate, gradient, times, model, method, corrected=corrected).ravel()
    known = np.isfinite(alone)
    assert known.mean() > 0.99
    np.testing.assert_allclose(by_table[known], alone[known], rtol=2e-3, atol=2e-3)


def test_any_number_of_threads_gives_the_same_bits(sum_over_spins, polar):
    mask = np.ones((40, 40, 30), bool)
    mask[:3, 5:9, ::7] = False
    signal, _ = sum_over_spins(mask.shape, (2.0,) * 3, lambda x, y, z: 30 + 4 * x - 3 * z, 30.0, EVEN)
    model = choose_dephasing("3D", None, (2.0, 2.0, 2.0))
    found = []
    for n_threads in (1, 2, 7):
        b0 = estimate_b0(*polar(signal, mask), mask, EVEN, n_threads)
        gradient = fit_gradient(b0.b0_hz, (2.0, 2.0, 2.0), b0.b0_se_hz, n_threads=n_threads)
        bias = predict_bias_map(
            np.full(mask.shape, 31.0), gradient.ut_per_m, EVEN, model, n_threads=n_threads
        )
        factor = next(iterate_dephasing(gradient.ut_per_m, EVEN, model, depth=30, n_threads=n_threads))
        maps = (b0.b0_hz, b0.b0_se_hz, gradient.ut_per_m, gradient.se_ut_per_m, bias, factor)
        found.append((b0.echo_offset_rad, *(one.tobytes() for one in maps)))
    assert found[0] == found[1] == found[2]
