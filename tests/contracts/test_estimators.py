"""What every estimator of `r2star.fit.METHODS` must keep; a new line in the table is tested by this file as it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2star.errors import InputError, UsageError
from r2star.field import expected_bias
from r2star.field.bias import SOLVERS
from r2star.fit import METHODS, Decay, Status, engine, fit_decay

EVEN_S = np.arange(1, 9) * 0.004
UNEVEN_S = np.array([0.003, 0.0052, 0.011, 0.012, 0.02, 0.031])
MAPS = ("r2star_per_s", "r2star_se_per_s", "s0", "s0_se", "residual", "r_squared", "status")
COMMON = settings(max_examples=15, deadline=None, derandomize=True, database=None)

every_method = pytest.mark.parametrize("method", list(METHODS))


def times_for(method: str) -> np.ndarray:
    return EVEN_S if METHODS[method].needs_even_echoes else UNEVEN_S


def decays(r2star_per_s: np.ndarray, s0: np.ndarray, echo_times_s: np.ndarray) -> np.ndarray:
    return s0[..., None] * np.exp(-r2star_per_s[..., None] * echo_times_s)


def noisy(shape: tuple[int, ...], echo_times_s: np.ndarray, seed: int = 1, snr: float = 30.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    clean = decays(rng.uniform(5, 120, shape), rng.uniform(300, 1500, shape), echo_times_s)
    noise = rng.normal(0, 800 / snr, (2, *clean.shape))
    return np.hypot(clean + noise[0], noise[1])


def expected_rate(method: str, r2star_per_s: np.ndarray, echo_times_s: np.ndarray) -> np.ndarray:
    """Truth, or what Simpson's rule makes of it."""
    if method != "arlo" or echo_times_s.size == 2:
        return r2star_per_s
    spacing = echo_times_s[1] - echo_times_s[0]
    a = r2star_per_s * spacing
    return 3 * np.sinh(a) / (2 + np.cosh(a)) / spacing


def assert_same_bits(one: Decay, other: Decay) -> None:
    for name in MAPS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def assert_honest(decay: Decay) -> None:
    """A value has a status with a value, and no value has one without."""
    has_value = np.isin(decay.status, [code for code in Status if code.has_value])
    np.testing.assert_array_equal(np.isfinite(decay.r2star_per_s), has_value)
    np.testing.assert_array_equal(np.isfinite(decay.s0), has_value)
    for name in MAPS[:-1]:
        assert np.isnan(getattr(decay, name)[~has_value]).all(), name


@every_method
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-10)])
@pytest.mark.parametrize("n_echoes", [2, 3, 8, 32])
def test_truth_without_noise(method: str, dtype: type, tolerance: float, n_echoes: int) -> None:
    rng = np.random.default_rng(n_echoes)
    echo_times_s = 0.003 + np.arange(n_echoes) * (0.024 / (n_echoes - 1))
    if not METHODS[method].needs_even_echoes:
        echo_times_s[1:-1] += rng.uniform(-0.3, 0.3, n_echoes - 2) * 0.024 / n_echoes
    r2star, s0 = rng.uniform(15, 150, 700), rng.uniform(10, 4000, 700)
    decay = fit_decay(decays(r2star, s0, echo_times_s).astype(dtype), echo_times_s, method)
    assert decay.r2star_per_s.dtype == decay.s0.dtype == dtype
    assert (decay.status == Status.OK).all()
    np.testing.assert_allclose(
        decay.r2star_per_s, expected_rate(method, r2star, echo_times_s), rtol=tolerance
    )
    if method != "arlo":
        np.testing.assert_allclose(decay.s0, s0, rtol=tolerance)


