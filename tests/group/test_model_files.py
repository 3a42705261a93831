"""The schema, the built-in models and the reference page say the same."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

import r2star.group
from r2star.errors import UsageError
from r2star.group.model import check_schema, parse_model_file
from r2star.group.sensitivity import SENSITIVITIES
from r2star.steps.group_inputs import read_model_file

FOLDER = Path(r2star.group.__file__).parent / "models"
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "model-file.md"
SCHEMA = json.loads((FOLDER / "model.schema.json").read_text())


def test_schema_is_a_json_schema_and_the_built_in_file_meets_it() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    content = tomllib.loads((FOLDER / "default.toml").read_text())
    assert list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(content)) == []


def test_schema_names_every_sensitivity_analysis() -> None:
    named = SCHEMA["$defs"]["model"]["properties"]["sensitivity"]["items"]["enum"]
    assert named == list(SENSITIVITIES)


def test_page_tells_every_key() -> None:
    page = PAGE.read_text()
    parts = [
        SCHEMA,
        SCHEMA["properties"]["reference"],
        SCHEMA["properties"]["norms"],
        *SCHEMA["$defs"].values(),
    ]
    keys = {key for part in parts for key in part["properties"]} - {"description"}
    assert {key for key in keys if f"`{key}" not in page and f"{key} = " not in page} == set()


def test_example_of_the_page_is_a_model_file(tmp_path: Path) -> None:
    path = tmp_path / "model.toml"
    path.write_text(PAGE.read_text().split("```toml\n")[1].split("```")[0])
    model = read_model_file(path)
    assert [test.label for test in model.models[0].tests] == ["group", "edss"]
    assert model.models[0].outcome.regions == ("caudate", "putamen", "thalamus")


def test_built_in_models_test_only_terms_that_they_have() -> None:
    for model in read_model_file(None).models:
        labels = {term.label for term in model.formula.terms}
        assert all(test.term in labels for test in model.tests if test.term), model.name


def test_exposures_are_tested_where_tests_are_not_named() -> None:
    content = {
        "schema_version": 1,
        "reference": {"column": "group", "level": "c"},
        "columns": {"group": {"kind": "category", "role": "exposure"}, "age": {}},
        "models": [{"name": "m", "formula": "age * group"}],
    }
    (model,) = parse_model_file(content, SCHEMA).models
    assert [test.term for test in model.tests] == ["group", "age:group"]


@pytest.mark.parametrize(
    ("spoilt", "code", "words"),
    [
        ({"models": []}, "E713", "models is empty"),
        ({"models": [{"name": "m"}]}, "E713", "models[1] has no 'formula'"),
        ({"reference": {"column": "group", "level": 3}}, "E713", "reference.level is 3"),
        ({"extra": 1}, "E713", "extra is not known"),
        (
            {"models": [{"name": "m", "formula": "age", "tests": [{"name": "x"}]}]},
            "E714",
            "either a term or a contrast",
        ),
        ({"models": [{"name": "m", "formula": "age"}] * 2}, "E714", "two models have the name 'm'"),
        (
            {"models": [{"name": "m", "formula": "age", "kind": "longitudinal"}]},
            "E714",
            "no random intercept",
        ),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(spoilt: dict, code: str, words: str) -> None:
    content = {
        "schema_version": 1,
        "reference": {"column": "group", "level": "c"},
        "columns": {"age": {}},
        "models": [{"name": "m", "formula": "age"}],
    }
    parse_model_file(content, SCHEMA)
    with pytest.raises(UsageError) as caught:
        parse_model_file(content | spoilt, SCHEMA, "x.toml")
    assert caught.value.code == code
    assert words in str(caught.value)


@pytest.mark.parametrize("value", [True, "1", 1.5, None])
def test_types_are_told_apart(value: object) -> None:
    with pytest.raises(UsageError):
        check_schema(value, {"type": "integer"}, SCHEMA, "")
