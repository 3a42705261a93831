"""``r2star-submit BIDS_DIR OUTPUT_DIR``: the first level as a SLURM job array, a participant a task."""

from __future__ import annotations

import argparse
import math
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from r2star import __version__
from r2star.cli.app import settings_from
from r2star.cli.common import Parser, run_command, say
from r2star.cli.options import build_parser as build_r2star_parser
from r2star.cli.submit_status import say_status
from r2star.errors import UsageError
from r2star.runs.slurm import Request, array_script, largest_array, single_script, submit
from r2star.runs.submissions import new_folder, record_job
from r2star.settings import Settings

if TYPE_CHECKING:
    from r2star.cli.submit_plan import Plan

EPILOG = """\
examples:
  r2star-submit study out                         every participant that is not complete
  r2star-submit study out --group -- --sloppy     options after -- go to r2star; then the group level
  r2star-submit study out --dry-run               show the script, submit nothing
  r2star-submit study out --status                one table of what happened

Run it again to resubmit what is not complete: what is complete, waits or runs is left alone.
"""
GROUP_MEMORY_MIB, GROUP_MINUTES = 4096, 120


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
    from r2star.cli.preparation import check_folders, refuse_mixed_results, settle
    from r2star.cli.submit_plan import make_plan

    if not options.dry_run:
        check_folders(settings)
    with tempfile.TemporaryDirectory() as scratch:
        # what the options name is looked up as a task does it, so that results are known as its own
        settings = replace(settle(replace(settings, work_dir=Path(scratch))), work_dir=settings.work_dir)
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
        if value is not None and not 0 < value < math.inf:
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