@every_method
@COMMON
@given(factor=st.floats(1e-30, 1e30), seed=st.integers(0, 99))
def test_scaling_the_signal_scales_s0_alone(method: str, factor: float, seed: int) -> None:
    times = times_for(method)
    signal = noisy((40,), times, seed)
    one, other = fit_decay(signal, times, method), fit_decay(signal * factor, times, method)
    np.testing.assert_array_equal(one.status, other.status)
    np.testing.assert_allclose(other.r2star_per_s, one.r2star_per_s, rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(other.r2star_se_per_s, one.r2star_se_per_s, rtol=1e-7)
    np.testing.assert_allclose(other.s0 / factor, one.s0, rtol=1e-9)
    np.testing.assert_allclose(other.residual / factor, one.residual, rtol=1e-7)


@every_method
@COMMON
@given(factor=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_another_unit_of_time_is_another_unit_of_rate(method: str, factor: float, seed: int) -> None:
    times = times_for(method)
    signal = noisy((40,), times, seed)
    one, other = fit_decay(signal, times, method), fit_decay(signal, times * factor, method)
    np.testing.assert_array_equal(one.status, other.status)
    np.testing.assert_allclose(other.r2star_per_s * factor, one.r2star_per_s, rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(other.s0, one.s0, rtol=1e-9)


@every_method
@COMMON
@given(data=st.data())
def test_echoes_may_come_in_any_order(method: str, data: st.DataObject) -> None:
    times = times_for(method)
    order = data.draw(st.permutations(range(times.size)))
    signal = noisy((33,), times)
    assert_same_bits(
        fit_decay(signal, times, method), fit_decay(signal[:, order], times[list(order)], method)
    )


@every_method
@COMMON
@given(
    shape=st.lists(st.integers(0, 9), max_size=4).map(tuple),
    n_threads=st.integers(1, 3),
    chunk=st.integers(1, 700),
    seed=st.integers(0, 99),
)
def test_chunks_threads_order_and_neighbours_change_no_bit(
    method: str, shape: tuple[int, ...], n_threads: int, chunk: int, seed: int
) -> None:
    times = times_for(method)
    signal = noisy(shape, times, seed).astype(np.float32)
    whole = fit_decay(signal, times, method, n_threads=1)
    assert whole.status.shape == whole.r2star_per_s.shape == shape
    order = np.random.default_rng(seed).permutation(whole.status.size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "CHUNK", chunk)
        flat = fit_decay(signal.reshape(-1, times.size)[order], times, method, n_threads=n_threads)
    for name in MAPS:
        np.testing.assert_array_equal(getattr(flat, name), getattr(whole, name).ravel()[order], err_msg=name)


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].takes_dephasing])
def test_dephasing_of_some_changes_no_bit_of_others(method: str) -> None:
    """Voxels without dephasing, in blocks of their own, scattered among others, and fitted without any factor."""
    times, n = times_for(method), 2000
    signal, rng = noisy((n,), times), np.random.default_rng(4)
    dephased = rng.random(n) < 0.5
    factor = np.where(dephased[:, None], np.exp(-(rng.uniform(0, 30, (n, 1)) ** 2) * times**2), 1.0 + 1e-9)
    scattered, order = fit_decay(signal, times, method, dephasing=factor), np.argsort(dephased, kind="stable")
    sorted_apart = fit_decay(signal[order], times, method, dephasing=factor[order])
    without = fit_decay(signal[~dephased], times, method)
    for name in MAPS:
        found = getattr(scattered, name)
        np.testing.assert_array_equal(getattr(sorted_apart, name), found[order], err_msg=name)
        np.testing.assert_array_equal(getattr(without, name), found[~dephased], err_msg=name)


@every_method
def test_memory_layout_changes_no_bit(method: str) -> None:
    times = times_for(method)
    signal = noisy((6, 7, 11), times).astype(np.float32)
    expected = fit_decay(signal, times, method)
    echoes_first = np.ascontiguousarray(np.moveaxis(signal, -1, 0))
    strided = np.zeros((12, 14, 11, times.size), np.float32)
    strided[::2, ::-2] = signal[:, ::-1][:, ::-1]
    layouts = (
        np.moveaxis(echoes_first, 0, -1),
        np.asfortranarray(signal),
        strided[::2, ::-2],
        signal.astype(">f4"),
    )
    for layout in layouts:
        assert_same_bits(fit_decay(layout, times, method), expected)


@every_method
def test_slabs_change_no_bit(method: str) -> None:
    times = times_for(method)
    echoes = np.moveaxis(noisy((9, 8, 13), times).astype(np.float32), -1, 0)
    whole = fit_decay(np.moveaxis(echoes, 0, -1), times, method, noise_sigma=25.0)
    for start in range(0, 13, 4):
        slab = fit_decay(np.moveaxis(echoes[..., start : start + 4], 0, -1), times, method, noise_sigma=25.0)
        for name in MAPS:
            np.testing.assert_array_equal(getattr(slab, name), getattr(whole, name)[..., start : start + 4])


@every_method
@COMMON
@given(bad=st.sampled_from([np.nan, np.inf, -np.inf, -3.0]), at=st.integers(0, 599), echo=st.integers(0, 5))
def test_a_bad_voxel_stays_alone(method: str, bad: float, at: int, echo: int) -> None:
    times = times_for(method)
    signal = noisy((600,), times)
    clean = fit_decay(signal, times, method)
    signal[at, echo] = bad
    spoilt = fit_decay(signal, times, method)
    assert spoilt.status[at] == (Status.NEGATIVE if bad == -3.0 else Status.NOT_FINITE)
    assert_honest(spoilt)
    others = np.arange(600) != at
    for name in MAPS:
        np.testing.assert_array_equal(getattr(spoilt, name)[others], getattr(clean, name)[others])


