"""Which participants, sessions and files a run is asked for. May import errors, bids.entities.

The filter file has the form of fMRIPrep's ``--bids-filter-file``: per query (``megre``, ``t1w``) the entities
that a file must have, ``null`` for "has none", ``"*"`` for "has one", a list for "any of these".
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r2star.bids.entities import ENTITY_KEYS, BidsName, is_label, natural_key, near_matches, strip_key
from r2star.bids.metadata import read_json
from r2star.errors import DatasetError, InputError, UsageError

Filters = Mapping[str, Mapping[str, Any]]

QUERIES = ("megre", "t1w")
#: Queries of other BIDS Apps: a filter file may be shared with them.
_FOREIGN_QUERIES = frozenset(
    {"asl", "bold", "dwi", "fmap", "flair", "meg", "eeg", "pet", "roi", "sbref", "t2w", "mp2rage", "t1map"}
)
#: What every MEGRE and T1w image has alike; a filter may say it, and it changes nothing.
_FIXED = {"datatype": "anat", "extension": None, "suffix": None}
_ABSENT, _PRESENT = (
    frozenset({"Query.NONE", "<Query.NONE: 1>"}),
    frozenset({"*", "Query.ANY", "<Query.ANY: 2>"}),
)


def select_participants(root: Path, labels: Sequence[str]) -> tuple[str, ...]:
    """Labels of all participants, or of those named, in natural order; the root alone is listed."""
    try:
        known = _labelled_folders(root, "sub")
    except OSError as error:
        kind = UsageError if isinstance(error, FileNotFoundError | NotADirectoryError) else DatasetError
        found = (error.strerror or "can't be read").lower()
        raise kind("E501", found, "the folder of a BIDS dataset is needed", path=str(root)) from error
    if not known:
        fix = "give the folder that holds the sub-* folders"
        raise DatasetError("E502", "no sub-* folder", "a BIDS dataset is needed", fix, path=str(root))
    wanted = {strip_key(label, "sub") for label in labels}
    for label in sorted(wanted - known, key=natural_key):
        raise _no_such("E504", "participant", "sub", label, known)
    return tuple(sorted(wanted or known, key=natural_key))


def sessions_of(root: Path, participant: str) -> tuple[str | None, ...]:
    """Session labels of a participant in natural order; None stands for a folder without sessions."""
    folder = root / f"sub-{participant}"
    labels = sorted(_labelled_folders(folder, "ses"), key=natural_key)
    return tuple(labels) if labels and not (folder / "anat").is_dir() else (None, *labels)


def select_sessions(root: Path, participants: Sequence[str], labels: Sequence[str]) -> tuple[str, ...]:
    """Session labels named, without their key; each must exist for at least one of the participants."""
    wanted = tuple(dict.fromkeys(strip_key(label, "ses") for label in labels))
    known: set[str] = set()
    for participant in participants:
        if known.issuperset(wanted):
            break
        with contextlib.suppress(OSError):  # told of the unit, when its folder is read
            known |= _labelled_folders(root / f"sub-{participant}", "ses")
    for label in wanted:
        if label not in known:
            raise _no_such("E505", "session", "ses", label, known)
    return wanted


def _labelled_folders(folder: Path, key: str) -> set[str]:
    """Labels of the ``key-*`` folders in a folder; links to folders count."""
    prefix = f"{key}-"
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(prefix) and entry.is_dir()]
    return {name.removeprefix(prefix) for name in names}


def _no_such(code: str, what: str, key: str, label: str, known: set[str]) -> UsageError:
    if not is_label(label):
        return UsageError(code, f"{label!r} is no {what} label", "letters and digits are needed")
    near = [f"{key}-{name}" for name in near_matches(label, known)]
    shown = near or [f"{key}-{name}" for name in sorted(known, key=natural_key)[:5]]
    few = "the nearest are" if near else "there are"
    fix = f"{few} {', '.join(shown)}" if shown else f"the dataset has no {key}-* folders"
    return UsageError(code, f"no {what} {key}-{label}", fix=fix)


def read_filters(path: Path) -> Filters:
    """Read a filter file; raises `UsageError` for bad JSON, an unknown query and an unknown entity."""
    try:
        content, _ = read_json(path, str(path))
    except InputError as error:
        raise UsageError("E506", error.found, error.needed, error.fix, path=path) from error
    return check_filters(content, str(path))


def check_filters(content: Mapping[str, Any], shown: str = "") -> Filters:
    """Keep the queries of this program, with every entity known and every value of a kind that can match."""
    filters: dict[str, dict[str, Any]] = {}
    for query, entities in content.items():
        if query in _FOREIGN_QUERIES:
            continue
        if query not in QUERIES:
            raise UsageError(
                "E506", f"unknown query {query!r}", f"one of {', '.join(QUERIES)} is needed", path=shown
            )
        if not isinstance(entities, Mapping):
            raise UsageError(
                "E506", f"{query} holds no entities", "an object of entities is needed", path=shown
            )
        for entity, value in entities.items():
            _check_filter(entity, value, shown)
        filters[query] = dict(entities)
    return filters


def _check_filter(entity: str, value: object, shown: str) -> None:
    known = [*ENTITY_KEYS, *_FIXED]
    if entity not in known:
        near = difflib.get_close_matches(entity, known, n=1)
        raise UsageError(
            "E506",
            f"unknown entity {entity!r}",
            f"such as {near[0] if near else 'session'} is needed",
            path=shown,
        )
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, bool) or not isinstance(item, str | int | None):
            raise UsageError(
                "E506", f"{entity} is {item!r}", "text, a number, null or a list is needed", path=shown
            )


def matches(name: BidsName, filters: Mapping[str, Any]) -> bool:
    """Whether a file's entities are those that the filter asks for.

    >>> from r2star.bids.entities import parse_name
    >>> name = parse_name("sub-01_run-01_MEGRE.nii")
    >>> matches(name, {"run": 1, "acquisition": None}), matches(name, {"session": "*"})
    (True, False)
    """
    found = {
        entity: name.entities.get(ENTITY_KEYS[entity]) if entity in ENTITY_KEYS else _fixed(name, entity)
        for entity in filters
    }
    return all(
        any(
            _value_matches(entity, found[entity], item)
            for item in (value if isinstance(value, list) else [value])
        )
        for entity, value in filters.items()
    )


def _fixed(name: BidsName, entity: str) -> str:
    return {"suffix": name.suffix, "extension": name.extension}.get(entity, "anat")


def _value_matches(entity: str, found: str | None, wanted: str | int | None) -> bool:
    if wanted is None or wanted in _ABSENT:
        return found is None
    if found is None or wanted in _PRESENT:
        return found is not None
    bare = strip_key(str(wanted), ENTITY_KEYS.get(entity, entity)).lstrip(".")
    if entity in ("run", "echo") and bare.isdecimal() and found.isdecimal():
        return int(bare) == int(found)
    return found.lstrip(".") == bare
