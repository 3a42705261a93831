"""The first level: which units to run, running their graphs, and what came of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from r2star import __version__
from r2star.bids.units import Unit
from r2star.cli.common import say, say_error
from r2star.cli.preparation import (
    check_folders,
    check_parts,
    find_asked_units,
    inputs_of,
    refuse_mixed_results,
    settle,
    write_root_files,
)  # fmt: skip
from r2star.cli.progress import Interrupted, Progress, stop_on_signals
from r2star.cli.reports import write_reports
from r2star.errors import EnvironmentFault, LockedError, R2starError
from r2star.fit.denoise import require_dipy
from r2star.runs.locks import UnitLocks
from r2star.runs.records import (
    begin_unit,
    changed_inputs,
    changed_outputs,
    failures_folder,
    forget_failure,
    read_marker,
    record_failure,
)
from r2star.runs.resources import ensure_temporary_folder
from r2star.runs.status import write_status
from r2star.runs.turns import taking_turns
from r2star.settings import Settings

#: Units in one graph: enough to keep every processor busy, few enough to keep memory and scheduling flat.
UNITS_PER_GRAPH = 12


@dataclass
class Outcome:
    """How many units ended how, and the errors."""

    complete: int = 0
    unchanged: int = 0
    skipped: int = 0
    errors: list[R2starError] = field(default_factory=list)

    def exit_code(self, n_requested: int) -> int:
        """0, or by the errors: environment where it stopped everything, then locked, then 1."""
        if not self.errors:
            return 0
        disk = any(
            isinstance(error, EnvironmentFault) and error.code in ("E601", "E602") for error in self.errors
        )
        if disk or (
            len(self.errors) == n_requested
            and all(isinstance(error, EnvironmentFault) for error in self.errors)
        ):
            return EnvironmentFault.exit_code
        if all(isinstance(error, LockedError) for error in self.errors):
            return LockedError.exit_code
        return 1


def run_participant_level(settings: Settings) -> int:
    """Run the first level and return the exit code."""
    check_parts()
    if settings.denoise == "mppca":
        require_dipy()
    check_folders(settings)
    ensure_temporary_folder(settings.work_dir)
    settings = settle(settings)
    units = find_asked_units(settings)
    refuse_mixed_results(settings)
    write_root_files(settings)
    outcome = Outcome()
    with UnitLocks(settings.output_dir / "logs" / "locks") as locks, stop_on_signals():
        ready = [unit for unit in units if is_to_run(unit, settings, locks, outcome)]
        try:
            run_units(ready, settings, locks, outcome)
            write_reports(units, settings)
        except Interrupted as stop:
            record_interrupted(ready, settings.output_dir)
            say(
                f"Interrupted. Complete units are kept; run again to go on. States: {settings.output_dir}/status.tsv"
            )
            return stop.exit_code
        finally:
            status = write_status(settings.output_dir, {unit.label for unit in units})
    summarise(outcome, status)
    return outcome.exit_code(len(units))


def is_to_run(unit: Unit, settings: Settings, locks: UnitLocks, outcome: Outcome) -> bool:
    """Whether a unit has work to do; takes its lock. What can't run is recorded."""
    try:
        if unit.problem is not None:
            raise unit.problem
        locks.acquire(unit.label)
    except R2starError as error:
        error.unit = unit.label
        skip = unit.skipped and not isinstance(error, LockedError)
        if not isinstance(error, LockedError):
            record_failure(settings.output_dir, unit.label, error, state="skipped" if skip else "")
        if skip:
            outcome.skipped += 1
            say(f"{unit.label}: skipped, {error.message}")
        else:
            outcome.errors.append(error)
            say_error(error)
        return False
    if is_complete(unit, settings):
        outcome.unchanged += 1
        # a disk that fills after the marker was written leaves both
        forget_failure(settings.output_dir, unit.label)
        locks.release(unit.label)
        return False
    begin_unit(settings.output_dir, unit.label)
    return True


def is_complete(unit: Unit, settings: Settings) -> bool:
    """Whether a unit's marker holds: same version and settings, same inputs and outputs by content."""
    marker = read_marker(settings.output_dir, unit.label)
    return (
        marker is not None
        and marker.version == __version__
        and marker.settings_sha256 == settings.result_key
        and not changed_inputs(marker, inputs_of(unit, settings))
        and not changed_outputs(settings.output_dir, marker)
    )


def run_units(units: Sequence[Unit], settings: Settings, locks: UnitLocks, outcome: Outcome) -> None:
    """Run units graph by graph, all of a participant's in the same one."""
    if not units:
        return
    from r2star.workflows.run import open_engine

    threads = min(settings.omp_n_threads, max(1, settings.n_procs // min(len(units), settings.n_procs)))
    progress = Progress(units, settings.output_dir, settings.verbosity)
    with open_engine(settings, threads) as engine:
        for batch in by_participant(units, UNITS_PER_GRAPH):
            with taking_turns(settings.work_dir / "turns", [unit.participant for unit in batch], say):
                results = engine.run(batch, progress)
            for unit, error in results.items():
                locks.release(unit)
                if error is None:
                    outcome.complete += 1
                else:
                    outcome.errors.append(error)
            if settings.stop_on_first_crash and outcome.errors:
                return


def record_interrupted(units: Sequence[Unit], output_dir: Path) -> None:
    """Units that the signal found without a marker or an error are recorded as interrupted."""
    fault = EnvironmentFault("E609", "the run was interrupted", fix="run again: finished work is kept")
    for unit in units:
        has_failed = (failures_folder(output_dir) / f"{unit.label}.json").exists()
        if not has_failed and read_marker(output_dir, unit.label) is None:
            record_failure(output_dir, unit.label, fault, state="interrupted")


def by_participant(units: Sequence[Unit], size: int) -> list[list[Unit]]:
    """Batches of about ``size`` units that never part a participant's units."""
    batches: list[list[Unit]] = [[]]
    for unit in units:
        last = batches[-1]
        if len(last) >= size and last[-1].participant != unit.participant:
            batches.append([])
        batches[-1].append(unit)
    return batches


def summarise(outcome: Outcome, status: Path) -> None:
    """The last lines of a run."""
    parts = [
        (outcome.complete, "complete"),
        (outcome.unchanged, "already complete and unchanged"),
        (outcome.skipped, "skipped"),
        (len(outcome.errors), "failed"),
    ]
    say("Units: " + ", ".join(f"{number} {word}" for number, word in parts if number) + ".")
    if outcome.unchanged and not outcome.complete and not outcome.errors:
        say("Nothing to do.")
    say(f"States: {status}")
