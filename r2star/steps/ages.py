"""The unit of the ages in participants.tsv and sessions.tsv, as the sidecars beside them tell it. May import bids."""

from __future__ import annotations

from pathlib import Path

from r2star.bids.metadata import read_json
from r2star.errors import InputError

_YEARS = frozenset({"year", "years", "yr", "yrs", "y", "a"})


def other_unit(table: Path, column: str) -> tuple[str, str]:
    """The unit of a column of ages where it is not years, and the sidecar that tells it; else empty texts.

    Raises
    ------
    InputError
        A sidecar is there and can't be read (E210, E220).
    """
    shared = table.parent.parent / "sessions.json"  # what all participants' tables of sessions have in common
    sidecars = [table.with_suffix(".json"), *([shared] if table.name.endswith("_sessions.tsv") else [])]
    for sidecar in sidecars:
        about = read_json(sidecar, sidecar.name)[0].get(column) if sidecar.is_file() else None
        unit = str(about.get("Units") or "") if isinstance(about, dict) else ""
        if unit:
            return ("", "") if unit.strip().rstrip(".").casefold() in _YEARS else (unit, sidecar.name)
    return "", ""


def require_years(table: Path, column: str) -> None:
    """Refuse (E706) ages in another unit than years: 90 months would pass for 90 years."""
    unit, sidecar = other_unit(table, column)
    if unit:
        raise InputError(
            "E706", f"column {column} is in {unit!r} by {sidecar}", "ages in years",
            "turn the ages into years, or correct Units in the sidecar", path=table,
        )  # fmt: skip
