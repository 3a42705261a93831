"""What is known of each unit: markers of complete ones, records of failed ones, and status.tsv made from both.

May import files, settings and errors. A unit is complete when its marker stands and everything that the
marker names still has the hash that it had. The marker is written last. status.tsv is derived, never appended to.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r2star.errors import EnvironmentFault, R2starError
from r2star.files import sha256_of, write_text_atomically

STATUS_COLUMNS = ("unit", "state", "code", "file", "message", "fix", "warnings", "seconds")


@dataclass(frozen=True)
class Marker:
    """A complete unit: what went in, how, and what came out. Hashes are SHA-256 of content."""

    unit: str
    entities: Mapping[str, str]
    state: str
    version: str
    settings: Mapping[str, Any]
    settings_sha256: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    notices: tuple[Mapping[str, str], ...] = ()
    timing: Mapping[str, float] = field(default_factory=dict)


def units_folder(output_dir: Path) -> Path:
    """Where markers of complete units stand."""
    return output_dir / "logs" / "units"


def failures_folder(output_dir: Path) -> Path:
    """Where records of units that are not complete stand."""
    return output_dir / "logs" / "failures"


def write_marker(output_dir: Path, marker: Marker) -> Path:
    """Declare a unit complete; its failure record, if there was one, goes."""
    path = units_folder(output_dir) / f"{marker.unit}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps(vars(marker), indent=1, sort_keys=True, default=list) + "\n")
    (failures_folder(output_dir) / path.name).unlink(missing_ok=True)
    return path


def read_marker(output_dir: Path, unit: str) -> Marker | None:
    """A unit's marker; None where there is none that can be read."""
    return _load(units_folder(output_dir) / f"{unit}.json")


def read_markers(output_dir: Path) -> list[Marker]:
    """All markers, sorted by unit."""
    paths = sorted(units_folder(output_dir).glob("*.json"))
    return [marker for path in paths if (marker := _load(path)) is not None]


def unreadable_markers(output_dir: Path) -> list[Path]:
    """Markers that stand but can't be read."""
    return [path for path in sorted(units_folder(output_dir).glob("*.json")) if _load(path) is None]


def _load(path: Path) -> Marker | None:
    try:
        return Marker(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def begin_unit(output_dir: Path, unit: str) -> None:
    """A unit is about to be worked on: it is not complete, and what failed before is forgotten."""
    for folder in (units_folder(output_dir), failures_folder(output_dir)):
        (folder / f"{unit}.json").unlink(missing_ok=True)


def changed_outputs(output_dir: Path, marker: Marker) -> list[str]:
    """The outputs that are missing or differ from the marker's hashes, relative to the output folder."""
    return [
        name for name, digest in sorted(marker.outputs.items()) if not _has_hash(output_dir / name, digest)
    ]


def changed_inputs(marker: Marker, inputs: Mapping[str, Path]) -> list[str]:
    """Names of inputs that were added, removed or changed since the marker was written."""
    names = sorted(set(marker.inputs) | set(inputs))
    return [
        one for one in names if one not in inputs or not _has_hash(inputs[one], marker.inputs.get(one, ""))
    ]


def _has_hash(path: Path, digest: str) -> bool:
    try:
        return sha256_of(path) == digest
    except EnvironmentFault:
        return False


def record_failure(
    output_dir: Path, unit: str, error: R2starError, *, state: str = "", seconds: float = 0.0
) -> None:
    """Record why a unit is not complete (or was skipped, with ``state``)."""
    path = failures_folder(output_dir) / f"{unit}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"unit": unit, "state": state or error.state, "seconds": seconds, **error.as_dict()}
    write_text_atomically(path, json.dumps({**row, "unit": unit}, indent=1, sort_keys=True) + "\n")


def read_failures(output_dir: Path) -> list[dict[str, Any]]:
    """All records of units that are not complete."""
    return [json.loads(path.read_text()) for path in sorted(failures_folder(output_dir).glob("*.json"))]


def write_status(output_dir: Path) -> Path:
    """Write status.tsv from markers and failure records: a row a unit, sorted."""
    path = output_dir / "status.tsv"
    lock = output_dir / "logs" / ".status.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as handle:
        # several jobs share one output: who writes last must have scanned last. On a file system
        # without locks the newest scan may lose a row until the next one.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        rows = {row["unit"]: row for row in map(_row_of_failure, read_failures(output_dir))}
        rows |= {row["unit"]: row for row in map(_row_of_marker, read_markers(output_dir))}
        lines = ["\t".join(STATUS_COLUMNS)]
        lines += [
            "\t".join(_cell(rows[unit].get(name, "")) for name in STATUS_COLUMNS) for unit in sorted(rows)
        ]
        write_text_atomically(path, "\n".join(lines) + "\n")
    return path


def _row_of_marker(marker: Marker) -> dict[str, str]:
    codes = sorted({notice["code"] for notice in marker.notices})
    return {
        "unit": marker.unit,
        "state": marker.state,
        "warnings": ";".join(codes),
        "seconds": f"{marker.timing.get('total_s', 0.0):.1f}",
    }


def _row_of_failure(record: Mapping[str, Any]) -> dict[str, str]:
    message = f"{record['found']}, {record['needed']}" if record["needed"] else record["found"]
    return {
        "unit": record["unit"],
        "state": record["state"],
        "code": f"R2S-{record['code']}",
        "file": record["path"],
        "message": message,
        "fix": record["fix"],
        "seconds": f"{record['seconds']:.1f}",
    }


def _cell(value: str) -> str:
    """A TSV cell: no tabs or line ends, and never empty."""
    return " ".join(str(value).split()) or "n/a"
