"""Before the first level begins: parts, folders, what the options name, and results that may not be mixed."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from r2star import __version__
from r2star.atlas import load_atlas
from r2star.atlas.settle import settle_atlas
from r2star.bids.dataset import other_program, write_atlas_files, write_bidsignore, write_dataset_description
from r2star.bids.derivatives import with_derivatives
from r2star.bids.find import find_units
from r2star.bids.queries import check_datasets, dataset_names, read_query
from r2star.bids.selection import read_filters
from r2star.bids.sidecars import RAW, bids_uri
from r2star.bids.units import Unit
from r2star.errors import EnvironmentFault, InputError, UsageError
from r2star.files import sha256_of, sweep_temporary
from r2star.iron.calibration import Calibration, refuse_mismatch
from r2star.runs.records import (
    kinds_of_results,
    record_folders,
    record_root_files,
)
from r2star.settings import Settings
from r2star.steps.iron import load_calibration

#: The graphs' folder inside the work folder.
WORK_FOLDER = "r2star"


def check_parts() -> None:
    """Refuse to start without a part that the run would miss in its middle."""
    try:
        version = importlib.metadata.version("antspyx")
    except importlib.metadata.PackageNotFoundError:
        version = "none"
    numbers = tuple(int(word) for word in version.split(".")[:3] if word.isdecimal())
    if not (0, 6, 3) <= numbers < (0, 7):
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
    if (other := other_program(output)) is not None:
        raise UsageError(
            "E525",
            f"the output folder holds another dataset, {other!r}",
            "results need a folder of their own",
            f"e.g. {output / 'r2star'}",
            path=output,
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


def find_asked_units(settings: Settings) -> tuple[Unit, ...]:
    """The units that a run is asked for, with what it is asked to use of other programs; ``settings`` are settled."""
    filters = read_filters(settings.bids_filter_file) if settings.bids_filter_file else None
    units = find_units(
        settings.bids_dir,
        settings.participant_labels,
        settings.session_labels,
        filters,
        settings.anatomical_reference,
        lesions=settings.lesions is not None,
    )
    return with_what_is_asked(units, settings)


def inputs_of(unit: Unit, settings: Settings) -> dict[str, Path]:
    """The files that a run of the unit reads, by the names that its marker has for them."""
    roots = {RAW: settings.bids_dir} | dataset_names(settings.derivatives)
    files = (unit.without_anatomy() if settings.fit_only else unit).files
    return {bids_uri(path, roots): path for path in files}


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
