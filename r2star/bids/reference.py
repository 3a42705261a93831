"""Which of a participant's units others depend on: for their place, or for lesions. May import errors and its siblings.

Which ones goes by all sessions that the dataset has, whichever a run was asked for: so every job names the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from r2star.bids.entities import natural_key, parse_name
from r2star.bids.units import Unit
from r2star.errors import Notice


def with_others(
    wanted: Mapping[str | None, list[Unit]], others: Callable[[], Mapping[str | None, list[Unit]]], *, shared: bool,
    lesions: bool,
) -> dict[str | None, list[Unit]]:  # fmt: skip
    """Units by session with those that they depend on; ``others``, of the sessions not wanted, are read if need be."""
    sound = [unit for own in wanted.values() for unit in own if unit.problem is None]
    if not any(lesions if unit.t1w else shared for unit in sound):
        return dict(wanted)
    known = {**wanted, **others()}
    in_order = [unit for session in sorted(known, key=natural_key) for unit in known[session]]
    found = {}
    for session, own in wanted.items():
        placed = [with_reference(unit, in_order) if shared else unit for unit in own]
        found[session] = [with_lesioned(unit, in_order) if lesions else unit for unit in placed]
    return found


def with_reference(unit: Unit, in_order: Iterable[Unit]) -> Unit:
    """The unit with the participant's first one of its acquisition as reference, where sessions have no T1w.

    Acquisitions keep apart, as their contrast and field of view differ. Unchanged where there is a T1w, or no other
    session to share with.
    """
    if unit.problem is not None or unit.t1w is not None:
        return unit
    sharing = [one for one in in_order if one.problem is None and _kind(one) == _kind(unit)]
    if len({one.session for one in sharing}) < 2:
        return unit
    reference = _for_placing(sharing[0])
    if reference.label == unit.label:
        return replace(unit, reference=reference)
    told = Notice("W207", f"no T1w: the MEGRE of {reference.label} stands in its place", "add a T1w")
    return replace(
        unit, reference=reference, notices=tuple(told if one.code == "W207" else one for one in unit.notices)
    )


def with_lesioned(unit: Unit, in_order: Iterable[Unit]) -> Unit:
    """The unit with the one whose lesions may pull the T1w that it uses: the first of the T1w's session, else of all.

    Unchanged where there is no T1w.
    """
    if unit.problem is not None or unit.t1w is None:
        return unit
    name = parse_name(unit.t1w.name)
    session = name.entities.get("ses") if name is not None else None
    sharing = [one for one in in_order if one.problem is None and one.t1w == unit.t1w]
    own = [one for one in sharing if session is not None and one.session == session]
    return replace(unit, lesioned=_for_placing((own or sharing)[0]))


def _for_placing(unit: Unit) -> Unit:
    """What placing a unit takes of it."""
    return replace(unit, phase=(), notices=(), named=False)


def _kind(unit: Unit) -> tuple[str | None, ...]:
    return unit.acquisition, unit.ceagent, unit.reconstruction
