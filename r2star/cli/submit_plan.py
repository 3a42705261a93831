"""Who is to be submitted, and what a task asks for: by the data, what is complete, and what earlier units took."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r2star import __version__
from r2star.bids.units import Unit
from r2star.cli.preparation import find_asked_units, inputs_of
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
from r2star.runs.slurm import queued_tasks
from r2star.runs.submissions import latest_tasks, read_submissions
from r2star.settings import Settings

#: Complete units that are looked at for what a unit takes.
MOST_MEASURED = 200


@dataclass(frozen=True)
class Plan:
    """Who is to be submitted, and who is not."""

    participants: tuple[str, ...]
    n_complete: int
    n_queued: int
    needs: Needs


def make_plan(settings: Settings, options: argparse.Namespace) -> Plan:
    """Which participants are to be submitted, and what a task asks for; ``settings`` as `settle` gives them."""
    units = find_asked_units(settings)
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
    inputs = inputs_of(unit, settings)
    if inputs.keys() != marker.inputs.keys():
        return False
    written = (units_folder(settings.output_dir) / f"{unit.label}.json").stat().st_mtime
    return all(path.stat().st_mtime <= written for path in inputs.values()) and all(
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
