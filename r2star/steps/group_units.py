"""Step: one unit of measurement for each outcome from another program's maps. May import regions and errors."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

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
    for column in sorted(set(columns) - COLUMNS.keys()):
        found: dict[str, str] = {}
        for unit, tables in zip(gathered.units, gathered.tables):
            for path in tables:
                found.setdefault(_unit_of(Path(path).with_suffix(".json"), column), unit.label)
        if len(found) > 1:
            told = ", ".join(f"{unit or 'no unit'} in {label}" for unit, label in sorted(found.items()))
            raise UsageError(
                "E723", f"{column} is in {told}", "one unit for all",
                "write Units into the sidecars of the maps, bring the maps to one unit, and run the participant "
                "level anew",
            )  # fmt: skip


def _unit_of(sidecar: Path, column: str) -> str:
    """The unit that a table's sidecar tells of a column; empty where it tells none."""
    try:
        about = json.loads(sidecar.read_text(encoding="utf-8")).get(column)
    except (OSError, ValueError, AttributeError):
        return ""
    return str(about.get("Units", "")) if isinstance(about, dict) else ""
