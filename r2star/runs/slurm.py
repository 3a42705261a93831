"""Talking to SLURM: job scripts, submitting them, and what the queue and the accounting say. Errors only are imported.

Every word that comes from outside is quoted before it stands in a script; participants are read from a file.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2star.errors import EnvironmentFault

EXIT_LINE = "r2star-submit: exit code"
_COMMAND_TIMEOUT_S = 60


@dataclass(frozen=True)
class Request:
    """What a job asks of the scheduler."""

    name: str
    n_processors: int
    memory_mib: int
    minutes: int
    sbatch_options: tuple[str, ...] = ()

    def lines(self, log: str) -> list[str]:
        """The script's ``#SBATCH`` lines; a cluster's own options come last, so that they win."""
        asked = [
            f"--job-name={self.name}",
            f"--cpus-per-task={self.n_processors}",
            f"--mem={self.memory_mib}M",
            f"--time={self.minutes}",
            f"--output={log}",
            *self.sbatch_options,
        ]
        return [f"#SBATCH {_sbatch_word(option)}" for option in asked]


def array_script(
    request: Request, command: Sequence[str], folder: Path, n_tasks: int, at_most: int | None
) -> str:
    """A job array with a participant a task, each in a work folder on the node that goes at the end.

    The shell outlives a signal to the job, so that the program has time to clean up, and notes its exit code.
    """
    limit = f"%{at_most}" if at_most else ""
    participants = shlex.quote(str(folder / "participants.txt"))
    lines = [
        "#!/bin/bash",
        *request.lines(f"{folder}/task-%a.log"),
        f"#SBATCH --array=1-{n_tasks}{limit}",
        "#SBATCH --open-mode=truncate",
        "trap : TERM",
        f'participant=$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" {participants})',
        'work=$(mktemp -d "${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/r2star-XXXXXX") || exit 4',
        f'{shlex.join(command)} --participant-label "$participant" --work-dir "$work"',
        "code=$?",
        'rm -rf "$work"',
        f'echo "{EXIT_LINE} $code after $SECONDS s on $(hostname)"',
        "exit $code",
    ]
    return "\n".join(lines) + "\n"


def single_script(request: Request, command: Sequence[str], log: Path) -> str:
    """One job with one command."""
    return "\n".join(["#!/bin/bash", *request.lines(str(log)), f"exec {shlex.join(command)}"]) + "\n"


def _sbatch_word(option: str) -> str:
    """An option as a line of its own takes it: a value with spaces in quotes."""
    key, equals, value = option.partition("=")
    return f"{key}={shlex.quote(value)}" if equals and shlex.quote(value) != value else option


def submit(script: Path, *, after: Sequence[str] = ()) -> str:
    """Hand a script to sbatch, to run when the jobs in ``after`` have ended, however they did; returns the job's id."""
    depend = [f"--dependency=afterany:{':'.join(after)}"] if after else []
    return _run(["sbatch", "--parsable", *depend, str(script)]).strip().split(";")[0]


def largest_array() -> int:
    """How many tasks the cluster takes in one array."""
    for line in _run(["scontrol", "show", "config"]).splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize" and value.strip().isdigit():
            return max(1, int(value) - 1)
    return 1000


def queued_tasks(jobs: Sequence[str]) -> dict[tuple[str, int], str]:
    """State by job and task of what still waits or runs; ids that the scheduler has forgotten are no error."""
    if not jobs:
        return {}
    text = _run(["squeue", "--noheader", "--array", "--me", "--format=%F %K %T"])
    rows = (line.split() for line in text.splitlines())
    found = {(row[0], int(row[1])): row[2] for row in rows if len(row) == 3 and row[1].isdigit()}
    return {key: state for key, state in found.items() if key[0] in jobs}


def ended_tasks(jobs: Sequence[str]) -> Mapping[tuple[str, int], str]:
    """How tasks ended by the accounting (``CANCELLED``, ``TIMEOUT`` ...); empty where there is none."""
    if not jobs:
        return {}
    command = ["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={','.join(jobs)}"]
    try:
        text = _run([*command, "--format=JobID,State"])
    except EnvironmentFault:
        return {}
    ends: dict[tuple[str, int], str] = {}
    for line in text.splitlines():
        job, _, state = line.partition("|")
        number, _, task = job.partition("_")
        if task.isdigit():
            ends[number, int(task)] = state.split()[0] if state else ""
    return ends


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_COMMAND_TIMEOUT_S
        )
    except FileNotFoundError as error:
        raise EnvironmentFault(
            "E611",
            f"there is no {command[0]} here",
            "SLURM's commands are needed",
            "submit from a login node of the cluster, or look at the script with --dry-run",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFault(
            "E612", f"{command[0]} gave no answer in {_COMMAND_TIMEOUT_S} s", fix="try again later"
        ) from error
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise EnvironmentFault("E612", f"{command[0]} refused: {said}", fix="see --dry-run and --sbatch")
    return done.stdout
