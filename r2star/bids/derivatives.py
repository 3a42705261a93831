"""Results of other programs: finding them in BIDS derivative datasets, and telling whose world they lie in.

May import images (grids alone), errors and its siblings. A file is asked for as BIDS names it: entities and
suffix (``desc-aseg_dseg``, ``label-lesion*_mask``), or by the folder of its dataset. It lies in the world of the
T1w or of the MEGRE images, on whatever grid: by its ``space-``, else by its sidecar's ``Sources``, else by the grid
that it shares, else by its kind (a segmentation is made on the T1w, a mask or map on the MEGRE).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from r2star.bids.entities import (
    ENTITY_KEYS,
    IMAGE_EXTENSIONS,
    BidsName,
    is_label,
    natural_key,
    parse_name,
    printable,
)
from r2star.bids.metadata import read_json, require_regular_file
from r2star.bids.units import Derived, Role, Unit, World
from r2star.errors import InputError, Notice, UsageError
from r2star.images import read_grid

#: What a folder is searched for, by role; the first query with a match counts.
_DEFAULTS: Mapping[Role, tuple[str, ...]] = {
    "brain_mask": ("desc-brain_mask",),
    "segmentation": ("dseg",),
    "lesions": ("label-lesion*_mask", "desc-lesion*_mask", "label-lesion*_roi", "desc-lesion*_roi"),
    "map": (),
}
_SUFFIX: Mapping[Role, str] = {"brain_mask": "mask", "segmentation": "dseg", "lesions": "mask", "map": ""}
_OPTION: Mapping[Role, str] = {
    "brain_mask": "--brain-mask", "segmentation": "--segmentation", "lesions": "--lesions", "map": "--maps",
}  # fmt: skip
#: Spaces that are one of this participant's images.
_SPACES: Mapping[str, World] = {"T1w": "T1w", "MEGRE": "MEGRE"}
#: Where a file lies of which nothing tells it.
_USUAL: Mapping[Role, World] = {
    "segmentation": "T1w", "brain_mask": "MEGRE", "lesions": "MEGRE", "map": "MEGRE",
}  # fmt: skip
_UNIT_KEYS = ("acq", "ce", "rec", "run")


@dataclass(frozen=True)
class Query:
    """A derivative that the user asked for: any of some names, in one dataset or in all that were given."""

    role: Role
    text: str  # as it was asked for; a folder by its name alone, so that moved data stay the same data
    names: tuple[BidsName, ...]
    dataset: Path | None = None

    @property
    def suffix(self) -> str:
        """Of the names asked for: what results call a map."""
        return self.names[0].suffix


@dataclass(frozen=True)
class _Candidate:
    path: Path
    name: BidsName
    root: Path


def read_query(role: Role, text: str) -> Query:
    """What ``--segmentation``, ``--brain-mask``, ``--lesions`` or a suffix of ``--maps`` asks for.

    Raises
    ------
    UsageError
        E530 where it is neither a folder nor entities and a suffix.

    >>> read_query("segmentation", "desc-aseg").names[0].suffix
    'dseg'
    """
    if text and Path(text).is_dir() and role != "map":
        folder = Path(text).absolute()
        names = tuple(_pattern(role, default) for default in _DEFAULTS[role])
        return Query(role, folder.name, names, folder)
    return Query(role, text, (_pattern(role, text),))


def _pattern(role: Role, text: str) -> BidsName:
    *pairs, last = text.split("_")
    suffix = last
    if "-" in last:
        pairs, suffix = [*pairs, last], _SUFFIX[role]
    entities = dict(pair.split("-", 1) for pair in pairs if "-" in pair)
    unknown = sorted(
        entities.keys() - set(ENTITY_KEYS.values()) | {pair for pair in pairs if "-" not in pair}
    )
    labels = all(is_label(value.replace("*", "")) or value == "*" for value in entities.values())
    if unknown or not labels or not suffix.isalnum():
        raise UsageError(
            "E530",
            f"{_OPTION[role]} {text}",
            "a folder, or the entities and suffix of a BIDS name, is needed",
            f"such as {_OPTION[role]} {'Chimap' if role == 'map' else 'desc-x_' + _SUFFIX[role]}",
        )
    return BidsName(entities, suffix, "")


def check_datasets(folders: Sequence[Path]) -> tuple[Path, ...]:
    """The folders of ``--derivatives``, each once; refuses what is no dataset of participants.

    Raises
    ------
    UsageError
        E531 where there is no such folder, or no ``sub-*`` in it.
    """
    for folder in folders:
        if not folder.is_dir():
            raise UsageError("E531", "no such folder", "a BIDS derivative dataset is needed", path=folder)
        if not any(one.name.startswith("sub-") for one in folder.iterdir()):
            raise UsageError(
                "E531",
                "no sub-* folder",
                "a BIDS derivative dataset is needed",
                "give the folder that holds the sub-* folders",
                path=folder,
            )
    return tuple(dict.fromkeys(folder.absolute() for folder in folders))


def dataset_names(datasets: Iterable[Path]) -> dict[str, Path]:
    """Names of the datasets for DatasetLinks and BIDS URIs: the folder's, with a number where it is taken.

    >>> sorted(dataset_names([Path("/a/fmriprep"), Path("/b/fmriprep")]))
    ['fmriprep', 'fmriprep2']
    """
    names: dict[str, Path] = {}
    for root in datasets:
        stem = "".join(c for c in root.name if c.isalnum()) or "derivatives"
        number = next(n for n in range(1, len(names) + 3) if _numbered(stem, n) not in names | {"raw": root})
        names[_numbered(stem, number)] = root
    return names


def _numbered(stem: str, number: int) -> str:
    return stem if number == 1 else f"{stem}{number}"


def with_derivatives(unit: Unit, queries: Sequence[Query], datasets: Sequence[Path]) -> Unit:
    """The unit with what it was asked to use of other programs, or with the problem of finding it.

    A brain mask or segmentation that is not there is a problem; a participant without a lesion mask or a map is a
    warning, as controls and lost scans are normal.
    """
    if unit.problem is not None or not queries:
        return unit
    try:
        found = [(query, _find(unit, query, datasets)) for query in queries]
    except InputError as problem:
        problem.unit = unit.label
        return replace(unit, problem=problem)
    derived = tuple(one for _, one in found if one is not None)
    names = [one.name for one in derived if one.role == "segmentation"]
    if len(set(names)) < len(names):
        twice = InputError(
            "E472", f"two segmentations are named {max(names, key=names.count)}", "each needs a name of its own",
            "tell them apart by seg- or desc-", unit=unit.label,
        )  # fmt: skip
        return replace(unit, problem=twice)
    missing = [_missing(query) for query, one in found if one is None]
    told = [notice for one in derived for notice in one.notices]
    return replace(unit, derived=derived, notices=(*unit.notices, *missing, *told))


def _missing(query: Query) -> Notice:
    if query.role == "lesions":
        return Notice(
            "W473", f"no lesion mask ({query.text}): nothing is known of lesions, as if there were none"
        )
    return Notice("W474", f"no {query.text} in the derivatives: its columns are n/a")


def _find(unit: Unit, query: Query, datasets: Sequence[Path]) -> Derived | None:
    """The one file that answers a query for a unit."""
    roots = [query.dataset] if query.dataset else datasets
    everything = [one for root in roots for one in _files_of(root, unit.participant)]
    for pattern in query.names:
        # what can be of no use here is not opened: a broken file of another session is not this unit's problem
        matching = [one for one in everything if _matches(one.name, pattern) and _may_serve(one.name, unit)]
        placed = [(one, *_world_of(one, query.role, unit)) for one in matching]
        eligible = [(one, world, told) for one, world, told in placed if _of_session(one.name, unit, world)]
        if eligible:
            return _derived(*_only_one(eligible, unit, query), query)
    if query.role in ("brain_mask", "segmentation"):
        raise InputError(
            "E470",
            f"no {query.text} of this participant and session in {_listed(roots)}",
            f"{_OPTION[query.role]} asks for one",
            "make it, or leave the participant out",
        )
    return None


def _files_of(root: Path, participant: str) -> list[_Candidate]:
    """All images of a participant, up to two folders below its own, hidden files left out."""
    top = root / f"sub-{participant}"
    found = []
    for folder, folders, files in os.walk(top):
        depth = len(Path(folder).relative_to(top).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and depth < 2)
        for file in sorted(files, key=natural_key):
            name = parse_name(file)
            if name and name.extension in IMAGE_EXTENSIONS and name.entities.get("sub") == participant:
                found.append(_Candidate(Path(folder) / file, name, root))
    return found


def _matches(name: BidsName, pattern: BidsName) -> bool:
    """Whether a file has the entities asked for; template spaces only where they are asked for."""
    space = name.entities.get("space")
    if space is not None and space not in _SPACES and "space" not in pattern.entities:
        return False
    return name.suffix == pattern.suffix and all(
        key in name.entities and fnmatchcase(name.entities[key], value)
        for key, value in pattern.entities.items()
    )


def _world_of(one: _Candidate, role: Role, unit: Unit) -> tuple[World, tuple[Notice, ...]]:
    """In whose world a file lies, and a warning where nothing but its kind tells it."""
    shown = one.path.name
    require_regular_file(one.path, printable(one.path.relative_to(one.root).as_posix()))
    space = one.name.entities.get("space")
    if space is not None and space not in _SPACES:
        raise InputError(
            "E471", f"it lies in space-{space}", "a file in the space of the T1w or of the MEGRE is needed",
            "bring it to the participant's T1w", path=shown,
        )  # fmt: skip
    told = [_SPACES[space]] if space is not None else _sources(one.path)
    if "T1w" in told[:1] and unit.t1w is None:
        raise InputError(
            "E471", "it lies on a T1w, and this participant has none", "the T1w is needed to bring it over",
            "add the T1w, or bring the file to the MEGRE", path=shown,
        )  # fmt: skip
    if told:
        return told[0], ()
    grid = read_grid(one.path).canonical()
    megre = (unit.magnitude or unit.real)[0].path
    for world, path in (("MEGRE", megre), ("T1w", unit.t1w)):
        if path is not None and read_grid(path, assume_orientation=True).canonical().same_as(grid, 0.01):
            return ("T1w" if world == "T1w" else "MEGRE"), ()
    usual: World = "MEGRE" if unit.t1w is None else _USUAL[role]
    fix = "name the file space-T1w or space-MEGRE, or give its sidecar Sources"
    return usual, (Notice("W471", f"taken to lie in the world of the {usual}", fix, shown),)


def _sources(path: Path) -> list[World]:
    """The images of the participant that a file's sidecar names as its sources or reference."""
    sidecar = sidecar_of(path)
    if sidecar is None:
        return []
    content, _ = read_json(sidecar, sidecar.name)
    told = [content.get(key) for key in ("SpatialReference", "Sources", "RawSources")]
    texts = [text for value in told for text in (value if isinstance(value, list) else [value])]
    worlds: Mapping[str, World] = {"T1w": "T1w", "MEGRE": "MEGRE"}
    return [
        world
        for text in texts
        for key, world in worlds.items()
        if isinstance(text, str) and text.rpartition("_")[2].partition(".")[0] == key
    ]


