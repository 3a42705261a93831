"""From columns to a design matrix: splines, centring, missing values, levels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from r2star.errors import UsageError
from r2star.group.design import DesignRules, Spline, build_design
from r2star.group.formula import parse_contrast, parse_formula


def _table() -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(4)
    patient = np.arange(30) >= 12
    return {
        "age": rng.uniform(20, 70, 30),
        "edss": np.where(patient, rng.uniform(0, 8, 30), np.nan),
        "volume": rng.uniform(1, 9, 30),
        "sex": rng.choice(np.array(["f", "m"], dtype=object), 30),
        "group": np.where(patient, "MS", "HC").astype(object),
    }, patient


def test_spline_space_is_that_of_natural_interpolation() -> None:
    # with knots at 4 points, the natural cubic through any 4 values must lie in the space
    knots = np.array([20.0, 33.0, 51.0, 80.0])
    spline = Spline(tuple(knots))
    natural = CubicSpline(knots, [1.0, -2.0, 0.5, 3.0], bc_type="natural")
    x = np.linspace(20, 80, 200)
    basis = np.column_stack([np.ones(200), spline.basis(x)])
    coefficients = np.linalg.lstsq(basis, natural(x), rcond=None)[0]
    assert basis @ coefficients == pytest.approx(natural(x), abs=1e-10)
    # and go on as a straight line outside
    outside = np.array([85.0, 90.0, 95.0])
    line = np.column_stack([np.ones(3), spline.basis(outside)]) @ coefficients
    assert line[2] - line[1] == pytest.approx(line[1] - line[0], abs=1e-9)


def test_patients_covariate_is_centred_in_patients_and_zero_in_controls() -> None:
    columns, patient = _table()
    design = build_design(parse_formula("group + patients(edss)"), columns, patient)
    column = design.matrix[:, design.names.index("patients(edss)")]
    assert np.all(column[~patient] == 0)
    assert column[patient].mean() == pytest.approx(0, abs=1e-12)
    assert np.diff(column[patient]) == pytest.approx(np.diff(columns["edss"][patient]))
    assert design.active[:, design.names.index("patients(edss)")].tolist() == patient.tolist()


def test_centring_by_rule_is_the_same_as_by_function() -> None:
    columns, patient = _table()
    rules = DesignRules(centring={"edss": "patients", "volume": "all"})
    by_rule = build_design(parse_formula("edss + volume"), columns, patient, rules)
    by_function = build_design(parse_formula("patients(edss) + centre(volume)"), columns, patient)
    assert by_rule.matrix == pytest.approx(by_function.matrix)


def test_log_of_a_patients_covariate_needs_no_value_of_controls() -> None:
    columns, patient = _table()
    columns["lesion"] = np.where(patient, columns["volume"], np.nan)
    design = build_design(parse_formula("patients(log(lesion))"), columns, patient)
    expected = np.log(columns["lesion"][patient])
    assert design.matrix[patient, 1] == pytest.approx(expected - expected.mean())
    assert design.rows.all()


def test_rows_with_a_missing_value_are_left_out() -> None:
    columns, patient = _table()
    columns["age"][3] = np.nan
    columns["sex"][7] = ""
    columns["edss"][20] = np.nan
    design = build_design(parse_formula("age + sex + patients(edss)"), columns, patient)
    assert np.flatnonzero(~design.rows).tolist() == [3, 7, 20]


def test_interaction_is_the_product_of_its_columns() -> None:
    columns, patient = _table()
    design = build_design(
        parse_formula("group * age"), columns, patient, DesignRules(references={"group": "HC"})
    )
    assert design.names == ("intercept", "group[MS]", "age", "group[MS]:age")
    assert design.matrix[:, 3] == pytest.approx(patient * columns["age"])


def test_contrast_against_the_reference_level_and_of_an_unknown_one() -> None:
    columns, patient = _table()
    design = build_design(parse_formula("group"), columns, patient, DesignRules(references={"group": "HC"}))
    assert design.contrast(parse_contrast("group[MS] - group[HC]").parts).tolist() == [0, 1]
    assert design.contrast(parse_contrast("group[XX] - group[HC]").parts) is None


@pytest.mark.parametrize(
    ("formula", "code"),
    [
        ("height", "E711"),
        ("spline(sex, df=3)", "E712"),
        ("log(negative)", "E712"),
        ("group:log(sex)", "E712"),
    ],
)
def test_columns_that_can_not_be_used(formula: str, code: str) -> None:
    columns, patient = _table()
    columns["negative"] = columns["age"] - 40
    with pytest.raises(UsageError) as caught:
        build_design(parse_formula(formula), columns, patient)
    assert caught.value.code == code
