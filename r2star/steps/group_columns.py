"""Step: units and covariates as the columns that models take. May import group, files and errors.

One entry a participant and session: runs are averaged, acquisitions never are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from r2star.bids.entities import natural_key
from r2star.errors import InputError, Notice, UsageError
from r2star.group.model import ColumnRule, ModelFile, ModelSpec, Outcome
from r2star.group.rows import CohortData
from r2star.steps.group_gather import Gathered
from r2star.steps.group_people import People, parse_level, parse_number

FIELD = "field_strength_tesla"
YEARS = "years_from_baseline"

#: Units that differ in one of these were not measured alike: acquisition, contrast agent, reconstruction.
_NEVER_POOLED = ("acq", "ce", "rec")
#: The structures by which the main segmentation is known where there are several.
_MAIN_REGIONS = frozenset({"caudate", "putamen", "pallidum", "thalamus", "red_nucleus", "substantia_nigra"})


@dataclass(frozen=True)
class Visits:
    """Participant × session: labels, the visit of each unit (−1: not used), and the first visit of each participant."""

    participant: Any
    session: Any
    of_unit: Any
    baseline: Any


@dataclass(frozen=True)
class Covariates:
    """Columns by the model file's names, one entry a visit, where each came from, who is a patient, and warnings."""

    columns: Mapping[str, Any]
    sources: Mapping[str, str]
    reference_level: str
    patient: Any
    known_group: Any
    notices: tuple[Notice, ...]


def find_visits(gathered: Gathered, people: People, outcome: Outcome) -> Visits:
    """Group units into visits; R2S-E715 where acquisitions, contrast agents or reconstructions would be mixed.

    The first visit of a participant is that of the least years from baseline, of equal ones (or where none is told)
    the first session in natural order.
    """
    protocols = [tuple(unit.entities.get(key, "") for key in _NEVER_POOLED) for unit in gathered.units]
    wanted = _one_protocol(protocols, outcome.acquisition)
    keys = [
        (unit.entities["sub"], unit.entities.get("ses", "")) if protocol == wanted else None
        for unit, protocol in zip(gathered.units, protocols)
    ]
    visits = list(dict.fromkeys(key for key in keys if key is not None))
    index = {key: k for k, key in enumerate(visits)}
    years = {key: _years(people, key) for key in visits}
    first: dict[str, tuple[str, str]] = {}
    for key in sorted(visits, key=lambda key: (years[key], natural_key(key[1]))):
        first.setdefault(key[0], key)
    return Visits(
        np.array([sub for sub, _ in visits], dtype=object), np.array([ses for _, ses in visits], dtype=object),
        np.array([-1 if key is None else index[key] for key in keys]),
        np.array([first[sub] == (sub, ses) for sub, ses in visits]),
    )  # fmt: skip


def _one_protocol(protocols: Sequence[tuple[str, ...]], acquisition: str) -> tuple[str, ...]:
    """The acquisition, contrast agent and reconstruction that take part: the only ones, or those that were named."""
    found = sorted({one for one in protocols if not acquisition or one[0] == acquisition})
    if len(found) == 1:
        return found[0]
    named = [
        " ".join(f"{key}-{label or '(none)'}" for key, label in zip(_NEVER_POOLED, one)) for one in found
    ]
    fix = 'name it in the model file: outcome.acquisition = "..."'
    if found and len({one[0] for one in found}) == 1:
        fix = "give the units of one kind an output folder of their own (--bids-filter-file selects them)"
    raise UsageError("E715", f"acquisitions: {', '.join(named) or 'none'}", "one", fix)


def _years(people: People, key: tuple[str, str]) -> float:
    cell = people.cell(*key, YEARS)
    value = parse_number(cell, YEARS)[0] if cell else np.nan
    return float(np.nan_to_num(value))


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
    for k, cell in enumerate(cells):
        if cell is not None:
            values[k], notice = parse_number(cell, column)
            notices += [notice] if notice else []
    return values, list(dict.fromkeys(notices))


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
        spellings.setdefault(text.casefold(), set()).add(text)
    for alike in spellings.values():
        if len(alike) > 1:
            found = (
                f"column {column}: {' and '.join(sorted(alike))} differ in case alone and count as two levels"
            )
            notices.append(Notice("W719", found, "write them alike, or merge them in the model file"))
    return np.array(texts, dtype=object), list(dict.fromkeys(notices))