@every_method
def test_float32_follows_float64(method: str) -> None:
    times = times_for(method)
    signal = noisy((3000,), times).astype(np.float32)
    single, double = fit_decay(signal, times, method), fit_decay(signal.astype(np.float64), times, method)
    np.testing.assert_array_equal(single.status, double.status)
    for name in MAPS[:-1]:
        np.testing.assert_array_equal(getattr(single, name), getattr(double, name).astype(np.float32))


@every_method
def test_the_mask_decides_where_and_nothing_else(method: str) -> None:
    times = times_for(method)
    signal = noisy((20, 30), times)
    mask = np.random.default_rng(0).random((20, 30)) < 0.3
    whole, masked = fit_decay(signal, times, method), fit_decay(signal, times, method, mask=mask)
    assert (masked.status[~mask] == Status.OUTSIDE_MASK).all()
    assert_honest(masked)
    for name in MAPS:
        np.testing.assert_array_equal(getattr(masked, name)[mask], getattr(whole, name)[mask])


@every_method
@pytest.mark.parametrize("n_echoes", [2, 3, 6])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_degenerate_voxels_have_a_status(method: str, n_echoes: int, scale: float, dtype: type) -> None:
    rng = np.random.default_rng(5)
    times = EVEN_S[:n_echoes]
    rows = [
        np.zeros(n_echoes),
        np.ones(n_echoes),
        np.arange(n_echoes),
        np.arange(n_echoes)[::-1],
        -np.ones(n_echoes),
    ]
    rows += [np.eye(n_echoes)[echo] for echo in range(n_echoes)]
    rows += [
        np.where(np.eye(n_echoes)[echo] > 0, bad, 1.0) for echo in range(n_echoes) for bad in (np.nan, np.inf)
    ]
    signal = np.concatenate([np.array(rows) * scale, rng.integers(0, 16, (3000, n_echoes)) * scale])
    decay = fit_decay(signal.astype(dtype), times, method)
    assert_honest(decay)
    flat = np.ptp(signal, axis=1) == 0
    assert not (decay.status[flat] == Status.OK).any()
    positive = np.where(np.isfinite(signal), signal > 0, False).sum(axis=1)
    assert not np.isfinite(decay.r2star_per_s[positive < 2]).any()
    falls = np.isin(decay.status, [Status.OK, Status.ECHOES_DROPPED])
    assert (decay.r2star_per_s[falls] > 0).all()
    assert (decay.r2star_per_s[decay.status == Status.RISING] <= 1e-6).all()


@every_method
@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64, bool, np.float16, ">i2"]
)
def test_whole_numbers_are_taken_as_they_are(method: str, dtype: str) -> None:
    signal = np.random.default_rng(3).integers(0, 16, (500, 8)).astype(dtype)
    assert_same_bits(fit_decay(signal, EVEN_S, method), fit_decay(signal.astype(np.float32), EVEN_S, method))


@every_method
def test_two_echoes_take_their_standard_error_from_the_noise(method: str) -> None:
    times = np.array([0.00519, 0.00765])
    r2star, s0, sigma = 40.0, 500.0, 2.0
    signal = decays(np.array([r2star]), np.array([s0]), times)
    unknown = fit_decay(signal, times, method)
    known = fit_decay(signal, times, method, noise_sigma=sigma)
    assert np.isnan(unknown.r2star_se_per_s).all()
    assert np.isnan(unknown.residual).all()
    jacobian = np.stack([signal[0] / s0, -times * signal[0]], axis=1)
    covariance = sigma**2 * np.linalg.inv(jacobian.T @ jacobian)
    tolerance = 0.01 if METHODS[method].uses_noise_model else 1e-9
    np.testing.assert_allclose(known.r2star_se_per_s, np.sqrt(covariance[1, 1]), rtol=tolerance)
    np.testing.assert_allclose(known.s0_se, np.sqrt(covariance[0, 0]), rtol=tolerance)


@every_method
def test_late_echoes_in_the_noise_can_be_dropped(method: str) -> None:
    times = EVEN_S
    signal = decays(np.array([120.0]), np.array([1000.0]), times)
    sigma = 40.0  # 3σ lies between the 4th and the 5th echo
    whole = fit_decay(signal[:, :4], times[:4], method, noise_sigma=sigma)
    signal[:, 4:] = np.minimum(signal[:, 4:] + 37.0, 119.0)
    dropped = fit_decay(signal, times, method, noise_sigma=sigma, drop_below_sigmas=3.0)
    assert dropped.status[0] == Status.ECHOES_DROPPED
    assert dropped.r2star_per_s[0] == whole.r2star_per_s[0]
    assert fit_decay(signal / 10, times, method, noise_sigma=sigma).status[0] == Status.BELOW_NOISE_FLOOR


