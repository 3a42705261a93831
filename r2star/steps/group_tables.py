"""Step: the tables of the second level: regions, statistics, what was left out, what was run. Imports files.

Text cells are written as they were read; the only one that is changed is an age above 89, which is told as ``89+``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from r2star.files import write_bytes_atomically, write_text_atomically
from r2star.group.ages import is_age_column, shown_age
from r2star.group.rows import STATS_COLUMNS, Row
from r2star.regions.table import COLUMNS, ENTITIES
from r2star.steps.group_gather import Gathered
from r2star.steps.group_people import People
from r2star.steps.group_rows import MISSING


def write_regions(
    gathered: Gathered, people: People, folder: Path, replaced: Mapping[str, Any]
) -> tuple[Path, ...]:
    """``regions.tsv`` with its sidecar, and the same as Parquet with numbers as numbers.

    ``replaced`` holds columns of numbers that take the place of those of the region tables (iron by a calibration).
    """
    import pyarrow as pa
    from pyarrow import parquet

    text = _text_columns(gathered, people, replaced)
    tsv, sidecar = folder / "regions.tsv", folder / "regions.json"
    write_text_atomically(tsv, _joined(text))
    write_text_atomically(
        sidecar, json.dumps(_descriptions(gathered, people), indent=2, sort_keys=True) + "\n"
    )
    typed = {name: pa.array(gathered.numbers[name], from_pandas=True) if name in gathered.numbers else column
             for name, column in text.items()}  # fmt: skip
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table(typed), sink)
    write_bytes_atomically(folder / "regions.parquet", sink.getvalue().to_pybytes())
    return tsv, sidecar, folder / "regions.parquet"


def _text_columns(gathered: Gathered, people: People, replaced: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of text: entities, covariates, then the columns of the region table."""
    import pyarrow as pa

    owner = pa.array(gathered.unit_of_row)
    columns = {}
    for name, key in ENTITIES.items():
        labels = [
            f"{key}-{unit.entities[key]}" if key in unit.entities else MISSING for unit in gathered.units
        ]
        columns[name] = pa.array(labels, pa.string()).take(owner)
    for name in people.columns:
        if name in gathered.rows.column_names:
            continue
        cells = [
            people.cell(unit.entities["sub"], unit.entities.get("ses", ""), name) for unit in gathered.units
        ]
        texts = [MISSING if cell is None else cell.text or MISSING for cell in cells]
        if is_age_column(name):
            texts = [shown_age(text) for text in texts]
        columns[name] = pa.array(texts, pa.string()).take(owner)
    for name in gathered.rows.column_names:
        if name not in ENTITIES:
            columns[name] = gathered.rows[name].combine_chunks()
    for name, values in replaced.items():
        plain = values if isinstance(values[0], str) else [_cell(value) for value in values]
        columns[name] = pa.array(plain, pa.string())
    return columns


def _joined(columns: Mapping[str, Any]) -> str:
    import pyarrow.compute as pc

    lines = pc.binary_join_element_wise(*columns.values(), "\t")
    return "\n".join(["\t".join(columns), *lines.to_pylist()]) + "\n"


def _descriptions(gathered: Gathered, people: People) -> dict[str, Any]:
    told: dict[str, Any] = {
        name: {"Description": "Covariate of participants.tsv or sessions.tsv, as text"}
        for name in people.columns
    }
    for name in gathered.rows.column_names:
        text, unit = COLUMNS.get(name, ("Column of the first level's region tables", ""))
        told[name] = {"Description": text} | ({"Units": unit} if unit else {})
    told["GeneratedFrom"] = {
        "Version": gathered.version, "SettingsSHA256": gathered.settings_sha256, "Units": len(gathered.units),
    }  # fmt: skip
    told["Privacy"] = {
        "Description": "Ages above 89 are told as 89+; models used the ages of participants.tsv"
    }
    return told


def write_statistics(rows: Sequence[Row], path: Path) -> None:
    """``<model>_stats.tsv`` and its sidecar."""
    lines = ["\t".join(STATS_COLUMNS)]
    lines += ["\t".join(_cell(row.get(name, "")) for name in STATS_COLUMNS) for row in rows]
    write_text_atomically(path, "\n".join(lines) + "\n")
    told = {name: {"Description": text} for name, text in STATS_COLUMNS.items()}
    write_text_atomically(path.with_suffix(".json"), json.dumps(told, indent=2) + "\n")


def write_rows(columns: Sequence[str], rows: Iterable[Sequence[object]], path: Path) -> None:
    """A plain table."""
    lines = ["\t".join(columns), *("\t".join(_cell(cell) for cell in row) for row in rows)]
    write_text_atomically(path, "\n".join(lines) + "\n")


def _cell(value: object) -> str:
    """A cell: text on one line, numbers to 10 digits, ``n/a`` for what is missing."""
    if isinstance(value, str):
        return " ".join(value.split()) or MISSING
    if value is None:
        return MISSING
    number = float(value)  # type: ignore[arg-type]
    return f"{number:.10g}" if math.isfinite(number) else MISSING


def write_toml(content: Mapping[str, Any], path: Path) -> None:
    """Plain tables, lists of tables, text, numbers and lists of those as TOML."""
    write_text_atomically(path, "\n".join(_toml_lines(content, ())) + "\n")


def _toml_lines(table: Mapping[str, Any], where: tuple[str, ...]) -> Iterable[str]:
    nested = {key: value for key, value in table.items() if _is_table(value) or _is_tables(value)}
    for key, value in table.items():
        if key not in nested:
            yield f"{_key(key)} = {_toml_value(value)}"
    for key, value in nested.items():
        place = (*where, key)
        name = ".".join(map(_key, place))
        for each in value if _is_tables(value) else [value]:
            yield ""
            yield f"[[{name}]]" if _is_tables(value) else f"[{name}]"
            yield from _toml_lines(each, place)


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_tables(value: object) -> bool:
    return (
        isinstance(value, list | tuple) and bool(value) and all(isinstance(each, Mapping) for each in value)
    )


def _key(key: str) -> str:
    plain = key.replace("-", "").replace("_", "")
    return key if plain.isalnum() and plain.isascii() else json.dumps(key, ensure_ascii=False)


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value) if math.isfinite(value) else "nan"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(each) for each in value) + "]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
