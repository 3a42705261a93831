"""Step: all region tables of complete units, read and checked, as one table. May import files and runs.

A unit counts where its marker stands and its table has the hash that the marker tells. Tables are
parsed all at once, see `group_rows`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from r2star.bids.entities import natural_key
from r2star.errors import DatasetError, Notice, UsageError
from r2star.runs.records import Marker, read_failures, read_markers, units_folder, unreadable_markers
from r2star.steps.group_rows import Unit, parse_numbers, parse_tables

TABLE_TAIL = "_desc-R2star_stats.tsv"
#: Warnings of units without the phase, or the facts, that a correction for field gradients takes.
UNCORRECTED = frozenset({"W360", "W364"})


class Exclusion(NamedTuple):
    """A unit or a participant that takes no part, and why."""

    unit: str
    reason: str
    path: str


class Gathered(NamedTuple):
    """Units, the unit of each row, rows as text (pyarrow) and as numbers, what was left out, warnings, provenance.

    ``tables`` are the paths of each unit's region tables.
    """

    units: tuple[Unit, ...]
    unit_of_row: Any
    rows: Any
    numbers: Mapping[str, Any]
    exclusions: tuple[Exclusion, ...]
    notices: tuple[Notice, ...]
    version: str
    settings_sha256: str
    tables: tuple[tuple[str, ...], ...]


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
    markers = _sorted_by_labels(read_markers(output_dir))
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
    exclusions += [
        Exclusion(path.stem, "its marker is damaged", path.relative_to(output_dir).as_posix())
        for path in unreadable_markers(output_dir)
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
    notices += _uncorrected(units, markers[0].settings)
    if not units:
        raise DatasetError("E701", "no unit has a region table", fix="see status.tsv", path=output_dir)
    rows, unit_of_row = parse_tables(units, blobs)
    numbers = parse_numbers(rows, unit_of_row, units, blobs)
    marker = markers[0]
    return Gathered(
        tuple(units),
        unit_of_row,
        rows,
        numbers,
        tuple(exclusions),
        tuple(notices),
        marker.version,
        marker.settings_sha256,
        tuple(tuple(path for path, _ in found) for found in blobs),
    )


def _sorted_by_labels(markers: Iterable[Marker]) -> list[Marker]:
    """By their labels in natural order, so that the order never depends on the disk."""
    keys = ("sub", "ses", "acq", "ce", "rec", "run")
    return sorted(markers, key=lambda one: [natural_key(one.entities.get(key)) for key in keys])


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


def _uncorrected(units: Sequence[Unit], settings: Mapping[str, Any]) -> list[Notice]:
    """Units of a study corrected for field gradients that could not be corrected."""
    found = [
        unit.label for unit in units if UNCORRECTED & {str(notice.get("code")) for notice in unit.notices}
    ]
    if settings.get("field_gradient") != "correct" or not 0 < len(found) < len(units):
        return []
    told = (
        f"R2* is not corrected for field gradients in {len(found)} of {len(units)} units: {', '.join(found)}"
    )
    return [Notice("W717", told, "leave them out, or use --field-gradient report for all")]


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
