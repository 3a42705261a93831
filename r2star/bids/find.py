"""Find the units of a BIDS dataset by its own walk over folders. May import errors and its siblings.

Time goes with the participants that are asked for, not with the size of the dataset: the root is listed once,
and only the folders of those participants are entered.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from r2star.bids.echo_checks import FoundImage, NoDataError, one_of_equal
from r2star.bids.echoes import field_strength_tesla, read_echoes
from r2star.bids.entities import IMAGE_EXTENSIONS, BidsName, is_label, natural_key, parse_name, printable
from r2star.bids.metadata import SidecarTree, require_regular_file
from r2star.bids.selection import (
    Filters,
    check_filters,
    matches,
    select_participants,
    select_sessions,
    sessions_of,
)
from r2star.bids.units import Unit
from r2star.errors import DatasetError, InputError, Notice
from r2star.settings import AnatomicalReference

#: Entities that tell units apart, beside participant and session, with their fields of `Unit`.
_UNIT_FIELDS = {"acq": "acquisition", "ce": "ceagent", "rec": "reconstruction", "run": "run"}
#: Entities that a MEGRE image may have; any other would mix images of different kinds in one fit.
_MEGRE_KEYS = frozenset({"sub", "ses", *_UNIT_FIELDS, "echo", "part"})
_NO_MEGRE = "E218"


@dataclass(frozen=True)
class _Folder:
    """What the ``anat`` folder of a participant (and session) holds, as far as it matters here."""

    participant: str
    session: str | None
    megre: tuple[FoundImage, ...] = ()
    t1w: tuple[FoundImage, ...] = ()
    notices: tuple[Notice, ...] = ()
    problem: InputError | None = None

    @property
    def unit(self) -> Unit:
        session = None if self.session is None else printable(self.session)
        return Unit(printable(self.participant), session, notices=self.notices)


def find_units(
    bids_dir: Path,
    participant_labels: Sequence[str] = (),
    session_labels: Sequence[str] = (),
    filters: Filters | None = None,
    anatomical_reference: AnatomicalReference = "first-lex",
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
        ``first-lex``: all sessions of a participant share the first T1w, so that they differ by no registration of
        it; ``sessionwise``: each has its own T1w, where there is one.

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
            participant, wanted_sessions, checked, sidecars, bool(participant_labels), anatomical_reference
        )
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
    reference: AnatomicalReference,
) -> list[Unit]:  # fmt: skip
    """Units of one participant. A session without MEGRE is an error only if named, or if all are so."""
    try:
        folders = [
            _read_folder(sidecars, participant, session, filters)
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
        wanted += [_Folder(participant, session) for session in wanted_sessions if session not in there]
        wanted.sort(key=lambda folder: natural_key(folder.session))
    units = [unit for folder in wanted for unit in _folder_units(folder, folders, sidecars, reference)]
    all_empty = all(_is_empty(unit) for unit in units)
    return [
        replace(unit, named=named and (bool(wanted_sessions) or all_empty or not _is_empty(unit)))
        for unit in units
    ]


def _read_folder(sidecars: SidecarTree, participant: str, session: str | None, filters: Filters) -> _Folder:
    """List one ``anat`` folder and sort out what is in it."""
    top = sidecars.root / f"sub-{participant}"
    levels = (sidecars.root, top, *((top / f"ses-{session}",) if session is not None else ()))
    folder = levels[-1] / "anat"
    own = {"sub": participant, "ses": session}
    images: dict[str, list[FoundImage]] = {"MEGRE": [], "T1w": []}
    echoes: list[BidsName] = []
    notices: list[Notice] = []
    problem: InputError | None = None
    for label in (participant, session or "0"):
        if not is_label(label):
            problem = InputError(
                "E217",
                f"the folder's label {label!r} is not BIDS",
                "letters and digits are needed",
                "rename it",
                path=sidecars.shown(levels[-1]),
            )
    for file_name in _file_names(folder):
        path, name = folder / file_name, parse_name(file_name)
        shown = sidecars.shown(path)
        if name is None or name.extension not in (*IMAGE_EXTENSIONS, ".json") or name.suffix not in images:
            if "megre" in (file_name if name is None else name.suffix).lower():
                found = "not the name of a MEGRE image: ignored"
                notices.append(Notice("W210", found, "rename it", shown))
            continue
        if name.suffix == "MEGRE":
            echoes.append(name)
        if any(name.entities.get(key) != label for key, label in own.items()):
            problem = problem or _misplaced(shown, levels[-1])
        elif name.extension != ".json" and matches(name, filters.get(name.suffix.lower(), {})):
            images[name.suffix].append(FoundImage(path, name, (*levels, folder), shown))
    notices += _sidecars_alone(echoes, folder, sidecars)
    megre, t1w = tuple(images["MEGRE"]), tuple(images["T1w"])
    return _Folder(participant, session, megre, t1w, tuple(notices), problem)


def _sidecars_alone(names: Sequence[BidsName], folder: Path, sidecars: SidecarTree) -> list[Notice]:
    """A warning for each sidecar of an echo that has no image: the echo may have been lost."""
    images = [name.entities.items() for name in names if name.extension != ".json"]
    return [
        Notice(
            "W214",
            f"echo {name.entities['echo']} has a sidecar here but no image",
            "restore the image, or delete the sidecar",
            sidecars.shown(folder),
        )
        for name in names
        if name.extension == ".json"
        and "echo" in name.entities
        and not any(name.entities.items() <= image for image in images)
    ]


def _misplaced(shown: str, folder: Path) -> InputError:
    found = f"the file's entities are not those of its folder {folder.name}"
    return InputError(
        "E211", found, fix="move the file to its participant and session, or rename it", path=shown
    )


def _file_names(folder: Path) -> list[str]:
    """Names in a folder in natural order, hidden files left out; none if there is no folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted((entry.name for entry in entries if not entry.name.startswith(".")), key=natural_key)


