"""What was handed to the scheduler, from the folders that each submission leaves in ``logs/submissions``.

Imports files and its siblings only. A submission's folder holds ``participants.txt`` (a line a task), the script,
a log a task, and ``job.json`` with the scheduler's id once it took the job.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2star.files import write_text_atomically
from r2star.runs.slurm import EXIT_LINE

_EXIT = re.compile(re.escape(EXIT_LINE) + r" (\d+) after (\d+) s on (\S+)")


@dataclass(frozen=True)
class Submission:
    """A job array that the scheduler took."""

    folder: Path
    job: str
    participants: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """The latest task of a participant: ``outcome`` is the scheduler's state, or the exit code in the task's log."""

    job: str
    number: int
    log: Path
    outcome: str
    is_live: bool


def submissions_folder(output_dir: Path) -> Path:
    """Where submissions leave their folders."""
    return output_dir / "logs" / "submissions"


def new_folder(output_dir: Path) -> Path:
    """A new folder, numbered after those that are there."""
    parent = submissions_folder(output_dir)
    parent.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(path.name) for path in parent.iterdir() if path.name.isdigit()), default=0)
    while True:
        try:
            (parent / f"{number:04d}").mkdir()
            return parent / f"{number:04d}"
        except FileExistsError:
            number += 1


def record_job(folder: Path, job: str) -> None:
    """The scheduler took the submission's array under this id."""
    write_text_atomically(folder / "job.json", json.dumps({"job": job}) + "\n")


def read_submissions(output_dir: Path) -> list[Submission]:
    """All submissions that the scheduler took, the oldest first."""
    found = []
    for path in sorted(submissions_folder(output_dir).glob("*/job.json")):
        names = (path.parent / "participants.txt").read_text().split()
        found.append(Submission(path.parent, json.loads(path.read_text())["job"], tuple(names)))
    return found


def latest_tasks(
    submissions: Sequence[Submission],
    queued: Mapping[tuple[str, int], str],
    ended: Mapping[tuple[str, int], str],
) -> dict[str, Task]:
    """The latest task of each participant, and what became of it."""
    tasks: dict[str, Task] = {}
    for submission in submissions:
        for number, participant in enumerate(submission.participants, start=1):
            key = (submission.job, number)
            log = submission.folder / f"task-{number}.log"
            outcome = queued.get(key, "").lower() or _outcome(log, ended.get(key, ""))
            tasks[participant] = Task(submission.job, number, log, outcome, key in queued)
    return tasks


def _outcome(log: Path, state: str) -> str:
    """How a task ended, by the last lines of its log, else by the accounting."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            said = _EXIT.findall(file.read().decode(errors="replace"))
    except OSError:
        said = []
    if said:
        return f"exit {said[-1][0]} in {said[-1][1]} s"
    return state.lower().replace("_", " ") or "killed, or never started"
