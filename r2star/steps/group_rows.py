"""Step: the region tables of many units parsed at once, as text and as numbers. May import regions, group and errors.

Everything is read as text, so that labels such as ``001``, ``NA`` and ``1e5`` stay what they are; columns of
numbers are then parsed whole, and what is no number is told with its file and row.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from r2star.errors import InputError
from r2star.group.ages import NUMBER
from r2star.regions.table import COLUMNS

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

#: The tables of each unit: (path, content).
Tables = Sequence[Sequence[tuple[str, bytes]]]


class Unit(NamedTuple):
    """A complete unit: its label, its entities by BIDS key, the hashes of what it read, its warnings."""

    label: str
    entities: Mapping[str, str]
    inputs: Mapping[str, str]
    notices: tuple[Mapping[str, str], ...]


def parse_numbers(table: Any, owner: Any, units: Sequence[Unit], tables: Tables) -> dict[str, Any]:
    """Columns of numbers as float64 with NaN for ``n/a``.

    A column that the first level does not know (of another map) is left as text where it holds no numbers. For a known
    one `InputError` R2S-E704 is raised, with file and row.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = {}
    for name in table.column_names:
        if name in TEXT_COLUMNS:
            continue
        column = table[name].combine_chunks()
        known = pc.if_else(pc.equal(column, MISSING), pa.scalar(None, pa.string()), column)
        try:
            numbers[name] = pc.cast(known, pa.float64()).to_numpy(zero_copy_only=False)
            are_numbers = np.isfinite(numbers[name]).sum() + known.null_count == len(known)
        except pa.ArrowInvalid:
            are_numbers = False
        if name in COLUMNS and not are_numbers:
            _refuse_text(known.to_pylist(), name, owner, units, tables)
    return numbers


def _refuse_text(
    cells: Sequence[str | None], name: str, owner: Any, units: Sequence[Unit], tables: Tables
) -> None:
    """Tell the first cell that is neither ``n/a`` nor a finite number."""
    for at, text in enumerate(cells):
        if text is None or (NUMBER.fullmatch(text) and np.isfinite(float(text))):
            continue
        path, row = _place(at, owner, tables)
        raise InputError(
            "E704",
            f"row {row}, column {name}: {text!r}",
            "a number or n/a",
            path=path,
            unit=units[int(owner[at])].label,
        )


def parse_tables(units: Sequence[Unit], tables: Tables) -> tuple[Any, Any]:
    """All tables at once: files with one header are joined and parsed together, as text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    by_header: dict[bytes, list[tuple[int, str, bytes]]] = {}
    for index, own in enumerate(tables):
        for path, content in own:
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
    joined = pa.concat_tables(parts, promote_options="default")  # null where a table has not the column
    table = pa.table({name: pc.fill_null(joined[name], MISSING) for name in joined.column_names})
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    table, owner = table.take(pa.array(order)), owner[order]
    _check_rows(table, owner, units, tables)
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


def _check_rows(table: Any, owner: Any, units: Sequence[Unit], tables: Tables) -> None:
    """Rows belong to the unit of their marker, and none comes twice."""
    import pandas as pd

    stated = table["participant_id"].to_pandas().to_numpy(dtype=object)
    labels = np.array([unit.entities["sub"] for unit in units], dtype=object)[owner]
    alike = (stated == labels) | (stated == np.char.add("sub-", labels.astype(str)).astype(object))
    keys = pd.DataFrame({"unit": owner} | {name: table[name].to_pandas() for name in KEY_COLUMNS})
    for wrong, what in ((~alike, "is of another participant"), (keys.duplicated().to_numpy(), "comes twice")):
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            path, row = _place(at, owner, tables)
            raise InputError(
                "E703", f"row {row} {what}", "one row a region and hemisphere of this unit", path=path
            )


def _place(at: int, owner: Any, tables: Tables) -> tuple[str, int]:
    """File and row of a row of the gathered table, if tables of a unit share one header."""
    offset = at - int(np.searchsorted(owner, owner[at]))
    for path, content in tables[int(owner[at])]:
        n_rows = len(content.splitlines()) - 1
        if offset < n_rows:
            return path, offset + 2
        offset -= n_rows
    return tables[int(owner[at])][0][0], 0
