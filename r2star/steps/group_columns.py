"""Step: covariates as the columns that models take, one entry a visit. May import group, bids and errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from r2star.errors import InputError, Notice
from r2star.group.ages import is_age_column
from r2star.group.missing_codes import find_missing_codes
from r2star.group.model import ColumnRule, ModelFile, ModelSpec
from r2star.group.rows import CohortData
from r2star.group.spellings import looks_of
from r2star.steps.ages import require_years
from r2star.steps.group_fields import FIELD
from r2star.steps.group_people import People, parse_level, parse_number
from r2star.steps.group_visits import Visits


@dataclass(frozen=True)
class Covariates:
    """Columns by the model file's names, one entry a visit, where each came from, who is a patient, and warnings."""

    columns: Mapping[str, Any]
    sources: Mapping[str, str]
    reference_level: str
    patient: Any
    known_group: Any
    notices: tuple[Notice, ...]


def read_covariates(
    model: ModelFile,
    people: People,
    visits: Visits,
    field_strength: Any,
    *,
    built_in: bool,
    measured: Mapping[str, Any] | None = None,
) -> Covariates:
    """The columns of a model file, each from the first of its names that the tables have.

    ``measured`` are columns that the first level knows, for those that the participants' tables have not.
    Nobody at the reference level is an error of the user's model file (R2S-E716), and a warning for the built-in one.
    """
    rules = {model.reference_column: ColumnRule(model.reference_column, kind="category"), **model.columns}
    columns, sources, notices = _read_columns(rules, people, visits)
    for name, values in (measured or {}).items():
        if name in rules and name not in columns and np.isfinite(values).any():
            columns[name], sources[name] = values, "region tables"
    columns["participant"], columns["session"] = visits.participant, visits.session
    known = [f"{value:g}" if np.isfinite(value) else "" for value in field_strength]
    columns.setdefault(FIELD, np.array(known, dtype=object))
    if model.reference_column not in columns:
        nobody = np.zeros(visits.participant.size, dtype=bool)
        message = f"no column {model.reference_column!r} in participants.tsv, no models of groups"
        return Covariates(columns, sources, "", nobody, ~nobody, (*notices, Notice("W708", message)))
    group = columns[model.reference_column]
    level = _reference_level(model, group)
    if not level:
        if not built_in:
            raise _nobody(model, group)
        message = f"nobody is a control by {model.reference_column}"
        notices.append(Notice("W716", message, "name the controls' level in a model file"))
    control = group == level
    for name, rule in rules.items():
        if rule.controls and name in columns:
            columns[name] = np.where(control, rule.controls, columns[name]).astype(object)
    for label in dict.fromkeys(visits.participant[group == ""]):
        message = f"sub-{label} has no {model.reference_column} and takes no part in models"
        notices.append(Notice("W709", message, "complete participants.tsv"))
    return Covariates(columns, sources, level, (group != "") & ~control, group != "", tuple(notices))


def _read_columns(
    rules: Mapping[str, ColumnRule], people: People, visits: Visits
) -> tuple[dict[str, Any], dict[str, str], list[Notice]]:
    """Values, source column and warnings of every rule that the tables have a column for."""
    columns: dict[str, Any] = {}
    sources: dict[str, str] = {}
    notices: list[Notice] = []
    for name, rule in rules.items():
        source = next((each for each in (name, *rule.aliases) if each in people.columns), None)
        if source is None:
            continue
        cells = [people.cell(*key, source) for key in zip(visits.participant, visits.session)]
        columns[name], told = (
            _numbers(cells, source) if rule.kind == "number" else _levels(cells, source, rule)
        )
        sources[name] = source
        notices += told
    return columns, sources, notices


def _numbers(cells: Sequence[Any], column: str) -> tuple[Any, list[Notice]]:
    values, notices = np.full(len(cells), np.nan), []
    if is_age_column(column):
        for path in dict.fromkeys(cell.path for cell in cells if cell is not None):
            require_years(Path(path), column)
    for k, cell in enumerate(cells):
        if cell is not None:
            values[k], notice = parse_number(cell, column)
            notices += [notice] if notice else []
    notices += _missing_codes(cells, values, column)
    return values, list(dict.fromkeys(notices))


