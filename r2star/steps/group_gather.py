"""Step: all region tables of complete units, read and checked, as one table. May import files and runs.

A unit counts where its marker stands and its table has the hash that the marker tells. Everything is read
as text, so that labels such as ``001``, ``NA`` and ``1e5`` stay what they are; numbers are parsed column
by column.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from r2star.errors import DatasetError, InputError, Notice, UsageError
from r2star.runs.records import Marker, read_failures, read_markers, units_folder

TABLE_TAIL = "_desc-R2star_stats.tsv"
KEY_COLUMNS = ("segmentation", "region", "hemisphere")
TEXT_COLUMNS = frozenset(
    {
        "participant_id",
        "session_id",
        "acquisition_id",
        "run_id",
        *KEY_COLUMNS,
        "index",
        "calibration",
        "warnings",
    }
)
MISSING = "n/a"


class Unit(NamedTuple):
    """A complete unit: its label, its entities by BIDS key, the hashes of what it read, its warnings."""

    label: str
    entities: Mapping[str, str]
    inputs: Mapping[str, str]
    notices: tuple[Mapping[str, str], ...]


class Exclusion(NamedTuple):
    """A unit or a participant that takes no part, and why."""

    unit: str
    reason: str
    path: str


class Gathered(NamedTuple):
    """Units, the unit of each row, rows as text (pyarrow), what was left out, warnings, provenance."""

    units: tuple[Unit, ...]
    unit_of_row: Any
    rows: Any
    exclusions: tuple[Exclusion, ...]
    notices: tuple[Notice, ...]
    version: str
    settings_sha256: str


def gather_units(output_dir: Path) -> Gathered:
    """Read the region tables of every complete unit.

    Raises
    ------
    DatasetError
        R2S-E701 where the first level left nothing.
    UsageError
        R2S-E702 where results of different versions or settings stand side by side.
    InputError
        R2S-E703 for a table that is not what it should be, with its row.
    """
    markers = _natural(read_markers(output_dir))
    if not markers:
        raise DatasetError(
            "E701", "no complete unit of the first level", "region tables and their markers in logs/units",
            "run the participant level with this output folder first", path=output_dir,
        )  # fmt: skip
    _refuse_mixture(output_dir, markers)
    exclusions = [
        Exclusion(row["unit"], f"first level: {row['state']}", str(row.get("path", "")))
        for row in read_failures(output_dir)
    ]
    units, blobs = [], []
    for marker in markers:
        found = _read_tables(output_dir, marker)
        if isinstance(found, Exclusion):
            exclusions.append(found)
            continue
        units.append(Unit(marker.unit, marker.entities, marker.inputs, tuple(marker.notices)))
        blobs.append(found)
    notices = [_notice_excluded(each) for each in exclusions] + _same_images(units)
    if not units:
        raise DatasetError("E701", "no unit has a region table", fix="see status.tsv", path=output_dir)
    rows, unit_of_row = _parse(units, blobs)
    marker = markers[0]
    return Gathered(
        tuple(units),
        unit_of_row,
        rows,
        tuple(exclusions),
        tuple(notices),
        marker.version,
        marker.settings_sha256,
    )


def _natural(markers: Iterable[Marker]) -> list[Marker]:
    """Sorted by entities as text, so that the order never depends on the disk."""
    return sorted(
        markers,
        key=lambda marker: [marker.entities.get(key, "") for key in ("sub", "ses", "acq", "rec", "run")],
    )


def _refuse_mixture(output_dir: Path, markers: Sequence[Marker]) -> None:
    first = markers[0]
    for other in markers[1:]:
        if (other.version, other.settings_sha256) == (first.version, first.settings_sha256):
            continue
        names = sorted(set(first.settings) | set(other.settings))
        unlike = [name for name in names if first.settings.get(name) != other.settings.get(name)]
        what = (
            f"version {first.version} and {other.version}"
            if other.version != first.version
            else ", ".join(unlike)
        )
        raise UsageError(
            "E702", f"{first.unit} and {other.unit} differ in {what or 'settings'}",
            "results of one version and one setting",
            "run the participant level anew for the older ones, or use another output folder",
            path=units_folder(output_dir) / f"{other.unit}.json",
        )  # fmt: skip


def _read_tables(output_dir: Path, marker: Marker) -> list[tuple[str, bytes]] | Exclusion:
    """The unit's region tables, (path, content), or why it can't be used."""
    names = sorted(name for name in marker.outputs if name.endswith(TABLE_TAIL))
    if not names:
        return Exclusion(marker.unit, "has no region table", "")
    tables = []
    for name in names:
        path = output_dir / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            return Exclusion(marker.unit, "its marker names a file outside the output folder", name)
        try:
            content = path.read_bytes()
        except OSError:
            return Exclusion(marker.unit, "its region table is missing", name)
        if hashlib.sha256(content).hexdigest() != marker.outputs[name]:
            return Exclusion(marker.unit, "its region table was changed after it was written", name)
        tables.append((str(path), content))
    return tables


def _notice_excluded(exclusion: Exclusion) -> Notice:
    return Notice(
        "W701",
        f"{exclusion.unit} takes no part: {exclusion.reason}",
        "run the participant level for it",
        exclusion.path,
    )


def _same_images(units: Sequence[Unit]) -> list[Notice]:
    """Two participants can't have the same image."""
    owners: dict[str, Unit] = {}
    notices = []
    for unit in units:
        for name, digest in unit.inputs.items():
            if not name.endswith(("_MEGRE.nii", "_MEGRE.nii.gz")):
                continue
            owner = owners.setdefault(digest, unit)
            if owner.entities["sub"] != unit.entities["sub"]:
                notices.append(
                    Notice(
                        "W702",
                        f"{owner.label} and {unit.label} have the same image",
                        "keep one of them",
                        name,
                    )
                )
                break
    return notices


