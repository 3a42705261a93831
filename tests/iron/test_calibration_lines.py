"""Calibrations: the line and its error, what is refused, and the files that come along."""

from __future__ import annotations

import math

import numpy as np
import pytest

from r2star.errors import UsageError
from r2star.iron.calibration import Calibration, convert_to_iron, parse_calibration, refuse_mismatch
from r2star.steps.iron import calibration_names, load_calibration, load_norms

GOOD = {
    "name": "x", "slope_per_s_per_mg_per_kg": 0.12, "intercept_per_s": 13.0, "field_tesla": 3.0, "tissue": "in_vivo",
    "valid_for": ["in_vivo"], "regions": ["putamen", "pallidum"], "range_mg_per_kg": [40.0, 215.0], "source": "made up",
    "covariance": [[0.0004, -0.03], [-0.03, 4.0]],
}  # fmt: skip


def _convert(
    calibration: Calibration, r2star: float, region: str = "putamen"
) -> tuple[float, float, float, bool]:
    iron = convert_to_iron(
        calibration, np.array([r2star]), np.array([0.4]), np.array([4000.0]), np.array([region])
    )
    return iron.mg_per_kg[0], iron.stderr_mg_per_kg[0], iron.mass_ug[0], iron.extrapolated[0]


def test_standard_error_is_that_of_drawn_lines_and_values() -> None:
    calibration = parse_calibration(GOOD | {"covariance": [[1e-5, -0.0008], [-0.0008, 0.1]]})
    rng = np.random.default_rng(0)
    slope, intercept = rng.multivariate_normal([0.12, 13.0], calibration.covariance, 400_000).T
    drawn = (27.0 + 0.4 * rng.standard_normal(400_000) - intercept) / slope
    iron, se, mass, _ = _convert(calibration, 27.0)
    assert iron == pytest.approx(14 / 0.12)
    assert se == pytest.approx(drawn.std(), rel=0.01)
    assert mass == pytest.approx(iron * 4000 * 1.04e-3)


def test_without_a_published_covariance_there_is_no_standard_error() -> None:
    calibration = parse_calibration({key: value for key, value in GOOD.items() if key != "covariance"})
    assert np.isnan(_convert(calibration, 27.0)[1])


@pytest.mark.parametrize("region", ["lesions", "normal_appearing_white_matter", "caudate", "putamenish"])
def test_regions_that_it_was_not_made_for_are_not_converted(region: str) -> None:
    iron, se, mass, extrapolated = _convert(parse_calibration(GOOD), 27.0, region=region)
    assert np.isnan([iron, se, mass]).all()
    assert not extrapolated


def test_a_sub_region_counts_as_its_region() -> None:
    assert _convert(parse_calibration(GOOD), 27.0, region="pallidum_internal")[0] == pytest.approx(14 / 0.12)


@pytest.mark.parametrize(("r2star", "beyond"), [(17.0, True), (27.0, False), (45.0, True), (np.nan, False)])
def test_extrapolation_is_flagged(r2star: float, beyond: bool) -> None:
    assert _convert(parse_calibration(GOOD), r2star)[3] == beyond


@pytest.mark.parametrize(
    ("field", "tissue", "words"),
    [(7.0, "in_vivo", "7 T"), (1.5, "in_vivo", "1.5 T"), (None, "in_vivo", "unknown field strength"),
     (float("nan"), "in_vivo", "unknown field strength"), (3.0, "fixed", "fixed data")],
)  # fmt: skip
def test_another_field_or_tissue_is_refused(field: float | None, tissue: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        refuse_mismatch(parse_calibration(GOOD), field, tissue)
    assert caught.value.code == "E731"
    assert words in str(caught.value)
    refuse_mismatch(parse_calibration(GOOD), 2.89)  # Siemens' 3 T


@pytest.mark.parametrize(
    "change",
    [{"slope_per_s_per_mg_per_kg": -0.1}, {"slope_per_s_per_mg_per_kg": "0.1"}, {"slope": 0.1}, {"tissue": "brain"},
     {"range_mg_per_kg": [200.0, 40.0]}, {"range_mg_per_kg": [1.0]}, {"covariance": [[1.0, 5.0], [5.0, 1.0]]},
     {"covariance": [[1.0, 0.5], [0.4, 1.0]]}, {"covariance": 3}, {"regions": "putamen"}, {"field_tesla": True},
     *({"field_tesla": value} for value in (0.0, -3.0, math.nan, math.inf)),
     *({"slope_per_s_per_mg_per_kg": value} for value in (0.0, math.nan, math.inf)),
     {"intercept_per_s": math.nan}, {"range_mg_per_kg": [40.0, math.inf]},
     {"covariance": [[math.nan, 0.0], [0.0, 1.0]]}],
)  # fmt: skip
def test_a_calibration_that_can_not_be_right_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        parse_calibration(GOOD | change, "mine.toml")
    assert (caught.value.code, caught.value.path) == ("E730", "mine.toml")


@pytest.mark.parametrize("name", list(GOOD)[:-1])
def test_a_calibration_without_a_part_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        parse_calibration({key: value for key, value in GOOD.items() if key != name})


@pytest.mark.parametrize("name", calibration_names())
def test_those_that_come_along_tell_source_and_status(name: str) -> None:
    calibration = load_calibration(name)
    assert calibration.name == name
    assert calibration.doi.startswith("10.")
    assert calibration.status in {"read", "recalled", "derived"}
    assert set(calibration.valid_for) == {calibration.tissue}


def test_the_line_for_living_people_gives_iron_of_the_right_size() -> None:
    # Hallgren & Sourander's adult means, from R2* of healthy adults at 3 T (Gelman 1999: pallidum 37.8/s)
    iron, *_ = _convert(load_calibration("gelman1999-hallgren1958"), 37.8, region="pallidum")
    assert iron == pytest.approx(213, rel=0.03)


def test_norm_curves_of_hallgren_are_those_of_the_simulation() -> None:
    from r2star.simulate.truth import healthy_iron_mg_per_kg

    age = np.array([0.0, 20, 45, 90])
    for region, curve in load_norms("hallgren1958").curves.items():
        assert curve.mean(age) == pytest.approx(healthy_iron_mg_per_kg(region, age))


@pytest.mark.parametrize("name", ["nobody", "missing.toml", "../../etc/passwd"])
def test_unknown_names_are_told_with_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_calibration(name)
    assert caught.value.code == "E733"
