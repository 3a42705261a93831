"""Units of phase: what is recognised, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from r2star.errors import InputError
from r2star.field.phase import complex_to_polar, measure_phase_range, recognise_phase_unit

PI = np.pi
TRUE = np.angle(np.exp(1j * np.linspace(-40, 40, 20_001)))


def _recognise(*stored, declared=None):
    return recognise_phase_unit([measure_phase_range(one) for one in stored], declared)


STORED = {
    "radians": (TRUE, "radians"),
    "positive radians": (TRUE % (2 * PI), "radians"),
    "−4096..4094 in steps of 2": (2 * np.floor(TRUE / PI * 2048), "-4096..4094"),
    "0..4095": (np.floor((TRUE + PI) / PI * 2048), "0..4095"),
    "milliradians": (np.round(TRUE * 1000), "milliradians"),
    "degrees": (TRUE * 180 / PI, "scaled"),
    "tiny": (TRUE / 855, "scaled"),
    "0..1023": (np.floor((TRUE + PI) / PI * 512), "scaled"),
}


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("declared", [None, "arbitrary"])
def test_every_known_scale_comes_back_as_the_same_phase(name, declared):
    stored, unit_name = STORED[name]
    unit = _recognise(stored, stored, declared=declared)
    assert unit.name == unit_name
    distance = np.angle(np.exp(1j * (unit.to_radians(stored) - TRUE)))
    # the coarsest scale has 1024 steps in a cycle and cuts down; its lowest value, 0, counts as blank
    assert np.abs(distance).max() < 1.5 * 2 * PI / 1023


def test_one_scale_is_decided_for_all_echoes_even_if_the_first_hardly_wraps():
    early = np.round(np.random.default_rng(0).normal(0, 800, 5000))
    late = 2 * np.floor(TRUE / PI * 2048)
    unit = _recognise(early, late)
    assert unit.name == "-4096..4094"
    assert unit.to_radians(np.array([2048.0]))[0] == pytest.approx(PI / 2, abs=1e-6)


def test_declared_radians_need_not_fill_their_range():
    unit = _recognise(np.linspace(-1, 2, 100), declared="rad")
    assert unit.radians_per_unit == 1.0
    assert unit.reason == "Units of the sidecar"


@pytest.mark.parametrize(
    ("stored", "declared", "code"),
    [
        (2 * np.floor(TRUE / PI * 2048), "rad", "E360"),
        (np.linspace(-9, 20, 100), "rad", "E360"),
        (np.linspace(-1.2, 0.8, 100), None, "E361"),
        (np.random.default_rng(1).normal(0, 30, 10_000), None, "E361"),
        (np.abs(np.random.default_rng(1).normal(0, 300, 10_000)), None, "E361"),
        (np.zeros(100), None, "E362"),
        (np.full(100, np.nan), None, "E362"),
    ],
)
def test_doubt_is_refused(stored, declared, code):
    with pytest.raises(InputError) as caught:
        _recognise(stored, declared=declared)
    assert caught.value.code == code
    assert caught.value.fix


def test_echoes_of_different_scales_are_refused():
    with pytest.raises(InputError, match="echo 1") as caught:
        _recognise(TRUE, 2 * np.floor(TRUE / PI * 2048))
    assert caught.value.code == "E363"


def test_what_is_not_finite_stays_apart():
    stored = TRUE.copy()
    stored[:3] = np.nan, np.inf, -np.inf
    radians = _recognise(stored).to_radians(stored)
    assert np.isnan(radians[:3]).all()
    assert np.isfinite(radians[3:]).all()


def test_real_and_imaginary_parts_give_magnitude_and_phase():
    rng = np.random.default_rng(2)
    magnitude, phase = rng.uniform(1, 5, 1000), rng.uniform(-PI, PI, 1000)
    got_magnitude, got_phase = complex_to_polar(magnitude * np.cos(phase), magnitude * np.sin(phase))
    np.testing.assert_allclose(got_magnitude, magnitude, rtol=1e-6)
    np.testing.assert_allclose(got_phase, phase, atol=1e-6)
