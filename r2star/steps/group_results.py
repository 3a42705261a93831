"""Step: the results of the second level as files, with a record of what was really run. May import group and files."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from r2star import __version__
from r2star.errors import Notice
from r2star.files import sha256_of
from r2star.group.analyse import ModelResult
from r2star.steps.group_columns import Covariates
from r2star.steps.group_inputs import Inputs
from r2star.steps.group_tables import write_rows, write_statistics, write_toml

#: Of what is drawn at random: the imputations.
SEED = 20140


def write_results(
    inputs: Inputs,
    results: Sequence[ModelResult],
    notices: Sequence[Notice],
    covariates: Covariates,
    folder: Path,
) -> None:
    """Statistics by model, what was left out, the warnings, and what was really run."""
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
