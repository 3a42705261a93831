"""``r2star-submit BIDS_DIR OUTPUT_DIR``: the first level as a SLURM job array, a participant a task."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2star import __version__
from r2star.bids.sidecars import RAW, bids_uri
from r2star.bids.units import Unit
from r2star.cli.app import build_parser as build_r2star_parser
from r2star.cli.app import settings_from
from r2star.cli.common import Parser, run_command, say
from r2star.errors import UsageError
from r2star.runs.needs import (
    Needs,
    UnitNeeds,
    guess_unit,
    job_needs,
    measured_unit,
    of_marker,
    unpacked_gib,
)
from r2star.runs.records import Marker, read_marker, units_folder
from r2star.runs.slurm import (
    Request,
    array_script,
    ended_tasks,
    largest_array,
    queued_tasks,
    single_script,
    submit,
)
from r2star.runs.status import COMPLETE_STATES, read_status, write_status
from r2star.runs.submissions import Task, latest_tasks, new_folder, read_submissions, record_job
from r2star.settings import Settings

EPILOG = """\
examples:
  r2star-submit study out                         every participant that is not complete
  r2star-submit study out --group -- --sloppy     options after -- go to r2star; then the group level
  r2star-submit study out --dry-run               show the script, submit nothing
  r2star-submit study out --status                one table of what happened

Run it again to resubmit what is not complete: what is complete, waits or runs is left alone.
"""
#: Complete units that are looked at for what a unit takes.
MOST_MEASURED = 200
#: Rows of the table up to which complete units are shown too.
MOST_ROWS = 100
GROUP_MEMORY_MIB, GROUP_MINUTES = 4096, 120


@dataclass(frozen=True)
class Plan:
    """Who is to be submitted, and who is not."""

    participants: tuple[str, ...]
    n_complete: int
    n_queued: int
    needs: Needs


def build_parser() -> Parser:
    """The parser of ``r2star-submit``."""
    parser = Parser(
        prog="r2star-submit",
        usage="r2star-submit BIDS_DIR OUTPUT_DIR [options] [-- options of r2star]",
        description="Submit the first level to SLURM as a job array, a participant a task.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bids_dir", type=Path, metavar="BIDS_DIR", help="the BIDS dataset")
    parser.add_argument(
        "output_dir", type=Path, metavar="OUTPUT_DIR", help="where the derivative dataset goes"
    )
    parser.add_argument("--version", action="version", version=f"r2star {__version__}")
    parser.add_argument("--status", action="store_true", help="print one table of what happened so far")
    parser.add_argument("--dry-run", action="store_true", help="print the script; submit and write nothing")
    parser.add_argument(
        "--group", action="store_true", help="then the group level, when all tasks have ended"
    )
    parser.add_argument(
        "--cpus", type=int, default=2, metavar="N", help="processors of a task (default: %(default)s)"
    )
    parser.add_argument(
        "--mem-gb", type=float, metavar="GB", help="memory of a task (default: by data and earlier units)"
    )
    parser.add_argument(
        "--minutes", type=int, metavar="N", help="time of a task (default: by data and earlier units)"
    )
    parser.add_argument(
        "--at-most", type=int, metavar="N", help="tasks that run at a time (default: no limit)"
    )
    parser.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="OPTION",
        help="an option for sbatch, e.g. --sbatch=--partition=long (repeatable)",
    )
    parser.add_argument(
        "--command",
        default="",
        metavar="WORDS",
        help="what runs r2star on a node, e.g. 'apptainer run --cleanenv r2star.sif' (default: this r2star)",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``r2star-submit``."""
    return run_command(_run, argv)


def _run(arguments: list[str]) -> int:
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options, passed = build_parser().parse_args(arguments[:split]), arguments[split + 1 :]
    settings = _settings(options, passed)
    if options.status:
        return say_status(settings.output_dir)
    from r2star.cli.preparation import check_folders, refuse_mixed_results

    if not options.dry_run:
        check_folders(settings)
    refuse_mixed_results(settings)
    plan = make_plan(settings, options)
    say(
        f"Participants: {len(plan.participants)} to run, {plan.n_complete} complete, "
        f"{plan.n_queued} waiting or running."
    )
    if not plan.participants:
        say("Nothing to submit.")
        return 0
    return submit_all(plan, options, settings, passed)


