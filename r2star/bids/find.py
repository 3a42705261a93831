"""Find the units of a BIDS dataset by its own walk over folders. May import errors and its siblings.

Time goes with the participants that are asked for, not with the size of the dataset: the root is listed once,
and only the folders of those participants are entered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from r2star.bids.echo_checks import FoundImage, NoDataError
from r2star.bids.echoes import field_strength_tesla, read_echoes
from r2star.bids.entities import natural_key, printable
from r2star.bids.folders import UNIT_FIELDS, Folder, choose_t1w, read_folder
from r2star.bids.metadata import SidecarTree
from r2star.bids.reference import with_others
from r2star.bids.selection import Filters, check_filters, select_participants, select_sessions, sessions_of
from r2star.bids.units import Unit
from r2star.errors import DatasetError, InputError
from r2star.settings import AnatomicalReference

#: Entities that a MEGRE image may have; any other would mix images of different kinds in one fit.
_MEGRE_KEYS = frozenset({"sub", "ses", *UNIT_FIELDS, "echo", "part"})
_NO_MEGRE = "E218"


def find_units(
    bids_dir: Path,
    participant_labels: Sequence[str] = (),
    session_labels: Sequence[str] = (),
    filters: Filters | None = None,
    anatomical_reference: AnatomicalReference = "first-lex",
    *,
    lesions: bool = False,
) -> tuple[Unit, ...]:
    """Find every unit of a dataset, or those of the participants and sessions named, in natural order.

    Parameters
    ----------
    bids_dir
        Root of the dataset.
    participant_labels, session_labels
        With or without ``sub-`` and ``ses-``; empty means all.
    filters
        What `r2star.bids.selection.read_filters` gives: entities that ``megre`` and ``t1w`` images must have.

    anatomical_reference
        ``first-lex``: all sessions of a participant share the first T1w, or without any the first MEGRE of their
        acquisition, so that they differ by no registration of it; ``sessionwise``: each has its own T1w, where there
        is one, or is registered by itself.
    lesions
        Whether to say whose lesions may pull a T1w (`Unit.lesioned`).

    Returns
    -------
    Units that can run, and units that can't with their ``problem``; `Unit` says how the kinds are told apart.

    Raises
    ------
    UsageError
        For a participant or session that isn't there, with the nearest names that are.
    DatasetError
        Where there is no participant, or no MEGRE image, in the whole dataset.
    """
    root = Path(bids_dir).absolute()  # steps run in folders of their own
    checked = check_filters(filters or {})
    participants = select_participants(root, participant_labels)
    wanted_sessions = select_sessions(root, participants, session_labels)
    sidecars = SidecarTree(root, "MEGRE")
    units: list[Unit] = []
    for participant in participants:
        sidecars = sidecars.only_root()
        found = _participant_units(
            participant, wanted_sessions, checked, sidecars, bool(participant_labels), anatomical_reference,
            lesions=lesions,
        )  # fmt: skip
        units.extend(found)
    if not participant_labels and all(_is_empty(unit) for unit in units):
        raise DatasetError(
            "E503",
            f"{len(participants)} participants and no MEGRE image to use",
            "multi-echo images are needed",
            "name them sub-X[_ses-Y]_echo-N_MEGRE.nii.gz in anat folders, or mend the filter file",
            path=str(root),
        )
    return tuple(units)


def _is_empty(unit: Unit) -> bool:
    return unit.problem is not None and unit.problem.code == _NO_MEGRE


def _participant_units(
    participant: str, wanted_sessions: Sequence[str], filters: Filters, sidecars: SidecarTree, named: bool,
    reference: AnatomicalReference, *, lesions: bool,
) -> list[Unit]:  # fmt: skip
    """Units of one participant. A session without MEGRE is an error only if named, or if all are so."""
    try:
        folders = [
            read_folder(sidecars, participant, session, filters)
            for session in sessions_of(sidecars.root, participant)
        ]
    except OSError as error:
        found = f"can't be read ({error.strerror})"
        problem = InputError(
            "E220", found, "a readable folder is needed", path=f"sub-{printable(participant)}"
        )
        return [_failed(Unit(printable(participant), named=named), problem)]
    wanted = [folder for folder in folders if not wanted_sessions or folder.session in wanted_sessions]
    if len(wanted) > 1 and wanted[0].session is None and not (wanted[0].megre or wanted[0].problem):
        del wanted[0]  # a T1w beside the sessions is no session
    if named:
        there = {folder.session for folder in wanted}
        wanted += [Folder(participant, session) for session in wanted_sessions if session not in there]
        wanted.sort(key=lambda folder: natural_key(folder.session))
    by_session = {folder.session: _folder_units(folder, folders, sidecars, reference) for folder in wanted}

    def others() -> dict[str | None, list[Unit]]:
        rest = [folder for folder in folders if folder.megre and folder.session not in by_session]
        return {folder.session: _folder_units(folder, folders, sidecars, reference) for folder in rest}

    by_session = with_others(by_session, others, shared=reference == "first-lex", lesions=lesions)
    units = [unit for own in by_session.values() for unit in own]
    all_empty = all(_is_empty(unit) for unit in units)
    return [
        replace(unit, named=named and (bool(wanted_sessions) or all_empty or not _is_empty(unit)))
        for unit in units
    ]


def _folder_units(
    folder: Folder, folders: Sequence[Folder], sidecars: SidecarTree, reference: AnatomicalReference
) -> list[Unit]:
    groups: dict[tuple[str | None, ...], list[FoundImage]] = defaultdict(list)
    for image in folder.megre:
        groups[tuple(image.name.entities.get(key) for key in UNIT_FIELDS)].append(image)
    if not groups:
        where = folder.unit.label.replace("_", "/")
        problem = folder.problem or InputError(
            _NO_MEGRE,
            "no MEGRE image",
            "two echoes or more are needed",
            "add them, or check the filter file",
            path=where,
        )
        return [_failed(folder.unit, problem, no_data=folder.problem is None)]
    keys = sorted(groups, key=lambda labels: tuple(natural_key(label) for label in labels))
    units = []
    for key in keys:
        doubled = _same_run(key, groups)
        own = folder if doubled is None else replace(folder, problem=folder.problem or doubled)
        labels = dict(zip(UNIT_FIELDS.values(), key, strict=True))
        units.append(_unit(own, labels, groups[key], folders, sidecars, reference))
    return units


def _same_run(
    key: tuple[str | None, ...], groups: Mapping[tuple[str | None, ...], Sequence[FoundImage]]
) -> InputError | None:
    """Runs are numbers: run-1 and run-01 are one run, which would count twice or lose echoes to its other name."""

    def numbered(labels: tuple[str | None, ...]) -> list[str | None]:
        run = dict(zip(UNIT_FIELDS, labels)).get("run") or ""
        same = f"{int(run)}" if run.isascii() and run.isdecimal() else run
        return [same if name == "run" else label for name, label in zip(UNIT_FIELDS, labels)]

    alike = [images for other, images in groups.items() if numbered(other) == numbered(key)]
    if len(alike) < 2:
        return None
    names = " and ".join(sorted(images[0].path.name for images in alike))
    needed, fix = "one spelling of a run is needed", "rename the files, or delete the copies"
    return InputError("E205", f"{names} are of one run", needed, fix, path=groups[key][0].shown)


def _unit(
    folder: Folder,
    labels: dict[str, str | None],
    images: Sequence[FoundImage],
    folders: Sequence[Folder],
    sidecars: SidecarTree,
    reference: AnatomicalReference,
) -> Unit:
    unit = replace(folder.unit, **labels)  # type: ignore[arg-type]
    try:
        if folder.problem is not None:
            raise folder.problem
        for image in images:
            _refuse_other_entities(image)
        echoes, notices = read_echoes(images, sidecars)
        field, warned = field_strength_tesla(echoes["mag"] or echoes["real"], sidecars.root)
        t1w, t1w_notices = choose_t1w(folder, folders, reference)
    except NoDataError as problem:
        return _failed(unit, problem, no_data=True)
    except InputError as problem:
        return _failed(unit, problem)
    return replace(
        unit,
        magnitude=tuple(echoes["mag"]),
        phase=tuple(echoes["phase"]),
        real=tuple(echoes["real"]),
        imaginary=tuple(echoes["imag"]),
        t1w=t1w,
        field_strength_tesla=field,
        notices=(*unit.notices, *notices, *warned, *t1w_notices),
    )


def _failed(unit: Unit, problem: InputError, *, no_data: bool = False) -> Unit:
    """The unit with its problem, in an error of its own that names it."""
    named = type(problem)(**{**problem.as_dict(), "unit": ""})
    named.unit = unit.label
    return replace(unit, problem=named, no_data=no_data)


def _refuse_other_entities(image: FoundImage) -> None:
    others = sorted(image.name.entities.keys() - _MEGRE_KEYS)
    if others:
        key = others[0]
        raise InputError(
            "E219",
            f"entity {key}-{image.name.entities[key]} is not one of a MEGRE image",
            f"only {', '.join(sorted(_MEGRE_KEYS))} are",
            "leave the file out by --bids-filter-file, or use acq-",
            path=image.shown,
        )