def _missing_codes(cells: Sequence[Any], values: Any, column: str) -> list[Notice]:
    """Refuse -999 among numbers that are not below zero; warn of a 9999 far beyond the others."""
    codes = find_missing_codes(["" if cell is None else cell.text for cell in cells], values)
    notices = []
    for cell, value in ((cells[k], values[k]) for k in np.flatnonzero(codes)):
        found = f"row {cell.row}, column {column}: {cell.text!r} looks like a code for what is not known"
        if value < 0:
            raise InputError("E706", found, "a number or n/a", "write n/a", path=cell.path)
        notices.append(Notice("W720", f"{found}; it counts as a number", "write n/a if it is one", cell.path))
    return notices


def _levels(cells: Sequence[Any], column: str, rule: ColumnRule) -> tuple[Any, list[Notice]]:
    """Levels of a category, ``""`` where missing; two spellings of one level are told, as they are two to a model."""
    merged = {old: new for new, olds in rule.merge.items() for old in olds}
    texts, notices = [], []
    for cell in cells:
        text, notice = ("", None) if cell is None else parse_level(cell, column)
        texts.append(merged.get(text, text))
        notices += [notice] if notice else []
    spellings: dict[str, set[str]] = {}
    for text in texts:
        spellings.setdefault(looks_of(text), set()).add(text)
    for alike in spellings.values():
        if len(alike) > 1:
            found = f"column {column}: {_shown(alike)} and count as two levels"
            notices.append(Notice("W719", found, "write them alike, or merge them in the model file"))
    return np.array(texts, dtype=object), list(dict.fromkeys(notices))


def _shown(alike: Iterable[str]) -> str:
    """Levels that look alike, with their foreign letters by number where case is not all that sets them apart."""
    if len({text.casefold() for text in alike}) == 1:
        return f"{' and '.join(sorted(alike))} differ in case alone"
    return f"{' and '.join(ascii(text) for text in sorted(alike))} look alike"


def _reference_level(model: ModelFile, values: Any) -> str:
    """The level of the controls, however it is spelt to the same looks; empty where it does not occur.

    Several of the names that controls may have are refused: people under the others would count as patients.
    """
    names = {looks_of(level) for level in model.reference_levels}
    found = sorted({str(value) for value in values if looks_of(str(value)) in names})
    if len(found) > 1:
        raise InputError(
            "E716",
            f"controls have several names in {model.reference_column}: "
            f"{', '.join(text if text.isascii() else ascii(text) for text in found)}",
            "one: people under the others would count as patients",
            f"write them alike, or merge them in a model file: [columns.{model.reference_column}] merge = "
            f"{{ {found[0]} = {found[1:]} }}",
        )
    return found[0] if found else ""


def _nobody(model: ModelFile, values: Any) -> InputError:
    found = f"no participant has {model.reference_column} {' or '.join(model.reference_levels[:3])}"
    present = ", ".join(sorted({str(value) for value in values if value})[:6])
    return InputError(
        "E716", found, f"one of {present or 'any value'}", "name the controls' level in a model file"
    )


def adapt_formula(
    spec: ModelSpec, model: ModelFile, covariates: Covariates, used: Any
) -> tuple[ModelSpec | None, list[str]]:
    """Leave out terms of optional columns that are absent or have one level; ``None`` where another is absent."""
    gone: list[str] = []
    for name in spec.formula.columns:
        values = covariates.columns.get(name)
        optional = name in model.columns and model.columns[name].optional
        if values is None and not optional:
            return None, [name]
        if optional and (
            values is None or (values.dtype == object and len(set(values[used].tolist()) - {""}) < 2)
        ):
            gone.append(name)
    terms = tuple(term for term in spec.formula.terms if not any(v.column in gone for v in term.variables))
    tests = tuple(
        test for test in spec.tests if not test.term or any(term.label == test.term for term in terms)
    )
    return replace(spec, formula=replace(spec.formula, terms=terms), tests=tests), gone


def cohort_data(
    covariates: Covariates, visits: Visits, outcomes: Mapping[str, Any], unit: str, used: Iterable[bool]
) -> CohortData:
    """Columns and outcomes of the visits whose group is known."""
    data = CohortData(
        covariates.columns, outcomes, covariates.patient, visits.participant, visits.baseline, unit
    )
    return data.where(np.asarray(used) & covariates.known_group)