def _folder_units(
    folder: _Folder, folders: Sequence[_Folder], sidecars: SidecarTree, reference: AnatomicalReference
) -> list[Unit]:
    groups: dict[tuple[str | None, ...], list[FoundImage]] = defaultdict(list)
    for image in folder.megre:
        groups[tuple(image.name.entities.get(key) for key in _UNIT_FIELDS)].append(image)
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
    return [
        _unit(
            folder,
            dict(zip(_UNIT_FIELDS.values(), key, strict=True)),
            groups[key],
            folders,
            sidecars,
            reference,
        )
        for key in keys
    ]


def _unit(
    folder: _Folder,
    labels: dict[str, str | None],
    images: Sequence[FoundImage],
    folders: Sequence[_Folder],
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
        t1w, t1w_notices = _choose_t1w(folder, folders, reference)
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


def _choose_t1w(
    folder: _Folder, folders: Sequence[_Folder], reference: AnatomicalReference
) -> tuple[Path | None, list[Notice]]:
    """The participant's first T1w, or that of the unit's session if it goes by session; by acq, ce, rec and run."""
    by_session = (folder, *(other for other in folders if other.session != folder.session))
    for source in by_session if reference == "sessionwise" else folders:
        candidates = [image for image in source.t1w if image.name.entities.get("part", "mag") == "mag"]
        if not candidates or (source is not folder and source.problem is not None):
            continue
        notices: list[Notice] = []
        candidates.sort(
            key=lambda image: tuple(natural_key(image.name.entities.get(key)) for key in _UNIT_FIELDS)
        )
        stem = _stem(candidates[0])
        chosen = one_of_equal([image for image in candidates if _stem(image) == stem], notices)
        require_regular_file(chosen.path, chosen.shown)
        if any(_stem(image) != stem for image in candidates):
            fix = "choose another by t1w in --bids-filter-file"
            notices.append(Notice("W205", "there are several T1w; the first is used", fix, chosen.shown))
        if source is not folder and not folder.t1w:
            notices.append(
                Notice(
                    "W206",
                    "no T1w in this session; another one of the participant is used",
                    path=chosen.shown,
                )
            )
        return chosen.path, notices
    return None, [Notice("W207", "no T1w: the MEGRE itself is registered to the template", "add a T1w")]


def _stem(image: FoundImage) -> str:
    return image.path.name.removesuffix(image.name.extension)
