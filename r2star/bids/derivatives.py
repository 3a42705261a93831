"""Results of other programs: the one file that answers a query for a unit, or why there is none.

May import errors and its siblings. A file is asked for as BIDS names it, see `r2star.bids.queries`; whose world it lies
in, `r2star.bids.worlds` tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from r2star.bids.entities import BidsName, parse_name
from r2star.bids.metadata import read_json
from r2star.bids.queries import OPTIONS, Query
from r2star.bids.units import Derived, Unit, World
from r2star.bids.worlds import OWN_SPACES, Candidate, files_of, lookup_of, sidecar_of, world_of
from r2star.errors import InputError, Notice

_UNIT_KEYS = ("acq", "ce", "rec", "run")


def with_derivatives(unit: Unit, queries: Sequence[Query], datasets: Sequence[Path]) -> Unit:
    """The unit with what it was asked to use of other programs, or with the problem of finding it.

    A brain mask or segmentation that is not there is a problem; a participant without a lesion mask or a map is a
    warning, as controls and lost scans are normal.
    """
    if unit.problem is not None or not queries:
        return unit
    try:
        found = [(query, _find(unit, query, datasets)) for query in queries]
        reference, lesioned = (
            _with_lesions(one, queries, datasets) for one in (unit.reference, unit.lesioned)
        )
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
    if lesioned is not None and not any(one.world == "MEGRE" for one in lesioned.derived):
        lesioned = None
    return replace(
        unit,
        derived=derived,
        notices=(*unit.notices, *missing, *told),
        reference=reference,
        lesioned=lesioned,
    )


def _with_lesions(other: Unit | None, queries: Sequence[Query], datasets: Sequence[Path]) -> Unit | None:
    """A unit that others depend on, with the lesions that must not pull them; the rest is its own affair."""
    if other is None:
        return None
    found = [_find(other, query, datasets) for query in queries if query.role == "lesions"]
    return replace(other, derived=tuple(one for one in found if one is not None))


def _missing(query: Query) -> Notice:
    if query.role == "lesions":
        return Notice(
            "W473", f"no lesion mask ({query.text}): nothing is known of lesions, as if there were none"
        )
    return Notice("W474", f"no {query.text} in the derivatives: its columns are n/a")


def _find(unit: Unit, query: Query, datasets: Sequence[Path]) -> Derived | None:
    """The one file that answers a query for a unit."""
    roots = [query.dataset] if query.dataset else datasets
    everything = [one for root in roots for one in files_of(root, unit.participant)]
    for pattern in query.names:
        # what can be of no use here is not opened: a broken file of another session is not this unit's problem
        matching = [one for one in everything if _matches(one.name, pattern) and _may_serve(one.name, unit)]
        placed = [(one, *world_of(one, query.role, unit)) for one in matching]
        eligible = [(one, world, told) for one, world, told in placed if _of_session(one.name, unit, world)]
        if eligible:
            return _derived(*_only_one(eligible, unit, query), query)
    if query.role in ("brain_mask", "segmentation"):
        raise InputError(
            "E470",
            f"no {query.text} of this participant and session in {_listed(roots)}",
            f"{OPTIONS[query.role]} asks for one",
            "make it, or leave the participant out",
        )
    return None


def _matches(name: BidsName, pattern: BidsName) -> bool:
    """Whether a file has the entities asked for; template spaces only where they are asked for."""
    space = name.entities.get("space")
    if space is not None and space not in OWN_SPACES and "space" not in pattern.entities:
        return False
    return name.suffix == pattern.suffix and all(
        key in name.entities and fnmatchcase(name.entities[key], value)
        for key, value in pattern.entities.items()
    )


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
    eligible: Sequence[tuple[Candidate, World, tuple[Notice, ...]]], unit: Unit, query: Query
) -> tuple[Candidate, World, tuple[Notice, ...]]:
    """The file that is nearest to the unit by its entities; several that are equally near are refused."""

    def distance(item: tuple[Candidate, World, tuple[Notice, ...]]) -> tuple[int, int]:
        labels = item[0].name.entities
        own = [(labels.get(key), unit.entities.get(key)) for key in _UNIT_KEYS]
        unlike = sum(found is not None and found != wanted for found, wanted in own)
        return unlike, -sum(found is not None and found == wanted for found, wanted in own)

    nearest = min(distance(item) for item in eligible)
    best = [item for item in eligible if distance(item) == nearest]
    if len(best) > 1:
        raise InputError(
            "E472",
            f"{len(best)} files answer {OPTIONS[query.role]} {query.text}: "
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


def _derived(one: Candidate, world: World, notices: tuple[Notice, ...], query: Query) -> Derived:
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
