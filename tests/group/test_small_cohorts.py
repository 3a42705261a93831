"""Cohorts that are too small or too odd for a model end in refusals by row, never in a crash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from r2star.simulate.cohort import simulate_cohort
from r2star.steps.cohort import write_cohort
from r2star.steps.group import GroupOutputs, analyse_group

Edit = Callable[[list[list[str]]], list[list[str]]]


def _run(folder: Path, edit: Edit | None = None, *, figures: bool = True, **sizes: int) -> GroupOutputs:
    paths = write_cohort(simulate_cohort(1, **sizes), folder)  # type: ignore[arg-type]
    table = folder / "participants.tsv"
    if edit is not None:
        rows = edit([line.split("\t") for line in table.read_text().splitlines()])
        table.write_text("\n".join("\t".join(row) for row in rows) + "\n")
    return analyse_group(paths.bids_dir, paths.output_dir, figures=figures)


@pytest.mark.parametrize(("n_controls", "n_patients"), [(1, 1), (1, 2), (3, 2), (6, 1)])
def test_a_handful_of_people(tmp_path: Path, n_controls: int, n_patients: int) -> None:
    outputs = _run(tmp_path, n_controls=n_controls, n_patients=n_patients, n_sites=1)
    assert "W715" in {notice.code for notice in outputs.notices}
    for result in outputs.results:
        assert all(row.get("status") for row in result.rows)


@pytest.mark.parametrize("group", ["control", "patient"])
def test_one_group_alone(tmp_path: Path, group: str) -> None:
    def keep(rows: list[list[str]]) -> list[list[str]]:
        return [row for row in rows if row[1] in {"group", group}]

    outputs = _run(tmp_path, keep, n_controls=20, n_patients=20, n_sites=2)
    by_name = {result.spec.name: result for result in outputs.results}
    tested = [row for row in by_name["group"].rows if row["term"] == "group"]
    assert len(tested) == 6
    assert all(row["status"].startswith("refused: no data") for row in tested)
    # what needs one group only still works
    spline = [row for row in by_name["ageing"].rows if row["term"] == "spline(age, df=3)"]
    assert all(row["status"] == "ok" for row in spline)


def test_no_age_at_all(tmp_path: Path) -> None:
    outputs = _run(
        tmp_path, lambda rows: [[*row[:3], *row[4:]] for row in rows], n_controls=8, n_patients=8, n_sites=2
    )
    assert outputs.results == ()
    assert (tmp_path / "derivatives/r2star/group/regions.tsv").is_file()


def test_every_age_missing(tmp_path: Path) -> None:
    def forget(rows: list[list[str]]) -> list[list[str]]:
        return [rows[0], *([*row[:3], "n/a", *row[4:]] for row in rows[1:])]

    outputs = _run(tmp_path, forget, n_controls=8, n_patients=8, n_sites=2)
    statuses = {status for result in outputs.results for status in result.refused}
    assert any(status.startswith("refused: 0 rows") for status in statuses)


def test_few_people_with_follow_up(tmp_path: Path) -> None:
    outputs = _run(tmp_path, n_controls=4, n_patients=4, n_sites=2, n_sessions=3)
    assert "longitudinal" in {result.spec.name for result in outputs.results}
