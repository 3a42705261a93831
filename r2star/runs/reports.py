"""What is known of each participant's page: what it was made from, and its hash. May import files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from r2star.errors import EnvironmentFault
from r2star.files import sha256_of, write_text_atomically


def reports_folder(output_dir: Path) -> Path:
    """Where records of pages stand."""
    return output_dir / "logs" / "reports"


def write_report_record(output_dir: Path, participant: str, page: Path, key: str) -> Path:
    """Remember what a page was made from (``key``), and its hash."""
    path = reports_folder(output_dir) / f"sub-{participant}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"key": key, "page": page.name, "sha256": sha256_of(page)}
    return write_text_atomically(path, json.dumps(told, indent=1, sort_keys=True) + "\n")


def read_report_record(output_dir: Path, participant: str) -> dict[str, Any] | None:
    """The record of a participant's page; None where there is none that can be read."""
    return _load(reports_folder(output_dir) / f"sub-{participant}.json")


def read_reports(output_dir: Path) -> list[dict[str, Any]]:
    """All records, sorted by participant."""
    paths = sorted(reports_folder(output_dir).glob("sub-*.json"))
    return [record for path in paths if (record := _load(path)) is not None]


def _load(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    plain = isinstance(record, dict) and all(
        isinstance(record.get(key), str) for key in ("key", "page", "sha256")
    )
    return record if plain and Path(record["page"]).name == record["page"] else None


def changed_report(output_dir: Path, record: dict[str, Any]) -> bool:
    """Whether a page is missing or differs from its record."""
    try:
        return bool(sha256_of(output_dir / record["page"]) != record["sha256"])
    except EnvironmentFault:
        return True
