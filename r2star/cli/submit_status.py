"""``r2star-submit --status``: one table of what became of every unit and task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from r2star.cli.common import say
from r2star.runs.records import read_marker
from r2star.runs.slurm import ended_tasks, queued_tasks
from r2star.runs.status import COMPLETE_STATES, read_status, write_status
from r2star.runs.submissions import Task, latest_tasks, read_submissions

#: Rows of the table up to which complete units are shown too.
MOST_ROWS = 100


def say_status(output_dir: Path) -> int:
    """Print one table of what happened; 0 where every unit is complete or skipped, else 1."""
    write_status(output_dir)
    submissions = read_submissions(output_dir)
    jobs = [one.job for one in submissions]
    tasks = latest_tasks(submissions, queued_tasks(jobs), ended_tasks(jobs))
    rows = status_rows(read_status(output_dir), tasks, output_dir)
    open_rows = [row for row in rows if row[1] not in (*COMPLETE_STATES, "skipped")]
    shown = rows if len(rows) <= MOST_ROWS else open_rows
    table = [("unit", "state", "code", "task", "outcome", "seconds", "GiB"), *shown]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    counts: dict[str, int] = {}
    for row in rows:
        counts[row[1]] = counts.get(row[1], 0) + 1
    say("Units: " + ", ".join(f"{number} {state}" for state, number in sorted(counts.items())) + ".")
    return 1 if open_rows else 0


def status_rows(
    status: Mapping[str, Mapping[str, str]], tasks: Mapping[str, Task], output_dir: Path
) -> list[tuple[str, ...]]:
    """A row a unit; a participant whose task left no record at all has a row too."""
    rows = []
    for unit, row in status.items():
        task = tasks.get(unit.removeprefix("sub-").split("_")[0])
        where = ("n/a", "n/a") if task is None else (f"{task.job}_{task.number}", task.outcome)
        marker = read_marker(output_dir, unit)
        memory = "n/a" if marker is None else f"{marker.timing.get('peak_memory_gib', 0.0):.2f}"
        rows.append((unit, row["state"], row["code"], *where, row["seconds"], memory))
    recorded = {unit.removeprefix("sub-").split("_")[0] for unit in status}
    for name, task in tasks.items():
        if name not in recorded:
            state = task.outcome if task.is_live else "no result"
            rows.append(
                (f"sub-{name}", state, "n/a", f"{task.job}_{task.number}", task.outcome, "n/a", "n/a")
            )
    return sorted(rows)
