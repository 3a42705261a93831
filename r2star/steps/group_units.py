"""Step: one unit of measurement for each outcome from another program's maps. May import regions and errors."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from r2star.errors import UsageError
from r2star.regions.table import COLUMNS
from r2star.steps.group_gather import Gathered


def refuse_mixed_units(gathered: Gathered, columns: Iterable[str]) -> None:
    """Refuse an outcome that the tables' sidecars give in several units: milliseconds would be pooled with seconds.

    Columns of the region table itself have one unit by its definition and are passed over.

    Raises
    ------
    UsageError
        E723, with an example of each unit.
    """
    others = sorted(set(columns) - COLUMNS.keys())
    if not others:
        return
    found: dict[str, dict[str, str]] = {column: {} for column in others}
    for unit, tables in zip(gathered.units, gathered.tables):
        for path in tables:
            about = _told_of_columns(Path(path).with_suffix(".json"))
            for column in others:
                found[column].setdefault(_unit_of(about.get(column)), unit.label)
    for column, examples in found.items():
        if len(examples) > 1:
            told = ", ".join(f"{unit or 'no unit'} in {label}" for unit, label in sorted(examples.items()))
            raise UsageError(
                "E723", f"{column} is in {told}", "one unit for all",
                "write Units into the sidecars of the maps, bring the maps to one unit, and run the participant "
                "level anew",
            )  # fmt: skip


def _told_of_columns(sidecar: Path) -> dict[str, Any]:
    """What a table's sidecar tells of its columns; nothing where it can't be read."""
    try:
        told = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _unit_of(about: Any) -> str:
    """The unit in what a sidecar tells of a column; empty where it tells none."""
    return str(about.get("Units", "")) if isinstance(about, dict) else ""
