"""The tables of quality and of decay: their columns, rows as text, and sidecars. May import bids, regions and files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from r2star.bids.sidecars import write_json
from r2star.files import write_text_atomically
from r2star.regions.quality import METRICS, Measured
from r2star.regions.table import COLUMNS, ENTITIES, format_number

QUALITY_COLUMNS = (*ENTITIES, "metric", "part", "hemisphere", "value", "unit", "verdict")
DECAY_COLUMNS = (
    *ENTITIES, "region", "hemisphere", "n_voxels", "echo_time_s",
    "signal_median", "signal_p25", "signal_p75", "fit_median", "fit_p05", "fit_p95",
)  # fmt: skip
_DECAY_TEXTS = {
    "n_voxels": "Voxels of the region that have a value",
    "echo_time_s": "Echo time",
    "signal_median": "Median over voxels of the magnitude over the fitted S0",
    "signal_p25": "25th percentile of the same",
    "signal_p75": "75th percentile of the same",
    "fit_median": "Median over voxels of exp(-R2* t)",
    "fit_p05": "5th percentile of the same",
    "fit_p95": "95th percentile of the same",
}
_QUALITY_TEXTS = {
    "part": "brain, a region of the atlas, or a registration (from, to)",
    "value": "The measure; n/a where it can't be told",
    "unit": "Unit of the value",
    "verdict": "pass, doubtful or fail by the limits; n/a where the measure is not judged",
}


def quality_row(one: Measured) -> dict[str, str]:
    """A measure as a row of the table of quality."""
    return {
        "metric": one.metric, "part": one.part, "hemisphere": one.hemisphere or "n/a",
        "value": format_number(one.value), "unit": METRICS[one.metric].unit or "n/a", "verdict": one.verdict or "n/a",
    }  # fmt: skip


def registration_rows(measures: Iterable[Path]) -> list[dict[str, str]]:
    """The measures of registrations, from their JSON files, as rows of the table of quality."""
    rows = []
    for path in measures:
        told = json.loads(path.read_text())
        for name, value in told["measures"].items():
            rows.append({
                "metric": f"registration_{name}", "part": path.name.removesuffix("_measures.json"),
                "hemisphere": "n/a", "value": format_number(float(value)), "unit": "n/a",
                "verdict": told.get("verdicts", {}).get(name, "n/a"),
            })  # fmt: skip
    return rows


def write_table(
    path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]], identity: Mapping[str, str],
    sidecar: Mapping[str, Any],
) -> list[Path]:  # fmt: skip
    """Write a table and its sidecar; ``identity`` are the cells that all rows have alike."""
    lines = ["\t".join(columns), *("\t".join({**identity, **row}[name] for name in columns) for row in rows)]
    write_text_atomically(path, "\n".join(lines) + "\n")
    return [path, write_json(path.with_suffix(".json"), sidecar)]


def quality_sidecar() -> dict[str, Any]:
    """What the columns of the table of quality mean, its limits and the libraries that made it."""
    columns: dict[str, Any] = {name: {"Description": COLUMNS[name][0]} for name in ENTITIES}
    levels = {name: one.description for name, one in METRICS.items()}
    columns["metric"] = {
        "Description": "What is measured; registration_* are the measures of a registration", "Levels": levels
    }  # fmt: skip
    columns |= {name: {"Description": text} for name, text in _QUALITY_TEXTS.items()}
    columns["hemisphere"] = {"Description": "L left, R right, n/a where it is of neither"}
    columns["Software"] = {name: metadata.version(name) for name in ("antspyx", "numba", "numpy", "scipy")}
    columns["Limits"] = {name: list(one.limits) for name, one in METRICS.items() if one.limits}
    return columns


def decay_sidecar() -> dict[str, Any]:
    """What the columns of the table of decay mean."""
    columns: dict[str, Any] = {name: {"Description": COLUMNS[name][0]} for name in (*ENTITIES, "region")}
    columns["hemisphere"] = {"Description": "L left, R right"}
    columns |= {name: {"Description": text} for name, text in _DECAY_TEXTS.items()}
    columns["echo_time_s"]["Units"] = "s"
    return columns
