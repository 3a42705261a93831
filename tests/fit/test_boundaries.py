"""Where one status ends and the next begins: bounds of the rate, the noise floor, faults of a voxel, dephasing."""

from __future__ import annotations

import numpy as np
import pytest

from r2star.fit import METHODS, Status, fit_decay

TIMES = 0.004 * np.arange(1, 5)
every_method = pytest.mark.parametrize("method", list(METHODS))
#: The others take the best of a bank of decays, and call both ends of the bank the bound.
sharp = pytest.mark.parametrize("method", ["loglinear", "weighted", "arlo"])


def names(signal: object, times: object = TIMES, method: str = "nonlinear", **options: object) -> list[str]:
    decay = fit_decay(signal, times, method, **options)  # type: ignore[arg-type]
    return [Status(int(code)).label for code in np.atleast_1d(decay.status)]


@sharp
def test_two_echoes_tell_rates_of_minus_5_to_12_a_spacing(method: str) -> None:
    rates = np.array([-5.001, -4.999, -1.0, -1e-8, 0.0, 1e-10, 1e-8, 1.0, 11.999, 12.001])
    found = names(np.exp(-rates[:, None] * [0.0, 1.0]), [0.004, 0.009], method)
    assert found == ["at_bound", *["rising"] * 5, *["ok"] * 3, "at_bound"]


@pytest.mark.parametrize("method", ["nonlinear", "rician"])
def test_a_bank_ends_where_two_echoes_can_tell_no_rate(method: str) -> None:
    rates = np.array([-5.001, -3.0, -1e-8, 1e-8, 7.0, 12.001])
    found = names(np.exp(-rates[:, None] * [0.0, 1.0]), [0.004, 0.009], method)
    assert found == ["at_bound", "rising", "rising", "ok", "ok", "at_bound"]


@pytest.mark.parametrize("method", ["loglinear", "weighted"])
def test_the_steepest_fall_is_that_to_the_second_echo(method: str) -> None:
    rates = np.array(
        [-5.001, -4.999, 59.9, 60.1]
    )  # of the whole span, of which the second echo is at a fifth
    signal = np.exp(-rates[:, None] * [0.0, 0.2, 1.0])
    assert names(signal, [0.004, 0.005, 0.009], method) == ["at_bound", "rising", "ok", "at_bound"]


@every_method
def test_every_fault_has_its_status_and_the_graver_one_wins(method: str) -> None:
    good = [9.0, 7.0, 5.0, 4.0]
    rows = {
        "ok": [good, [1e-280 * value for value in good]],
        "no_signal": [[0.0] * 4, [-0.0, 0.0, 0.0, 0.0], [1e-291] * 4],
        "not_finite": [[np.nan, 7, 5, 4], [9, 7, 5, np.inf], [9, -np.inf, 5, 4], [np.inf, -1, 5, 4], [np.nan] * 4],
        "negative": [[9, 7, 5, -4], [-9, -7, -5, -4], [9, -1e-300, 5, 4], [9, 0, 0, -4]],
        "too_few_echoes": [[9, 0, 0, 0], [0, 0, 0, 9]],
    }  # fmt: skip
    signal = np.array([row for some in rows.values() for row in some])
    assert names(signal, TIMES, method) == [name for name, some in rows.items() for _ in some]


@every_method
def test_the_noise_floor_is_three_sigma_of_the_largest_echo(method: str) -> None:
    row = np.array([30.0, 24.0, 20.0, 16.0])
    signal = np.array([row, row * (1 - 1e-12), row * 0.5])
    assert names(signal, TIMES, method, noise_sigma=10.0) == ["ok", "below_noise_floor", "below_noise_floor"]
    for unknown in (0.0, np.nan, np.inf, -10.0):
        assert names(signal, TIMES, method, noise_sigma=unknown) == ["ok"] * 3