def sidecar_of(path: Path) -> Path | None:
    """The JSON file of a derivative's own name, if there is one."""
    sidecar = path.with_name(path.name.partition(".")[0] + ".json")
    return sidecar if sidecar.is_file() else None


def lookup_of(path: Path, root: Path) -> Path | None:
    """The label table of a ``dseg``: beside it, or inherited from a folder above, with most of its entities."""
    own = parse_name(path.name)
    folder = path.parent
    while own is not None:
        names = [(parse_name(one.name), one) for one in sorted(folder.glob("*dseg.tsv"))]
        fitting = [
            (len(name.entities), one)
            for name, one in names
            if name is not None and name.entities.items() <= own.entities.items()
        ]
        if fitting:
            return max(fitting, key=lambda item: item[0])[1]
        if folder in (root, folder.parent):
            return None
        folder = folder.parent
    return None


def _may_serve(name: BidsName, unit: Unit) -> bool:
    """Whether a file is of the unit's session or of that of its T1w, whatever world it lies in."""
    return _of_session(name, unit, "MEGRE") or _of_session(name, unit, "T1w")


def _of_session(name: BidsName, unit: Unit, world: World) -> bool:
    """Of the unit's session, or of the session whose T1w it lies on; files without a session serve all."""
    session = name.entities.get("ses")
    if session is None:
        return True
    if world == "T1w" and unit.t1w is not None:
        anatomy = parse_name(unit.t1w.name)
        return anatomy is not None and anatomy.entities.get("ses", unit.session) == session
    return session == unit.session