@every_method
def test_saturated_echoes_are_left_out(method: str) -> None:
    times = EVEN_S
    clean = decays(np.array([50.0, 50.0, 50.0]), np.array([1000.0, 1000.0, 1e6]), times)
    clean[1] *= 0.7
    decay = fit_decay(np.minimum(clean, 700.0), times, method, saturation_level=700.0)
    assert [Status(int(code)) for code in decay.status] == [
        Status.SATURATED,
        Status.OK,
        Status.TOO_FEW_ECHOES,
    ]
    np.testing.assert_allclose(
        decay.r2star_per_s[:2], expected_rate(method, np.array([50.0, 50.0]), times), rtol=1e-9
    )


@every_method
def test_no_standard_errors_when_not_asked_for(method: str) -> None:
    times = times_for(method)
    signal = noisy((50,), times)
    full, lean = fit_decay(signal, times, method), fit_decay(signal, times, method, standard_errors=False)
    assert np.isnan(lean.r2star_se_per_s).all()
    assert np.isnan(lean.s0_se).all()
    for name in ("r2star_per_s", "s0", "residual", "r_squared", "status"):
        np.testing.assert_array_equal(getattr(lean, name), getattr(full, name))


@every_method
def test_a_dephasing_that_is_known_is_taken_out(method: str) -> None:
    times = times_for(method)
    rng = np.random.default_rng(8)
    r2star, s0 = rng.uniform(10, 90, 300), rng.uniform(100, 900, 300)
    factor = np.sinc(rng.uniform(0, 25, (300, 1)) * times)
    signal = decays(r2star, s0, times) * factor
    if not METHODS[method].takes_dephasing:
        with pytest.raises(UsageError, match="dephasing"):
            fit_decay(signal, times, method, dephasing=factor)
        return
    decay = fit_decay(signal, times, method, dephasing=factor)
    np.testing.assert_allclose(decay.r2star_per_s, r2star, rtol=1e-9)
    factor[7, 2] = np.nan
    spoilt = fit_decay(signal, times, method, dephasing=factor)
    assert spoilt.status[7] == Status.NOT_FINITE
    np.testing.assert_array_equal(np.delete(spoilt.r2star_per_s, 7), np.delete(decay.r2star_per_s, 7))


@every_method
def test_what_a_field_gradient_adds_is_what_the_field_expects(method: str) -> None:
    """Two ways that share no line: this fit with and without dephasing, and the solver of `r2star.field.bias`."""
    assert method in SOLVERS, "an estimator needs a solver, or a run with phase can't tell its bias"
    times = times_for(method)
    r2star = np.array([20.0, 40.0, 60.0])
    factor = np.sinc(np.array([[5.0], [10.0], [15.0]]) * times)
    signal = decays(r2star, np.full(3, 900.0), times)
    sigma = 1e-3 if METHODS[method].uses_noise_model else None
    without, dephased = (
        fit_decay(each, times, method, noise_sigma=sigma).r2star_per_s for each in (signal, signal * factor)
    )
    added = dephased - without
    assert (added > 0.3).all()
    np.testing.assert_allclose(added, expected_bias(r2star, factor, times, method), rtol=1e-3)


@every_method
@pytest.mark.parametrize(
    ("signal", "times", "words"),
    [
        (np.ones((4, 3)), [0.004, 0.008], "one time for each"),
        (np.ones(()), [0.004], "one time for each"),
        (np.ones((4, 1)), [0.004], "two or more"),
        (np.ones((4, 2)), [0.004, 0.004], "two or more"),
        (np.ones((4, 0)), [], "two or more"),
        (np.ones((4, 2)), [0.004, np.nan], "finite"),
        (np.ones((4, 2)), [-0.004, 0.004], "below zero"),
        (np.ones((4, 2), complex), [0.004, 0.008], "modulus"),
        (np.array([["a", "b"]]), [0.004, 0.008], "real numbers"),
    ],
)
def test_input_that_is_no_decay_is_refused(
    method: str, signal: np.ndarray, times: list[float], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        fit_decay(signal, times, method)


def test_options_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UsageError, match="nonlinear"):
        fit_decay([2.0, 1.0], [0.004, 0.008], "levenberg")
    with pytest.raises(UsageError, match="n_threads"):
        fit_decay([2.0, 1.0], [0.004, 0.008], n_threads=0)
    with pytest.raises(UsageError, match="n_coils"):
        fit_decay([2.0, 1.0], [0.004, 0.008], "rician", n_coils=0)
    with pytest.raises(InputError, match="mask"):
        fit_decay(np.ones((5, 2)), [0.004, 0.008], mask=np.ones(4, bool))
