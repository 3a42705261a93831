"""The first level: which units to run, running their graphs, and what came of each."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from r2star import __version__
from r2star.atlas import load_atlas
from r2star.atlas.settle import settle_atlas
from r2star.bids.dataset import write_atlas_files, write_bidsignore, write_dataset_description
from r2star.bids.derivatives import check_datasets, dataset_names, read_query, with_derivatives
from r2star.bids.find import find_units
from r2star.bids.selection import read_filters
from r2star.bids.sidecars import RAW, bids_uri
from r2star.bids.units import Unit
from r2star.cli.common import say, say_error
from r2star.cli.progress import Interrupted, Progress, stop_on_signals
from r2star.cli.reports import write_reports
from r2star.errors import EnvironmentFault, InputError, LockedError, R2starError, UsageError
from r2star.files import sha256_of, sweep_temporary
from r2star.fit.denoise import require_dipy
from r2star.iron.calibration import Calibration, refuse_mismatch
from r2star.runs.locks import UnitLocks
from r2star.runs.records import (
    begin_unit,
    changed_inputs,
    changed_outputs,
    failures_folder,
    kinds_of_results,
    read_marker,
    record_failure,
    record_folders,
    record_root_files,
)
from r2star.runs.resources import ensure_temporary_folder
from r2star.runs.status import write_status
from r2star.runs.turns import taking_turns
from r2star.settings import Settings
from r2star.steps.iron import load_calibration

#: Units in one graph: enough to keep every processor busy, few enough to keep memory and scheduling flat.
UNITS_PER_GRAPH = 24
#: The graphs' folder inside the work folder.
WORK_FOLDER = "r2star"


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
    filters = read_filters(settings.bids_filter_file) if settings.bids_filter_file else None
    settings = settle(settings)
    units = find_units(
        settings.bids_dir,
        settings.participant_labels,
        settings.session_labels,
        filters,
        settings.anatomical_reference,
    )
    units = with_what_is_asked(units, settings)
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


def check_parts() -> None:
    """Refuse to start without a part that the run would miss in its middle."""
    try:
        version = importlib.metadata.version("antspyx")
    except importlib.metadata.PackageNotFoundError:
        version = "none"
    if not version.startswith("0.6."):
        raise EnvironmentFault(
            "E605",
            f"antspyx (ANTs) {version} is installed",
            "antspyx 0.6 is needed",
            'pip install "antspyx>=0.6.3,<0.7"',
        )


def check_folders(settings: Settings) -> None:
    """Refuse folders that can't serve, before any work."""
    source, output = settings.bids_dir, settings.output_dir
    if not source.is_dir():
        raise UsageError("E501", "no such folder", "a BIDS dataset is needed", "check the path", path=source)
    for what, folder in (("output", output), ("work", settings.work_dir)):
        inside = folder.relative_to(source).parts if folder.is_relative_to(source) else ("elsewhere",)
        if not inside or inside[0].startswith("sub-"):
            raise UsageError(
                "E523",
                f"the {what} folder is the input folder" + (" of a participant" if inside else ""),
                "results need a folder of their own",
                f"e.g. {source / 'derivatives' / 'r2star'}",
                path=folder,
            )
    for folder in (output, settings.work_dir):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".r2star-probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
            if folder == settings.work_dir:
                # what stands there is read again: nobody else may write it
                (folder / WORK_FOLDER).mkdir(mode=0o700, exist_ok=True)
                (folder / WORK_FOLDER).chmod(0o700)
        except OSError as error:
            raise EnvironmentFault(
                "E602",
                f"the folder can't be written ({error.strerror})",
                "the right to write is needed",
                "choose another folder or change its rights",
                path=folder,
            ) from error


def settle(settings: Settings) -> Settings:
    """Settings with datasets, atlases and calibration looked up, so that what can't be used is refused at once."""
    if settings.fit_only:
        asked = [
            name
            for name in ("segmentations", "brain_mask", "lesions", "maps", "iron")
            if getattr(settings, name)
        ]
        if asked:
            option = asked[0].removesuffix("s") if asked[0] == "segmentations" else asked[0]
            raise UsageError(
                "E532",
                f"--{option.replace('_', '-')} with --fit-only",
                "regions are needed",
                "leave one of them out",
            )
        return settings
    folders = [Path(text) for text in named_derivatives(settings) if Path(text).is_dir()]
    datasets = check_datasets([*settings.derivatives, *folders])
    settled = [settle_atlas(name, settings.work_dir / "atlases") for name in settings.atlases]
    content = [atlas.sha256 for name, atlas in settled if name.endswith(".toml")]
    if settings.iron is not None:
        load_calibration(settings.iron)
        content += [sha256_of(settings.iron)] if settings.iron.endswith(".toml") else []
    return replace(
        settings, derivatives=datasets, atlases=tuple(name for name, _ in settled), content=tuple(content)
    )