@every_method
def test_an_echo_at_the_limit_of_dropping_is_kept(method: str) -> None:
    signal = np.array(
        [[90.0, 60.0, 40.0, 30.0], [90.0, 60.0, 40.0, 30.0 * (1 - 1e-12)], [90.0, 60.0, 29.0, 40.0]]
    )
    found = fit_decay(signal, TIMES, method, noise_sigma=10.0, drop_below_sigmas=3.0)
    assert [Status(int(code)).label for code in found.status] == ["ok", "echoes_dropped", "echoes_dropped"]
    shorter = fit_decay(signal[2:, :2], TIMES[:2], method, noise_sigma=10.0)
    assert found.r2star_per_s[2] == shorter.r2star_per_s[0]  # the fourth echo comes after a quiet one


@every_method
def test_an_echo_at_or_above_saturation_is_left_out_with_all_before_it(method: str) -> None:
    rows = [
        [59.0, 49.0, 40.0, 33.0],
        [60.0, 49.0, 40.0, 33.0],
        [90.0, 49.0, 40.0, 33.0],
        [50.0, 61.0, 40.0, 33.0],
    ]
    decay = fit_decay(rows, TIMES, method, saturation_level=60.0)
    assert [Status(int(code)).label for code in decay.status] == ["ok", *["saturated"] * 3]
    for found, first, row in zip(decay.r2star_per_s, (0, 1, 1, 2), rows, strict=True):
        assert found == fit_decay(row[first:], TIMES[first:], method).r2star_per_s


@pytest.mark.parametrize("method", [name for name in METHODS if not METHODS[name].needs_even_echoes])
def test_usable_echoes_of_one_time_are_too_few(method: str) -> None:
    rows, times = [[90.0, 80.0, 20.0, 10.0], [90.0, 80.0, 70.0, 10.0]], [0.004, 0.004, 0.009, 0.014]
    decay = fit_decay(rows, times, method, noise_sigma=10.0, drop_below_sigmas=3.0)
    assert [Status(int(code)).label for code in decay.status] == ["too_few_echoes", "echoes_dropped"]
    np.testing.assert_array_equal(np.isfinite(decay.r2star_per_s), [False, True])
    assert decay.r2star_per_s[1] == fit_decay(rows[1][:3], times[:3], method, noise_sigma=10.0).r2star_per_s


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].takes_dephasing])
def test_a_factor_above_one_by_rounding_is_one_and_no_other_is(method: str) -> None:
    signal = np.tile([9.0, 7.0, 5.0, 4.0], (7, 1))
    factors = np.ones((7, 4))
    factors[:, 2] = [1.0, 1 + 0.9e-6, 1 + 1.1e-6, -1e-9, 0.999, np.nan, np.inf]
    decay = fit_decay(signal, TIMES, method, dephasing=factors)
    labels = [Status(int(code)).label for code in decay.status]
    assert labels == ["ok", "ok", "not_finite", "not_finite", "ok", "not_finite", "not_finite"]
    assert decay.r2star_per_s[1] == decay.r2star_per_s[0] != decay.r2star_per_s[4]


@every_method
def test_what_its_type_can_not_hold_is_no_value(method: str) -> None:
    signal = np.array([[3e38, 2e38, 1.5e38, 1e38], [3e30, 2e30, 1.5e30, 1e30]], np.float32)
    decay = fit_decay(signal, TIMES, method)  # S0 of the first is beyond single precision
    assert [Status(int(code)).label for code in decay.status] == ["not_finite", "ok"]
    np.testing.assert_array_equal(np.isnan(decay.r2star_per_s), [True, False])


@every_method
def test_a_constant_signal_has_no_coefficient_of_determination(method: str) -> None:
    decay = fit_decay(np.array([[5.0] * 4, [9.0, 7.0, 5.0, 4.0]]), TIMES, method)
    np.testing.assert_array_equal(np.isnan(decay.r_squared), [True, False])
    assert Status(int(decay.status[0])) == Status.RISING
    assert decay.r2star_per_s[0] == pytest.approx(0, abs=1e-9)