def _only_one(
    eligible: Sequence[tuple[_Candidate, World, tuple[Notice, ...]]], unit: Unit, query: Query
) -> tuple[_Candidate, World, tuple[Notice, ...]]:
    """The file that is nearest to the unit by its entities; several that are equally near are refused."""

    def distance(item: tuple[_Candidate, World, tuple[Notice, ...]]) -> tuple[int, int]:
        labels = item[0].name.entities
        own = [(labels.get(key), unit.entities.get(key)) for key in _UNIT_KEYS]
        unlike = sum(found is not None and found != wanted for found, wanted in own)
        return unlike, -sum(found is not None and found == wanted for found, wanted in own)

    nearest = min(distance(item) for item in eligible)
    best = [item for item in eligible if distance(item) == nearest]
    if len(best) > 1:
        raise InputError(
            "E472",
            f"{len(best)} files answer {_OPTION[query.role]} {query.text}: "
            + ", ".join(item[0].path.name for item in best[:4]),
            "one is needed",
            "name more of its entities",
            path=best[0][0].path.name,
        )
    if best[0][1] == "MEGRE" and nearest[0]:
        raise InputError(
            "E470",
            f"no {query.text} of this acquisition and run, only {best[0][0].path.name}",
            "one of the unit itself is needed, or one without acq- and run-",
            path=best[0][0].path.name,
        )
    return best[0]


def _derived(one: _Candidate, world: World, notices: tuple[Notice, ...], query: Query) -> Derived:
    sidecar = sidecar_of(one.path)
    lookup = lookup_of(one.path, one.root) if query.role == "segmentation" else None
    units = read_json(sidecar, sidecar.name)[0].get("Units", "") if sidecar else ""
    return Derived(
        query.role, _name_of(one.name, query), one.path, world, units=units if isinstance(units, str) else "",
        others=tuple(path for path in (sidecar, lookup) if path is not None), lookup=lookup, notices=notices,
    )  # fmt: skip


def _name_of(name: BidsName, query: Query) -> str:
    """What results call a derivative: its segmentation or description, else its suffix."""
    if query.role != "segmentation":
        return name.suffix
    labels = [name.entities[key] for key in ("atlas", "seg", "desc") if key in name.entities]
    return "".join(c for c in "".join(labels) if c.isalnum()) or name.suffix


def _listed(roots: Sequence[Path]) -> str:
    return ", ".join(root.name for root in roots) or "no dataset: give --derivatives"
