"""Step: the second level, from the first level's tables and participants.tsv to statistics. May import group and files.

Everything is read and checked before anything is written; equal inputs give equal files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from r2star.errors import InputError, Notice, UsageError
from r2star.files import write_fault
from r2star.group.analyse import ModelResult, run_model
from r2star.group.joint import rules_of
from r2star.group.model import ModelSpec
from r2star.iron.calibration import refuse_mismatch
from r2star.report.group_figures import write_figures
from r2star.settings import GroupOptions
from r2star.steps.group_columns import Covariates, adapt_formula, cohort_data, read_covariates
from r2star.steps.group_fields import FIELD, field_strengths, strata_of, unknown_fields
from r2star.steps.group_figures import figure_data
from r2star.steps.group_gather import Gathered
from r2star.steps.group_inputs import Inputs, read_inputs
from r2star.steps.group_norms import FittedNorms, score_people, write_norms
from r2star.steps.group_outcomes import OutcomeTable
from r2star.steps.group_report import write_group_report
from r2star.steps.group_results import SEED, write_results
from r2star.steps.group_tables import write_regions
from r2star.steps.group_visits import YEARS, Visits, find_visits, lesion_volumes_ml
from r2star.steps.iron import iron_columns, load_calibration

IRON_INPUTS = ("r2star_median_per_s", "r2star_stderr_per_s", "volume_mm3")

#: Warnings that never touch a number, even with ``strict``.
_HARMLESS = frozenset({"W703", "W707", "W708", "W710", "W711"})


class GroupOutputs(NamedTuple):
    """Where the second level stands, its results, its warnings, and what could not be fitted."""

    folder: Path
    results: tuple[ModelResult, ...]
    notices: tuple[Notice, ...]
    refused: tuple[str, ...]


def analyse_group(
    bids_dir: Path,
    output_dir: Path,
    options: GroupOptions | None = None,
    *,
    figures: bool = True,
) -> GroupOutputs:
    """Gather the first level's tables, join the covariates, fit the models and write ``group/``.

    Raises
    ------
    DatasetError, UsageError, InputError
        R2S-E7xx; nothing was written.
    """
    options = options or GroupOptions()
    done = _analyse(read_inputs(bids_dir, output_dir, options.model_file), options)
    folder = output_dir / "group"
    try:
        _write(done, output_dir, options, figures=figures)
    except OSError as error:
        raise write_fault(error, folder) from error
    refused = tuple(
        f"{result.spec.name}: {status}"
        for result in done.results
        for status in result.refused
        if done.inputs.model_path
    )
    return GroupOutputs(folder, done.results, done.notices, refused)


class _Analysis(NamedTuple):
    """Everything that is written: what was read, and what came of it."""

    inputs: Inputs
    visits: Visits
    fields: Any
    covariates: Covariates
    replaced: dict[str, Any]  # columns that take the place of those of the region tables
    results: tuple[ModelResult, ...]
    scores: FittedNorms
    notices: tuple[Notice, ...]


def _analyse(inputs: Inputs, options: GroupOptions) -> _Analysis:
    """Check, join and fit; writes nothing."""
    visits = find_visits(inputs.gathered, inputs.people, inputs.model.models[0].outcome)
    fields = field_strengths(inputs.gathered, visits)
    covariates = read_covariates(
        inputs.model, inputs.people, visits, fields, built_in=inputs.model_path is None,
        measured={"lesion_volume_ml": lesion_volumes_ml(inputs.gathered, visits)},
    )  # fmt: skip
    notices = [*inputs.gathered.notices, *inputs.people.notices, *covariates.notices]
    notices += unknown_fields(visits, fields)
    strata = strata_of(inputs.model.models, visits, fields, allow_mixed=options.allow_mixed_field)
    if options.strict:
        _refuse_notices(notices)
    replaced = _iron(inputs.gathered, options.iron) if options.iron else {}
    given = {name: values for name, values in replaced.items() if values.dtype != object}
    inputs = replace(inputs, gathered=inputs.gathered._replace(numbers={**inputs.gathered.numbers, **given}))
    results, dropped = _run_models(inputs, visits, covariates, strata)
    scores = score_people(inputs, visits, covariates, strata)
    notices += [*dropped, *scores.notices, *_refusals(results)]
    return _Analysis(inputs, visits, fields, covariates, replaced, results, scores, tuple(notices))


def _write(done: _Analysis, output_dir: Path, options: GroupOptions, *, figures: bool) -> None:
    """``group/`` and ``group.html``."""
    folder = output_dir / "group"
    folder.mkdir(parents=True, exist_ok=True)
    write_regions(done.inputs.gathered, done.inputs.people, folder, done.replaced)
    write_results(done.inputs, done.results, done.notices, done.covariates, folder)
    write_norms(done.inputs, done.scores, done.covariates, done.visits, done.fields, folder)
    if figures:
        shown = figure_data(done.inputs, done.visits, done.covariates, done.scores, done.results)
        write_figures(shown, folder / "figures")
        model = options.model_file.name if options.model_file else "built-in"
        asked = {"model_file": model, "iron": options.iron or ""}
        write_group_report(
            done.inputs, done.visits, done.covariates, done.results, done.notices, shown, output_dir, asked
        )


def _refuse_notices(notices: Sequence[Notice]) -> None:
    serious = [notice for notice in notices if notice.code not in _HARMLESS]
    if serious:
        first = serious[0]
        more = f" (and {len(serious) - 1} more warnings)" if len(serious) > 1 else ""
        raise InputError(
            "E722",
            f"{first.code} {first.message}{more}",
            "no warning, with --strict",
            first.fix,
            path=first.path,
        )


def _run_models(
    inputs: Inputs, visits: Visits, covariates: Covariates, strata: Sequence[tuple[str, Any]]
) -> tuple[tuple[ModelResult, ...], list[Notice]]:
    """Every model in every stratum; models whose columns are absent are left out with a warning."""
    table = OutcomeTable(inputs.gathered, visits)
    rules = rules_of(inputs.model.columns, inputs.model.reference_column, covariates.reference_level)
    results, notices = [], []
    for name, used in strata:
        for spec in inputs.model.models:
            if inputs.model_path is None and _pointless(spec, visits, table):
                continue
            adapted, gone = adapt_formula(spec, inputs.model, covariates, used)
            if adapted is None:
                notices.append(_absent(inputs, spec, gone[0]))
                continue
            if gone:
                notices.append(
                    Notice("W710", f"model {spec.name} is without {', '.join(gone)} (absent, or one level)")
                )
            unit = "1/s" if spec.outcome.column.endswith("_per_s") else spec.outcome.column
            data = cohort_data(covariates, visits, table.values(spec.outcome), unit, used)
            if spec.kind == "longitudinal":
                data = replace(data, columns=_at_baseline(data.columns, data.participant, data.baseline))
            result = run_model(
                replace(adapted, name=spec.name + name), data, rules, inputs.model.columns, seed=SEED
            )
            results.append(replace(result, spec=replace(result.spec, question=spec.question)))
    return tuple(results), list(dict.fromkeys(notices))


def _refusals(results: Sequence[ModelResult]) -> list[Notice]:
    """What a model was asked and can't answer."""
    return [
        Notice("W715", f"model {result.spec.name}: {status}", "see its table")
        for result in results for status in result.refused
    ]  # fmt: skip