def _settings(options: argparse.Namespace, passed: Sequence[str]) -> Settings:
    """The settings of every task; an option that r2star would refuse is refused here."""
    for name in ("cpus", "mem_gb", "minutes", "at_most"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise UsageError("E521", f"--{name.replace('_', '-')} is {value}", "a positive number is needed")
    words = [str(options.bids_dir), str(options.output_dir), "participant", *passed]
    parsed = build_r2star_parser().parse_args(words)
    if parsed.work_dir is not None:
        raise UsageError(
            "E533",
            "--work-dir is given",
            "each task has a work folder of its own on its node",
            "set TMPDIR or SLURM_TMPDIR in the job's environment to choose the disk",
        )
    return settings_from(parsed)


def make_plan(settings: Settings, options: argparse.Namespace) -> Plan:
    """Which participants are to be submitted, and what a task asks for."""
    from r2star.bids.find import find_units
    from r2star.bids.selection import read_filters

    filters = read_filters(settings.bids_filter_file) if settings.bids_filter_file else None
    units = find_units(settings.bids_dir, settings.participant_labels, settings.session_labels, filters)
    by_participant: dict[str, list[Unit]] = {}
    for unit in units:
        if not unit.skipped:
            by_participant.setdefault(unit.participant, []).append(unit)
    complete = {
        name for name, own in by_participant.items() if all(looks_complete(unit, settings) for unit in own)
    }
    submissions = read_submissions(settings.output_dir)
    jobs = [one.job for one in submissions]
    tasks = latest_tasks(submissions, {} if options.dry_run and not jobs else queued_tasks(jobs), {})
    queued = {name for name in by_participant if name in tasks and tasks[name].is_live} - complete
    wanted = tuple(name for name in by_participant if name not in complete | queued)
    measured = measured_units(units, settings.output_dir)
    needs = job_needs(
        ([unit_needs(unit, measured, settings) for unit in by_participant[name]] for name in wanted),
        options.cpus,
    )
    memory_mib = needs.memory_mib if options.mem_gb is None else round(options.mem_gb * 1024)
    return Plan(wanted, len(complete), len(queued), Needs(memory_mib, options.minutes or needs.minutes))


def looks_complete(unit: Unit, settings: Settings) -> bool:
    """Whether a unit's marker holds as far as names and times tell; its task would compare contents."""
    marker = read_marker(settings.output_dir, unit.label)
    if marker is None or (marker.version, marker.settings_sha256) != (__version__, settings.result_key):
        return False
    unused = {unit.t1w} if settings.fit_only else set()
    inputs = [path for path in unit.files if path not in unused]
    if {bids_uri(path, {RAW: settings.bids_dir}) for path in inputs} != set(marker.inputs):
        return False
    written = (units_folder(settings.output_dir) / f"{unit.label}.json").stat().st_mtime
    return all(path.stat().st_mtime <= written for path in inputs) and all(
        (settings.output_dir / name).exists() for name in marker.outputs
    )


def measured_units(units: Sequence[Unit], output_dir: Path) -> list[UnitNeeds]:
    """What complete units took, from some of them evenly over the dataset."""
    step = max(1, len(units) // MOST_MEASURED)
    markers: list[tuple[Unit, Marker | None]] = [
        (unit, read_marker(output_dir, unit.label)) for unit in units[::step]
    ]
    known = (of_marker(marker, echoes_gib(unit)) for unit, marker in markers if marker is not None)
    return [one for one in known if one is not None]


def unit_needs(unit: Unit, measured: Sequence[UnitNeeds], settings: Settings) -> UnitNeeds:
    """What a unit needs by its size and by what others took."""
    if measured:
        return measured_unit(measured, echoes_gib(unit))
    return guess_unit(echoes_gib(unit), fit_only=settings.fit_only)


def echoes_gib(unit: Unit) -> float:
    """Size of a unit's images once unpacked, GiB."""
    return unpacked_gib(echo.path for echo in (*unit.magnitude, *unit.phase, *unit.real, *unit.imaginary))


def submit_all(plan: Plan, options: argparse.Namespace, settings: Settings, passed: Sequence[str]) -> int:
    """Write and submit the arrays, each no longer than the cluster takes, then the group level."""
    request = Request(
        "r2star", options.cpus, plan.needs.memory_mib, plan.needs.minutes, tuple(options.sbatch)
    )
    words = [str(settings.bids_dir), str(settings.output_dir)]
    command = [*_program(options.command), *words, "participant", *_for_a_task(passed)]
    group = [*_program(options.command), *words, "group", *_for_a_task(passed)]
    last = Request("r2star-group", options.cpus, GROUP_MEMORY_MIB, GROUP_MINUTES, tuple(options.sbatch))
    if options.dry_run:
        say(array_script(request, command, settings.output_dir, len(plan.participants), options.at_most))
        if options.group:
            say(single_script(last, group, settings.output_dir / "group.log"))
        return 0
    size, jobs, folder = largest_array(), [], settings.output_dir
    for start in range(0, len(plan.participants), size):
        own = plan.participants[start : start + size]
        folder = new_folder(settings.output_dir)
        (folder / "participants.txt").write_text("\n".join(own) + "\n")
        script = folder / "array.sbatch"
        script.write_text(array_script(request, command, folder, len(own), options.at_most))
        jobs.append(submit(script))
        record_job(folder, jobs[-1])
        say(
            f"Array {jobs[-1]}: {len(own)} participants, {request.n_processors} processors, "
            f"{request.memory_mib} MiB and {request.minutes} min each. Logs: {folder}"
        )
    if options.group:
        script = folder / "group.sbatch"
        script.write_text(single_script(last, group, folder / "group.log"))
        say(
            f"Group level: job {submit(script, after=jobs)} when they have ended. Log: {folder / 'group.log'}"
        )
    return 0


def _program(command: str) -> list[str]:
    """The words that run ``r2star``: those given, or the program beside this one."""
    if command:
        return shlex.split(command)
    beside = Path(sys.executable).with_name("r2star")
    return [str(beside) if beside.exists() else shutil.which("r2star") or "r2star"]


def _for_a_task(passed: Sequence[str]) -> list[str]:
    """The options for r2star without the participants, of whom each task has one."""
    kept: list[str] = []
    skipping = False
    for word in passed:
        if word.startswith("-"):
            skipping = word.partition("=")[0] == "--participant-label"
        if not skipping:
            kept.append(word)
    return kept


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