def _reference_level(model: ModelFile, values: Any) -> str:
    """The level of the controls, however its case; empty where it does not occur.

    Several of the names that controls may have are refused: people under the others would count as patients.
    """
    names = {level.casefold() for level in model.reference_levels}
    found = sorted({str(value) for value in values if str(value).casefold() in names})
    if len(found) > 1:
        raise InputError(
            "E716",
            f"controls have several names in {model.reference_column}: {', '.join(found)}",
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


class OutcomeTable:
    """Outcomes by region and visit, from the gathered rows."""

    def __init__(self, gathered: Gathered, visits: Visits) -> None:
        self._gathered, self._visits = gathered, visits
        self._codes = {
            name: gathered.rows[name].combine_chunks().dictionary_encode()
            for name in ("segmentation", "region", "hemisphere")
        }

    def names(self, column: str) -> list[str]:
        """All values of a key column."""
        return sorted(self._codes[column].dictionary.to_pylist())

    def segmentation(self, outcome: Outcome) -> str:
        """The segmentation that is asked for, or the one with most of the main structures."""
        known = self.names("segmentation")
        if outcome.segmentation:
            if outcome.segmentation not in known:
                raise UsageError(
                    "E717", f"no segmentation {outcome.segmentation!r}", f"one of {', '.join(known)}"
                )
            return outcome.segmentation
        return max(
            sorted(known, reverse=True), key=lambda name: len(_MAIN_REGIONS & set(self._regions_of(name)))
        )

    def _regions_of(self, segmentation: str) -> list[str]:
        rows = self._is("segmentation", segmentation)
        codes = self._codes["region"].indices.to_numpy()[rows]
        _, first = np.unique(codes, return_index=True)
        return [self._codes["region"].dictionary[int(codes[k])].as_py() for k in np.sort(first)]

    def _is(self, column: str, value: str) -> Any:
        encoded = self._codes[column]
        known = encoded.dictionary.to_pylist()
        return encoded.indices.to_numpy() == (known.index(value) if value in known else -1)

    def regions(self, outcome: Outcome) -> list[str]:
        """Regions in the order of the tables; R2S-E717 for one that is not there."""
        present = self._regions_of(self.segmentation(outcome))
        unknown = sorted(set(outcome.regions) - set(present))
        if unknown and not set(outcome.regions) & set(present):
            raise UsageError("E717", f"no region {', '.join(unknown)}", f"some of {', '.join(present)}")
        return [
            name
            for name in present
            if (not outcome.regions or name in outcome.regions) and name not in outcome.exclude_regions
        ]

    def values(self, outcome: Outcome) -> dict[str, Any]:
        """Mean over the runs of each visit, by region."""
        segmentation = self._is("segmentation", self.segmentation(outcome))
        if outcome.column not in self._gathered.numbers:
            raise UsageError("E717", f"no column of numbers {outcome.column!r}", "one of the region tables")
        numbers = self._gathered.numbers[outcome.column]
        return {
            region: self._of_side(outcome.hemisphere, segmentation & self._is("region", region), numbers)
            for region in self.regions(outcome)
        }

    def _of_side(self, hemisphere: str, rows: Any, numbers: Any) -> Any:
        if hemisphere == "L-R":
            return self._of_side("L", rows, numbers) - self._of_side("R", rows, numbers)
        picked = np.flatnonzero(rows & self._is("hemisphere", hemisphere))
        visit = self._visits.of_unit[self._gathered.unit_of_row[picked]]
        good = (visit >= 0) & np.isfinite(numbers[picked])
        size = self._visits.participant.size
        total = np.bincount(visit[good], numbers[picked][good], size)
        count = np.bincount(visit[good], minlength=size)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def field_strengths(gathered: Gathered, visits: Visits) -> Any:
    """Field strength of each visit, NaN where it is not known; R2S-E718 where the runs of a visit differ."""
    out = np.full(visits.participant.size, np.nan)
    if FIELD not in gathered.numbers:
        return out
    values = gathered.numbers[FIELD]
    visit = visits.of_unit[gathered.unit_of_row]
    good = np.isfinite(values) & (visit >= 0)
    out[visit[good]] = values[good]
    unlike = good.nonzero()[0][np.abs(out[visit[good]] - values[good]) > 0.05]
    if unlike.size:
        label = gathered.units[int(gathered.unit_of_row[unlike[0]])].label
        raise InputError("E718", "runs of one session have different field strengths", "one", unit=label)
    return out


def lesion_volumes_ml(gathered: Gathered, visits: Visits) -> Any:
    """Volume of the lesions of each visit in mL, NaN where it is not known: of the whole mask, beyond the image too."""
    import pyarrow.compute as pc

    wanted = pc.and_(
        pc.equal(gathered.rows["region"], "lesions"), pc.equal(gathered.rows["hemisphere"], "LR")
    )
    volume, coverage = (gathered.numbers.get(name) for name in ("volume_mm3", "coverage"))
    out = np.full(visits.participant.size, np.nan)
    if volume is None or coverage is None:
        return out
    visit = visits.of_unit[gathered.unit_of_row]
    # without lesions there is nothing to cover; of lesions that all lie beyond the image nothing is known
    whole = volume / np.where(np.isfinite(coverage), np.where(coverage > 0, coverage, np.nan), 1) / 1000
    good = wanted.combine_chunks().to_numpy(zero_copy_only=False) & np.isfinite(whole) & (visit >= 0)
    total = np.bincount(visit[good], whole[good], out.size)
    count = np.bincount(visit[good], minlength=out.size)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def cohort_data(
    covariates: Covariates, visits: Visits, outcomes: Mapping[str, Any], unit: str, used: Iterable[bool]
) -> CohortData:
    """Columns and outcomes of the visits whose group is known."""
    data = CohortData(
        covariates.columns, outcomes, covariates.patient, visits.participant, visits.baseline, unit
    )
    return data.where(np.asarray(used) & covariates.known_group)
