"""Columns, files and codes of the results, from the tables in the package that the program itself writes by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from markdown_table import cell, code, table

from r2star.bids.names import DERIVATIVES
from r2star.fit import METHODS, Status
from r2star.group.rows import STATS_COLUMNS
from r2star.regions.table import COLUMNS


def region_columns(_argument: str) -> str:
    """Columns of the region table."""
    return table(
        ("column", "unit", "holds"),
        ((code(name), unit, cell(text)) for name, (text, unit) in COLUMNS.items()),
    )


def model_columns(_argument: str) -> str:
    """Columns of the models' tables."""
    return table(("column", "holds"), ((code(name), cell(text)) for name, text in STATS_COLUMNS.items()))


def derivatives(_argument: str) -> str:
    """Every kind of file that a unit is given."""
    rows = []
    for kind in DERIVATIVES.values():
        desc = f"_desc-{kind.desc}" if kind.desc else ""
        rows.append(
            (code(f"P…{desc}_{kind.suffix}{kind.extension}"), cell(kind.units), cell(kind.description))
        )
    return table(("file", "unit", "holds"), rows)


def fit_status(_argument: str) -> str:
    """Codes of the status map."""
    return table(
        ("code", "name", "has a value", "meaning"),
        ((str(int(s)), code(s.label), "yes" if s.has_value else "NaN", cell(s.meaning)) for s in Status),
    )


def estimators(_argument: str) -> str:
    """The estimators, what each needs, and its source."""
    needs = {"needs_even_echoes": "evenly spaced echoes", "uses_noise_model": "σ of the noise"}
    rows = [
        (
            code(name),
            cell(method.summary),
            ", ".join(text for key, text in needs.items() if getattr(method, key)),
            "yes" if method.takes_dephasing else "no",
            cell(method.reference),
        )
        for name, method in METHODS.items()
    ]
    return table(("`--fit`", "is", "needs", "can be corrected for field gradients", "source"), rows)


def model_schema(_argument: str) -> str:
    """Every key of a model file, from the JSON schema that the program checks the file by."""
    text = files("r2star.group").joinpath("models", "model.schema.json").read_text(encoding="utf-8")
    schema = json.loads(text)
    rows: list[tuple[str, str, str]] = []
    for name, value in schema["properties"].items():
        _walk(name, value, schema, name in schema["required"], rows)
    return table(("key", "type", "meaning"), rows)


def _walk(
    path: str,
    value: Mapping[str, Any],
    schema: Mapping[str, Any],
    needed: bool,
    rows: list[tuple[str, str, str]],
) -> None:
    """Add a key, and the keys below it."""
    if "$ref" in value:
        value = schema["$defs"][value["$ref"].rpartition("/")[2]]
    told = cell(value.get("description", ""))
    rows.append((code(path), cell(_kind(value)), f"{told} **(needed)**" if needed else told))
    below = value.get("items") if value.get("type") == "array" else value
    below = below or {}
    if "$ref" in below:
        below = schema["$defs"][below["$ref"].rpartition("/")[2]]
    if value.get("type") == "array" and "properties" in below:
        path += "[]"
    for name, one in below.get("properties", {}).items():
        _walk(f"{path}.{name}", one, schema, name in below.get("required", ()), rows)
    extra = below.get("additionalProperties")
    if isinstance(extra, dict) and "$ref" in extra:
        _walk(f"{path}.<name>", extra, schema, False, rows)


def _kind(value: Mapping[str, Any]) -> str:
    if "enum" in value:
        return " or ".join(json.dumps(one) for one in value["enum"])
    if "const" in value:
        return json.dumps(value["const"])
    if "oneOf" in value:
        return " or ".join(_kind(one) for one in value["oneOf"])
    if value.get("type") == "array":
        inner = _kind(value.get("items", {}))
        return f"list of {inner}" if inner else "list"
    return str(value.get("type", "")).replace("object", "table").replace("string", "text")


def calibrations(_argument: str) -> str:
    """The calibrations that come along."""
    rows = []
    for path in sorted(_folder("iron", "calibrations").iterdir(), key=lambda path: path.name):
        if path.name.endswith(".toml"):
            one = _toml(path)
            line = f"{one['slope_per_s_per_mg_per_kg']:g}·[Fe] + {one['intercept_per_s']:g}"
            rows.append(
                (
                    code(one["name"]), line, f"{one['field_tesla']:g} T", cell(one["tissue"].replace("_", " ")),
                    cell(", ".join(one["valid_for"]).replace("_", " ")), cell(", ".join(one["regions"])),
                    cell(f"{one['source']} {one.get('notes', '')}"),
                )
            )  # fmt: skip
    return table(
        ("name", "R2\\* (1/s) =", "field", "made in", "holds for", "regions", "source and limits"), rows
    )


def _folder(*parts: str) -> Any:
    return files(f"r2star.{parts[0]}").joinpath(*parts[1:])


def _toml(path: Any) -> dict[str, Any]:
    import tomllib

    return tomllib.loads(path.read_text(encoding="utf-8"))
