"""What units of a participant share: a T1w, or for want of any the MEGRE of a session, and its way to a template."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from r2star.bids.units import Unit
from r2star.workflows.alignment import PLACED

#: What the units of a participant share, and take in their ``inputnode``: a T1w, or the MEGRE of a session.
ANATOMY = {
    kind: [*PLACED[kind], f"{kind}_measures", f"{kind}_hashes", "anatomy_record", "anatomy_notices"]
    for kind in ("t1w", "reference")
}


def anatomy_node(number: int) -> str:
    """The node that takes the shared registration to a template, by the template's place."""
    return f"inputnode_{number + 1}" if number else "inputnode"


class Shared(NamedTuple):
    """What units of a participant share: a ``t1w``, or the MEGRE of a session (``reference``)."""

    kind: Literal["t1w", "reference"]
    whose: Path | str


def shared_anatomy(unit: Unit) -> Shared | None:
    """What places the regions of a unit and of others, if anything does."""
    if unit.t1w is not None:
        return Shared("t1w", unit.t1w)
    return None if unit.reference is None else Shared("reference", unit.reference.label)
