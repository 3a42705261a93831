"""Step: the second level, from the first level's tables and participants.tsv to statistics. May import group and files.

Everything is read and checked before anything is written; equal inputs give equal files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from r2star import __version__
from r2star.errors import InputError, Notice, UsageError
from r2star.files import sha256_of, write_fault
from r2star.group.analyse import ModelResult, run_model
from r2star.group.joint import rules_of
from r2star.group.model import ModelSpec
from r2star.iron.calibration import refuse_mismatch
from r2star.report.group_figures import write_figures
from r2star.steps.group_columns import (
    FIELD,
    YEARS,
    Covariates,
    OutcomeTable,
    Visits,
    adapt_formula,
    cohort_data,
    field_strengths,
    find_visits,
    lesion_volumes_ml,
    read_covariates,
)  # fmt: skip
from r2star.steps.group_figures import figure_data
from r2star.steps.group_gather import Gathered
from r2star.steps.group_inputs import Inputs, read_inputs
from r2star.steps.group_norms import ZSCORE_COLUMNS, FittedNorms, fit_norms, norms_as_toml, score_by_file
from r2star.steps.group_report import write_group_report
from r2star.steps.group_tables import write_regions, write_rows, write_statistics, write_toml
from r2star.steps.iron import iron_columns, load_calibration

SEED = 20140

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
    *,
    model_file: Path | None = None,
    allow_mixed_field: bool = False,
    iron: str | None = None,
    strict: bool = False,
    figures: bool = True,
) -> GroupOutputs:
    """Gather the first level's tables, join the covariates, fit the models and write ``group/``.

    Raises
    ------
    DatasetError, UsageError, InputError
        R2S-E7xx; nothing was written.
    """
    inputs = read_inputs(bids_dir, output_dir, model_file)
    notices = list(inputs.gathered.notices + inputs.people.notices)
    visits = find_visits(inputs.gathered, inputs.people, inputs.model.models[0].outcome)
    fields = field_strengths(inputs.gathered, visits)
    covariates = read_covariates(
        inputs.model,
        inputs.people,
        visits,
        fields,
        built_in=model_file is None,
        measured={"lesion_volume_ml": lesion_volumes_ml(inputs.gathered, visits)},
    )
    notices += covariates.notices
    notices += _unknown_fields(visits, fields)
    strata = _strata(inputs, visits, fields, allow_mixed_field)
    if strict:
        _refuse_notices(notices)
    replaced = _iron(inputs.gathered, iron) if iron else {}
    given = {name: values for name, values in replaced.items() if values.dtype != object}
    inputs = replace(inputs, gathered=inputs.gathered._replace(numbers={**inputs.gathered.numbers, **given}))
    results, dropped = _run_models(inputs, visits, covariates, strata)
    scores = _score(inputs, visits, covariates, strata)
    notices += [*dropped, *scores.notices, *_refusals(results)]
    folder = output_dir / "group"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_regions(inputs.gathered, inputs.people, folder, replaced)
        _write(inputs, results, notices, covariates, folder)
        _write_norms(inputs, scores, covariates, visits, fields, folder)
        if figures:
            shown = figure_data(inputs, visits, covariates, scores, results)
            write_figures(shown, folder / "figures")
            asked = {"model_file": model_file.name if model_file else "built-in", "iron": iron or ""}
            write_group_report(inputs, visits, covariates, results, notices, shown, output_dir, asked)
    except OSError as error:
        raise write_fault(error, folder) from error
    refused = tuple(
        f"{result.spec.name}: {status}"
        for result in results
        for status in result.refused
        if inputs.model_path
    )
    return GroupOutputs(folder, results, tuple(notices), refused)


def _strata(inputs: Inputs, visits: Visits, fields: Any, allow_mixed: bool) -> list[tuple[str, Any]]:
    """Fields are never pooled: one stratum a field, unless every model has the field as a covariate."""
    known = sorted({round(float(value), 1) for value in fields[np.isfinite(fields)]})
    everyone = np.ones(fields.size, dtype=bool)
    if len(known) < 2:
        return [("", everyone)]
    if all(FIELD in model.formula.columns for model in inputs.model.models):
        return [("", everyone)]
    if not allow_mixed:
        odd = min(known, key=lambda field: int((np.round(fields, 1) == field).sum()))
        example = f"sub-{visits.participant[np.flatnonzero(np.round(fields, 1) == odd)[0]]}"
        raise InputError(
            "E721", f"field strengths {', '.join(f'{field:g} T' for field in known)} ({odd:g} T in {example})",
            "one: R2* of different fields can't be pooled",
            f"give --allow-mixed-field (one analysis a field), or put {FIELD} into the formulas",
        )  # fmt: skip
    return [(f"@{field:g}T", np.round(fields, 1) == field) for field in known]


def _unknown_fields(visits: Visits, fields: Any) -> list[Notice]:
    """What becomes of visits whose field strength nobody told, where that of others is known."""
    unknown = ~np.isfinite(fields)
    known = sorted({round(float(value), 1) for value in fields[~unknown]})
    if not known or not unknown.any():
        return []
    people = list(dict.fromkeys(f"sub-{label}" for label in visits.participant[unknown]))
    named = f"{', '.join(people[:5])}{' …' if len(people) > 5 else ''}"
    fate = "they take no part in models" if len(known) > 1 else f"they count as {known[0]:g} T, as the others"
    found = (
        f"the field strength of {int(unknown.sum())} of {fields.size} sessions is not known ({named}); {fate}"
    )
    return [Notice("W718", found, "add MagneticFieldStrength to their sidecars and run the first level anew")]


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


def _score(
    inputs: Inputs, visits: Visits, covariates: Covariates, strata: Sequence[tuple[str, Any]]
) -> FittedNorms:
    """Scores by the norms of the model file, or by the controls of each field strength."""
    outcome = inputs.model.outcome
    values = OutcomeTable(inputs.gathered, visits).values(outcome)
    if inputs.model.norms_file:
        data = cohort_data(covariates, visits, values, "", np.ones(visits.participant.size, dtype=bool))
        return score_by_file(data, outcome.column, inputs.model.norms_file, inputs.model_path)
    whole = FittedNorms({}, [], [])
    for name, used in strata:
        found = fit_norms(cohort_data(covariates, visits, values, "", used))
        whole.norms.update({region + name: norm for region, norm in found.norms.items()})
        whole.rows.extend(found.rows)
        whole.notices.extend(found.notices)
    return whole


def _write_norms(
    inputs: Inputs, scores: FittedNorms, covariates: Covariates, visits: Visits, fields: Any, folder: Path
) -> None:
    if scores.rows:
        write_rows(ZSCORE_COLUMNS, scores.rows, folder / "zscores.tsv")
    if scores.norms:
        n_controls = int((visits.baseline & covariates.known_group & ~covariates.patient).sum())
        # norms of several fields have the field in their names
        (field,) = known if len(known := set(fields[np.isfinite(fields)].tolist())) == 1 else (None,)
        content = norms_as_toml(scores.norms, inputs.model.outcome.column, n_controls, field)
        write_toml(content, folder / "norms.toml")


def _write(
    inputs: Inputs,
    results: Sequence[ModelResult],
    notices: Sequence[Notice],
    covariates: Covariates,
    folder: Path,
) -> None:
    by_file: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        by_file.setdefault(result.spec.name.partition("@")[0], []).extend(result.rows)
    for name, rows in by_file.items():
        write_statistics(rows, folder / f"{name}_stats.tsv")
    for stale in sorted(folder.glob("*_stats.tsv")):
        if stale.name.removesuffix("_stats.tsv") not in by_file:  # of an earlier run with other models
            stale.unlink()
            stale.with_suffix(".json").unlink(missing_ok=True)
    write_rows(("unit", "reason", "file"), inputs.gathered.exclusions, folder / "exclusions.tsv")
    warned = [(f"R2S-{each.code}", each.message, each.fix, each.path) for each in notices]
    write_rows(("code", "message", "fix", "file"), warned, folder / "warnings.tsv")
    write_toml(_lock(inputs, results, covariates), folder / "model.lock.toml")


def _lock(inputs: Inputs, results: Sequence[ModelResult], covariates: Covariates) -> dict[str, Any]:
    """What was really run: adapted formulas, columns, versions, hashes, counts. No dates: it is reproducible."""
    gathered = inputs.gathered
    return {
        "r2star_version": __version__,
        "seed": SEED,
        "model_file": inputs.model_path.name if inputs.model_path else "built-in",
        "model_file_sha256": sha256_of(inputs.model_path) if inputs.model_path else "",
        "reference": {"column": inputs.model.reference_column, "level": covariates.reference_level},
        "first_level": {
            "version": gathered.version, "settings_sha256": gathered.settings_sha256, "n_units": len(gathered.units),
        },
        "versions": {name: metadata.version(name) for name in ("numpy", "scipy", "statsmodels", "pyarrow")},
        "columns": dict(covariates.sources),
        "models": [_lock_of(result) for result in results],
    }  # fmt: skip


def _lock_of(result: ModelResult) -> dict[str, Any]:
    spec = result.spec
    formula = " + ".join(["1", *(term.label for term in spec.formula.terms)])
    return {
        "name": spec.name, "kind": spec.kind, "asked": spec.formula_text,
        "run": formula + (f" + (1 | {spec.formula.random})" if spec.formula.random else ""),
        "subset": spec.subset, "outcome": spec.outcome.column, "hemisphere": spec.outcome.hemisphere,
        "regions": list(dict.fromkeys(str(row["region"]) for row in result.rows)),
        "tests": [test.contrast.label if test.contrast else test.term for test in spec.tests],
        "sensitivity": list(spec.sensitivity),
    }  # fmt: skip