def _parse(units: Sequence[Unit], blobs: Sequence[Sequence[tuple[str, bytes]]]) -> tuple[Any, Any]:
    """All tables at once: files with one header are joined and parsed together, as text."""
    import pyarrow as pa

    by_header: dict[bytes, list[tuple[int, str, bytes]]] = {}
    for index, tables in enumerate(blobs):
        for path, content in tables:
            header, _, body = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").partition(b"\n")
            if body and not body.endswith(b"\n"):
                body += b"\n"
            by_header.setdefault(header, []).append((index, path, body))
    parts, owners = [], []
    for header, files in by_header.items():
        names = header.decode().split("\t")
        _check_header(names, files[0][1])
        counts = [body.count(b"\n") for _, _, body in files]
        parts.append(_parse_text(names, files, sum(counts)))
        owners.append(np.repeat([index for index, _, _ in files], counts))
    table = pa.concat_tables(parts, promote_options="default")
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    table, owner = table.take(pa.array(order)), owner[order]
    _check_rows(table, owner, units, blobs)
    return table, owner


def _check_header(names: Sequence[str], path: str) -> None:
    needed = {"participant_id", *KEY_COLUMNS, "r2star_median_per_s"}
    absent = sorted(needed - set(names))
    if absent or len(set(names)) < len(names):
        what = f"no column {', '.join(absent)}" if absent else "a column twice"
        raise InputError("E703", f"row 1 has {what}", "the columns of a region table", path=path)


def _parse_text(names: list[str], files: Sequence[tuple[int, str, bytes]], n_rows: int) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    options = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    try:
        table = csv.read_csv(
            io.BytesIO(b"".join(body for _, _, body in files)),
            csv.ReadOptions(column_names=names),
            csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
            options,
        )
    except pa.ArrowInvalid as error:
        _find_ragged(names, files)
        raise InputError("E703", str(error).splitlines()[0], path=files[0][1]) from None
    if table.num_rows != n_rows:
        raise InputError("E703", f"{table.num_rows} rows where {n_rows} were expected", path=files[0][1])
    return table


def _find_ragged(names: Sequence[str], files: Sequence[tuple[int, str, bytes]]) -> None:
    for _, path, body in files:
        for number, line in enumerate(body.split(b"\n")[:-1], start=2):
            cells = line.count(b"\t") + 1
            if cells != len(names):
                raise InputError("E703", f"row {number} has {cells} cells, not {len(names)}", path=path)


def _check_rows(
    table: Any, owner: Any, units: Sequence[Unit], blobs: Sequence[Sequence[tuple[str, bytes]]]
) -> None:
    """Rows belong to the unit of their marker, and none comes twice."""
    import pandas as pd

    stated = table["participant_id"].to_pandas().to_numpy(dtype=object)
    labels = np.array([unit.entities["sub"] for unit in units], dtype=object)[owner]
    alike = (stated == labels) | (stated == np.char.add("sub-", labels.astype(str)).astype(object))
    keys = pd.DataFrame({"unit": owner} | {name: table[name].to_pandas() for name in KEY_COLUMNS})
    for wrong, what in ((~alike, "is of another participant"), (keys.duplicated().to_numpy(), "comes twice")):
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            path, row = _place(at, owner, blobs)
            raise InputError(
                "E703", f"row {row} {what}", "one row a region and hemisphere of this unit", path=path
            )


def _place(at: int, owner: Any, blobs: Sequence[Sequence[tuple[str, bytes]]]) -> tuple[str, int]:
    """File and row of a row of the gathered table, if tables of a unit share one header."""
    offset = at - int(np.searchsorted(owner, owner[at]))
    for path, content in blobs[int(owner[at])]:
        n_rows = len(content.splitlines()) - 1
        if offset < n_rows:
            return path, offset + 2
        offset -= n_rows
    return blobs[int(owner[at])][0][0], 0


def number_column(gathered: Gathered, name: str) -> Any:
    """A column as float64 with NaN for ``n/a``; R2S-E704 for anything else that is no number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = gathered.rows[name].combine_chunks()
    known = pc.if_else(pc.equal(column, MISSING), pa.scalar(None, pa.string()), column)
    try:
        return pc.cast(known, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        pass
    for at, text in enumerate(known.to_pylist()):
        try:
            float(text or "nan")
        except ValueError:
            unit = gathered.units[int(gathered.unit_of_row[at])].label
            row = at - int(np.searchsorted(gathered.unit_of_row, gathered.unit_of_row[at])) + 2
            raise InputError(
                "E704", f"row {row}, column {name}: {text!r}", "a number or n/a", unit=unit
            ) from None
    raise InputError("E704", f"column {name} holds no numbers")
