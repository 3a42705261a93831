"""The unit of ages is what the nearest sidecar says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r2star.errors import InputError
from r2star.steps.ages import other_unit
from r2star.steps.report_norms import age_of


def tell(path: Path, unit: str) -> None:
    path.write_text(json.dumps({"age": {"Units": unit}}))


def test_a_table_of_sessions_takes_what_the_dataset_says_unless_it_has_a_sidecar(tmp_path: Path) -> None:
    table = tmp_path / "sub-01" / "sub-01_sessions.tsv"
    table.parent.mkdir()
    tell(tmp_path / "sessions.json", "months")
    assert other_unit(table, "age") == ("months", "sessions.json")
    tell(table.with_suffix(".json"), "year")
    assert other_unit(table, "age") == ("", "")
    assert other_unit(tmp_path / "participants.tsv", "age") == ("", "")


@pytest.mark.parametrize(("unit", "expected"), [("year", 40.0), ("months", None)])
def test_a_page_compares_ages_in_years_alone(tmp_path: Path, unit: str, expected: float | None) -> None:
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-01\t40\n")
    tell(tmp_path / "participants.json", unit)
    assert age_of(tmp_path, "01") == expected


def test_a_sidecar_that_is_no_json_is_told(tmp_path: Path) -> None:
    (tmp_path / "participants.json").write_text("{")
    with pytest.raises(InputError, match="E210"):
        other_unit(tmp_path / "participants.tsv", "age")