def named_derivatives(settings: Settings) -> list[str]:
    """What the options name of other programs, but for maps."""
    return [
        *settings.segmentations,
        *(one for one in (settings.brain_mask, settings.lesions) if one is not None),
    ]


def with_what_is_asked(units: Sequence[Unit], settings: Settings) -> tuple[Unit, ...]:
    """Units with the files of other programs; those that a calibration does not hold for can't run."""
    queries = [read_query("segmentation", text) for text in settings.segmentations]
    queries += [read_query("brain_mask", settings.brain_mask)] if settings.brain_mask else []
    queries += [read_query("lesions", settings.lesions)] if settings.lesions else []
    maps = [read_query("map", text) for text in settings.maps]
    _refuse_same_suffix([query.suffix for query in maps])
    queries += maps
    if queries and not settings.derivatives:
        raise UsageError(
            "E531", f"{queries[0].text} is asked for, and there is no dataset to look in",
            "--derivatives is needed", "name the folder of the dataset",
        )  # fmt: skip
    found = tuple(with_derivatives(unit, queries, settings.derivatives) for unit in units)
    if settings.iron is None:
        return found
    calibration = load_calibration(settings.iron)
    return tuple(_refuse_other_field(unit, calibration) for unit in found)


def _refuse_same_suffix(suffixes: Sequence[str]) -> None:
    twice = sorted({one for one in suffixes if suffixes.count(one) > 1})
    if twice:
        found = f"--maps names {', '.join(twice)} twice"
        raise UsageError("E530", found, "its columns are named by the suffix", "leave one of them out")


def _refuse_other_field(unit: Unit, calibration: Calibration) -> Unit:
    if unit.problem is not None:
        return unit
    try:
        refuse_mismatch(calibration, unit.field_strength_tesla)
    except UsageError as error:
        problem = InputError(error.code, error.found, error.needed, error.fix, unit=unit.label)
        return replace(unit, problem=problem)
    return unit


def write_root_files(settings: Settings) -> None:
    """What stands once for all units; an atlas that can't be used is refused here, before any work."""
    atlases = [] if settings.fit_only else [load_atlas(name) for name in settings.atlases]
    links = dataset_names(settings.derivatives)
    written = [
        write_dataset_description(settings.output_dir, settings.bids_dir, __version__, links=links),
        write_bidsignore(settings.output_dir),
    ]
    for atlas in atlases:
        about = {"License": atlas.license, "Source": atlas.source, "ReferencesAndLinks": [atlas.citation]}
        written += write_atlas_files(settings.output_dir, atlas.name, atlas.label_names().items(), about)
    record_root_files(settings.output_dir, (path.name for path in written))
    for folder in record_folders(settings.output_dir):
        sweep_temporary(folder)  # what an earlier run was killed over


def refuse_mixed_results(settings: Settings) -> None:
    """Results of another version or of other settings never mix with this run's."""
    if settings.force:
        return
    for kind in kinds_of_results(settings.output_dir):
        if kind.version != __version__:
            raise UsageError(
                "E524",
                f"the output folder holds results of r2star {kind.version}",
                f"this is {__version__}",
                "use a new output folder, or --force to redo them",
                path=settings.output_dir,
            )
        if kind.settings_sha256 != settings.result_key:
            now = settings.result_settings()
            differ = sorted(key for key in now if now[key] != kind.settings.get(key))
            raise UsageError(
                "E524",
                f"the output folder holds results of other settings ({', '.join(differ) or 'unknown'})",
                "results of one set of settings are needed",
                "use a new output folder, or --force to redo them",
                path=settings.output_dir,
            )


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


def inputs_of(unit: Unit, settings: Settings) -> dict[str, Path]:
    """The files that a run of the unit reads, by the names that its marker has for them."""
    unused = {unit.t1w} if settings.fit_only else set()
    roots = {RAW: settings.bids_dir} | dataset_names(settings.derivatives)
    return {bids_uri(path, roots): path for path in unit.files if path not in unused}


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
