"""What a model file may say, checked, as frozen dataclasses. Knows no files; may import errors only.

The JSON Schema ``model.schema.json`` in this folder is the definition: editors read it, and
`check_schema` checks a model file against the very same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from r2star.errors import UsageError
from r2star.group.formula import Contrast, Formula, parse_contrast, parse_formula


@dataclass(frozen=True)
class ColumnRule:
    """One covariate: what it is, what part it plays, and what its values mean."""

    name: str
    kind: str = "number"  # number, category
    role: str = "confounder"  # exposure, confounder, mediator
    centre: str = "none"  # none, all, patients
    unit: str = ""
    reference: str = ""
    aliases: tuple[str, ...] = ()
    merge: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    controls: str = ""  # what controls count as, in a category of patients
    optional: bool = False

    @property
    def of_patients(self) -> bool:
        """Whether patients alone have it."""
        return self.centre == "patients" or bool(self.controls)


@dataclass(frozen=True)
class Hypothesis:
    """A term or a contrast to report, and the family in which its p value is adjusted."""

    label: str
    term: str = ""
    contrast: Contrast | None = None
    family: str = "primary"


@dataclass(frozen=True)
class Outcome:
    """Which number of which regions: a column of the region table, and a hemisphere (or ``L-R``)."""

    column: str = "r2star_median_per_s"
    regions: tuple[str, ...] = ()
    exclude_regions: tuple[str, ...] = ()
    hemisphere: str = "LR"
    segmentation: str = ""
    acquisition: str = ""


@dataclass(frozen=True)
class ModelSpec:
    """One model: a formula over a subset of the cohort, its tests and its sensitivity analyses."""

    name: str
    formula: Formula
    formula_text: str
    kind: str = "joint"
    subset: str = "all"
    tests: tuple[Hypothesis, ...] = ()
    adjustment: Mapping[str, str] = field(default_factory=dict)
    sensitivity: tuple[str, ...] = ()
    outcome: Outcome = Outcome()
    question: str = ""


@dataclass(frozen=True)
class ModelFile:
    """A whole model file: who is the reference, the columns, and the models."""

    reference_column: str
    reference_levels: tuple[str, ...]
    columns: Mapping[str, ColumnRule]
    models: tuple[ModelSpec, ...]
    outcome: Outcome = Outcome()
    norms_file: str = ""


def parse_model_file(content: Mapping[str, Any], schema: Mapping[str, Any], path: str = "") -> ModelFile:
    """Check the content of a model file against the schema and turn it into dataclasses.

    Raises
    ------
    UsageError
        R2S-E713 for what the schema does not allow, R2S-E710 for a formula, R2S-E714 for parts that do not
        fit together.
    """
    check_schema(content, schema, schema, path)
    reference = content["reference"]
    levels = reference["level"]
    columns = {name: _column(name, rule) for name, rule in content.get("columns", {}).items()}
    outcome = content.get("outcome", {})
    models = tuple(_model(one, outcome, columns, path) for one in content["models"])
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise UsageError(
            "E714", f"two models have the name {max(names, key=names.count)!r}", "one each", path=path
        )
    return ModelFile(
        reference["column"], (levels,) if isinstance(levels, str) else tuple(levels), columns, models,
        outcome_of(outcome), content.get("norms", {}).get("file", ""),
    )  # fmt: skip


def _column(name: str, rule: Mapping[str, Any]) -> ColumnRule:
    plain = {key: value for key, value in rule.items() if key not in {"aliases", "merge", "description"}}
    merge = {level: tuple(old) for level, old in rule.get("merge", {}).items()}
    return ColumnRule(name, aliases=tuple(rule.get("aliases", ())), merge=merge, **plain)


def _model(
    one: Mapping[str, Any], outcome: Mapping[str, Any], columns: Mapping[str, ColumnRule], path: str
) -> ModelSpec:
    try:
        formula = parse_formula(one["formula"])
        tests = tuple(_test(test) for test in one.get("tests", ()))
    except UsageError as error:
        error.path = path
        raise
    unknown = sorted(set(formula.columns) - set(columns) - {"participant"})
    if unknown:
        raise UsageError(
            "E714", f"model {one['name']!r} uses {', '.join(unknown)}", "a table [columns.<name>] for each column",
            "describe it in the model file", path=path,
        )  # fmt: skip
    if one.get("kind") == "longitudinal" and not formula.random:
        raise UsageError(
            "E714",
            f"model {one['name']!r} is longitudinal and has no random intercept",
            "(1 | participant)",
            path=path,
        )
    return ModelSpec(
        one["name"], formula, one["formula"], one.get("kind", "joint"), one.get("subset", "all"),
        tests or _default_tests(formula, columns), dict(one.get("adjustment", {})),
        tuple(one.get("sensitivity", ())), outcome_of({**outcome, **one.get("outcome", {})}), one.get("question", ""),
    )  # fmt: skip


def outcome_of(content: Mapping[str, Any]) -> Outcome:
    """The outcome that a table of a model file describes."""
    plain: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in content.items()
    }
    return Outcome(**plain)


def _test(test: Mapping[str, Any]) -> Hypothesis:
    family = test.get("family", "primary")
    if ("term" in test) == ("contrast" in test):
        raise UsageError("E714", f"test {dict(test)}", "either a term or a contrast")
    if "term" in test:
        (term,) = parse_formula(test["term"]).terms
        return Hypothesis(test.get("name", term.label), term=term.label, family=family)
    contrast = parse_contrast(test["contrast"])
    return Hypothesis(test.get("name", contrast.label), contrast=contrast, family=family)


def _default_tests(formula: Formula, columns: Mapping[str, ColumnRule]) -> tuple[Hypothesis, ...]:
    """Every term that holds an exposure."""
    exposures = {name for name, rule in columns.items() if rule.role == "exposure"}
    return tuple(
        Hypothesis(term.label, term=term.label)
        for term in formula.terms
        if exposures & {variable.column for variable in term.variables}
    )


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float),
}  # fmt: skip


def check_schema(
    value: Any, schema: Mapping[str, Any], whole: Mapping[str, Any], path: str, where: str = ""
) -> None:
    """Check plain data against the part of JSON Schema that the schema here uses; R2S-E713 otherwise."""
    if "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
    if "oneOf" in schema:
        schema = next((one for one in schema["oneOf"] if _is(value, one["type"])), schema["oneOf"][0])
    place = where or "the file"
    if "type" in schema and not _is(value, schema["type"]):
        _refuse(path, f"{place} is {value!r}", f"a value of type {schema['type']}")
    if "const" in schema and value != schema["const"]:
        _refuse(path, f"{place} is {value!r}", repr(schema["const"]))
    if "enum" in schema and value not in schema["enum"]:
        _refuse(path, f"{place} is {value!r}", f"one of {', '.join(schema['enum'])}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        _refuse(path, f"{place} is {value!r}", f"text like {schema['pattern']}")
    if isinstance(value, dict):
        _check_table(value, schema, whole, path, where)
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            _refuse(path, f"{place} is empty", "one entry or more")
        for index, item in enumerate(value):
            check_schema(item, schema.get("items", {}), whole, path, f"{where}[{index + 1}]")


def _check_table(
    value: Mapping[str, Any], schema: Mapping[str, Any], whole: Mapping[str, Any], path: str, where: str
) -> None:
    known, other = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name in schema.get("required", ()):
        if name not in value:
            _refuse(path, f"{where or 'the file'} has no {name!r}", "it")
    for name, item in value.items():
        inside = f"{where}.{name}" if where else name
        if name in known:
            check_schema(item, known[name], whole, path, inside)
        elif other is False:
            _refuse(path, f"{inside} is not known", f"one of {', '.join(known)}")
        elif isinstance(other, Mapping):
            check_schema(item, other, whole, path, inside)


def _is(value: object, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _refuse(path: str, found: str, needed: str) -> None:
    raise UsageError("E713", found, needed, "see docs/reference/model-file.md", path=path)
