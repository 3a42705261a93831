"""Formulas and contrasts: what is understood, what is refused, and that no text is ever run."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2star.errors import UsageError
from r2star.group.formula import parse_contrast, parse_formula


def test_star_is_main_effects_and_their_products() -> None:
    labels = [term.label for term in parse_formula("a * b * c").terms]
    assert sorted(labels) == sorted(["a", "b", "c", "a:b", "a:c", "b:c", "a:b:c"])


def test_functions_nest_from_the_inside_out() -> None:
    (term,) = parse_formula("patients(log(lesion_volume_ml))").terms
    assert term.variables[0].functions == ("log", "patients")


def test_terms_come_once_and_columns_in_order() -> None:
    formula = parse_formula("b + a + b + a:b + (1 | participant)")
    assert [term.label for term in formula.terms] == ["b", "a", "a:b"]
    assert formula.columns == ("b", "a", "participant")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("age + exec(x)", 7),
        ("__import__('os').system('true')", 1),
        ("age; sex", 4),
        ("age + ", 7),
        ("spline(age, df=3.5)", 16),
        ("spline(age, knots=3)", 13),
        ("log(spline(age, df=3))", 22),
        ("(x | participant)", 2),
        ("a + (1 | b) + (1 | c)", 15),
        ("age ** 2", 6),
        ("np.log(x)", 1),
        ("", 1),
    ],
)
def test_what_is_not_understood_is_told_with_its_place(text: str, place: int) -> None:
    with pytest.raises(UsageError) as caught:
        parse_formula(text)
    assert caught.value.code == "E710"
    assert caught.value.message.endswith(f"at character {place}")


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
@settings(max_examples=400, deadline=None)
def test_any_text_is_a_formula_or_a_usage_error(text: str) -> None:
    for parse in (parse_formula, parse_contrast):
        try:
            parse(text)
        except UsageError as error:
            assert error.code == "E710"  # noqa: PT017 (either outcome is right)


def test_contrast_with_quoted_levels_and_interactions() -> None:
    contrast = parse_contrast('course["RR MS (early)"] - 2 * group[MS]:years + age')
    assert contrast.parts == ((1.0, "course[RR MS (early)]"), (-2.0, "group[MS]:years"), (1.0, "age"))


def test_level_of_digits_and_letters() -> None:
    assert parse_contrast("field[3T] - field[7]").parts == ((1.0, "field[3T]"), (-1.0, "field[7]"))
