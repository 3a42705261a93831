"""status.tsv: a row a unit, made from markers and failure records. Standard library, errors, files and siblings only.

The table is derived: losing it loses nothing. A run that ends some units among many thousands reads the records
of its own units alone; another row is read again only where the table and the two folders of records disagree.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from r2star.files import write_text_atomically
from r2star.runs.records import Marker, failures_folder, read_failure, read_marker, units_folder

STATUS_COLUMNS = ("unit", "state", "code", "file", "message", "fix", "warnings", "seconds")
COMPLETE_STATES = frozenset({"ok", "ok_warn"})


def write_status(output_dir: Path, changed: Collection[str] | None = None) -> Path:
    """Write status.tsv from all records, or renew the rows of the units in ``changed``, sorted by unit."""
    path = output_dir / "status.tsv"
    lock = output_dir / "logs" / ".status.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as handle:
        # several jobs share one output: who writes last must have read last. On a file system
        # without locks a row may be old until its unit, or the whole table, is written again.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        known = {} if changed is None else read_status(output_dir)
        complete, failed = _names(units_folder(output_dir)), _names(failures_folder(output_dir))
        rows: dict[str, dict[str, str]] = {}
        for unit in sorted(complete | failed):
            row = known.get(unit)
            is_right = row is not None and (row["state"] in COMPLETE_STATES) == (unit in complete)
            if row is None or not is_right or unit in (changed or ()):
                row = _row_of(output_dir, unit)
            if row is not None:
                rows[unit] = row
        write_text_atomically(path, _text_of(rows.values()))
    return path


def status_stands(output_dir: Path) -> bool:
    """Whether status.tsv is what the records say, to the byte."""
    units = sorted(_names(units_folder(output_dir)) | _names(failures_folder(output_dir)))
    rows = [row for unit in units if (row := _row_of(output_dir, unit)) is not None]
    try:
        return (output_dir / "status.tsv").read_bytes() == _text_of(rows).encode()
    except OSError:
        return False


def _text_of(rows: Iterable[Mapping[str, str]]) -> str:
    lines = ["\t".join(STATUS_COLUMNS)]
    lines += ["\t".join(_cell(row.get(name, "")) for name in STATUS_COLUMNS) for row in rows]
    return "\n".join(lines) + "\n"


def read_status(output_dir: Path) -> dict[str, dict[str, str]]:
    """The rows of status.tsv by unit; none where it is missing or of another layout."""
    try:
        lines = (output_dir / "status.tsv").read_text().splitlines()
    except OSError:
        return {}
    if not lines or tuple(lines[0].split("\t")) != STATUS_COLUMNS:
        return {}
    rows = (line.split("\t") for line in lines[1:])
    return {row[0]: dict(zip(STATUS_COLUMNS, row)) for row in rows if len(row) == len(STATUS_COLUMNS)}


def _names(folder: Path) -> set[str]:
    """Units that have a record in a folder, by one listing of it."""
    return {path.stem for path in folder.glob("*.json")}


def _row_of(output_dir: Path, unit: str) -> dict[str, str] | None:
    """A unit's row; None where its record went meanwhile or can't be read."""
    marker = read_marker(output_dir, unit)
    if marker is not None:
        return _row_of_marker(marker)
    record = read_failure(output_dir, unit)
    return None if record is None else _row_of_failure(record)


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