def _absent(inputs: Inputs, spec: ModelSpec, column: str) -> Notice:
    if inputs.model_path is not None and column != YEARS:
        raise UsageError(
            "E711", f"model {spec.name!r} needs the column {column!r}", f"it in participants.tsv, which has "
            f"{', '.join(inputs.people.columns) or 'no columns'}", "correct the model file", path=inputs.model_path,
        )  # fmt: skip
    return Notice(
        "W711", f"model {spec.name} was left out: no column {column!r}", "add it to participants.tsv"
    )


def _pointless(spec: ModelSpec, visits: Visits, table: OutcomeTable) -> bool:
    """A built-in model for which there is nothing: follow-up without it, or regions that are not there."""
    if spec.kind == "longitudinal":
        return bool(np.all(visits.baseline))
    return bool(spec.outcome.regions) and not set(spec.outcome.regions) & set(table.names("region"))


def _at_baseline(columns: Mapping[str, Any], participant: Any, baseline: Any) -> dict[str, Any]:
    """Age as it was at the first visit: change over time is told by the years since then."""
    out = dict(columns)
    if "age" in columns:
        first = {
            label: value for label, value, is_first in zip(participant, columns["age"], baseline) if is_first
        }
        out["age"] = np.array([first.get(label, np.nan) for label in participant], dtype=float)
    return out


def _iron(gathered: Gathered, name: str) -> dict[str, Any]:
    """Iron columns by a calibration that was asked for; R2S-E731 where it was not made for these data.

    Rows of unknown field strength get no iron, as in the first level.
    """
    calibration = load_calibration(name)
    fields = gathered.numbers.get(FIELD, np.full(len(gathered.unit_of_row), np.nan))
    known = np.isfinite(fields)
    for field in sorted(set(fields[known].tolist())) or [None]:
        refuse_mismatch(calibration, field)
    numbers = {each: np.where(known, gathered.numbers[each], np.nan) for each in IRON_INPUTS}
    columns = iron_columns(calibration, numbers, gathered.rows["region"].to_pylist())
    beyond = columns.pop("extrapolated")
    if "warnings" in gathered.rows.column_names:
        codes = np.array(gathered.rows["warnings"].to_pylist(), dtype=object)
        columns["warnings"] = np.where(beyond, np.where(codes == "n/a", "W714", codes + ";W714"), codes)
    return columns
