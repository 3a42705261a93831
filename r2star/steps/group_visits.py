"""Step: units as visits, participant × session: runs of a session are averaged, unlike measurements never are.

May import files and errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from r2star.bids.entities import natural_key
from r2star.errors import UsageError
from r2star.group.model import Outcome
from r2star.steps.group_gather import Gathered
from r2star.steps.group_people import People, parse_number

YEARS = "years_from_baseline"
#: Units that differ in one of these were not measured alike: acquisition, contrast agent, reconstruction.
_NEVER_POOLED = ("acq", "ce", "rec")


@dataclass(frozen=True)
class Visits:
    """Participant × session: labels, the visit of each unit (−1: not used), and the first visit of each participant."""

    participant: Any
    session: Any
    of_unit: Any
    baseline: Any


def find_visits(gathered: Gathered, people: People, outcome: Outcome) -> Visits:
    """Group units into visits; R2S-E715 where acquisitions, contrast agents or reconstructions would be mixed.

    The first visit of a participant is that of the least years from baseline, of equal ones (or where none is told)
    the first session in natural order.
    """
    protocols = [tuple(unit.entities.get(key, "") for key in _NEVER_POOLED) for unit in gathered.units]
    wanted = _one_protocol(protocols, outcome.acquisition)
    keys = [
        (unit.entities["sub"], unit.entities.get("ses", "")) if protocol == wanted else None
        for unit, protocol in zip(gathered.units, protocols)
    ]
    visits = list(dict.fromkeys(key for key in keys if key is not None))
    index = {key: k for k, key in enumerate(visits)}
    years = {key: _years(people, key) for key in visits}
    first: dict[str, tuple[str, str]] = {}
    for key in sorted(visits, key=lambda key: (years[key], natural_key(key[1]))):
        first.setdefault(key[0], key)
    return Visits(
        np.array([sub for sub, _ in visits], dtype=object), np.array([ses for _, ses in visits], dtype=object),
        np.array([-1 if key is None else index[key] for key in keys]),
        np.array([first[sub] == (sub, ses) for sub, ses in visits]),
    )  # fmt: skip


def _one_protocol(protocols: Sequence[tuple[str, ...]], acquisition: str) -> tuple[str, ...]:
    """The acquisition, contrast agent and reconstruction that take part: the only ones, or those that were named."""
    found = sorted({one for one in protocols if not acquisition or one[0] == acquisition})
    if len(found) == 1:
        return found[0]
    named = [
        " ".join(f"{key}-{label or '(none)'}" for key, label in zip(_NEVER_POOLED, one)) for one in found
    ]
    fix = 'name it in the model file: outcome.acquisition = "..."'
    if found and len({one[0] for one in found}) == 1:
        fix = "give the units of one kind an output folder of their own (--bids-filter-file selects them)"
    raise UsageError("E715", f"acquisitions: {', '.join(named) or 'none'}", "one", fix)


def _years(people: People, key: tuple[str, str]) -> float:
    cell = people.cell(*key, YEARS)
    value = parse_number(cell, YEARS)[0] if cell else np.nan
    return float(np.nan_to_num(value))


def lesion_volumes_ml(gathered: Gathered, visits: Visits) -> Any:
    """Volume of the lesions of each visit in mL, NaN where it is not known: of the whole mask, beyond the image too."""
    import pyarrow.compute as pc

    wanted = pc.and_(
        pc.equal(gathered.rows["region"], "lesions"), pc.equal(gathered.rows["hemisphere"], "LR")
    )
    volume, coverage = (gathered.numbers.get(name) for name in ("volume_mm3", "coverage"))
    out = np.full(visits.participant.size, np.nan)
    if volume is None or coverage is None:
        return out
    visit = visits.of_unit[gathered.unit_of_row]
    # without lesions there is nothing to cover; of lesions that all lie beyond the image nothing is known
    whole = volume / np.where(np.isfinite(coverage), np.where(coverage > 0, coverage, np.nan), 1) / 1000
    good = wanted.combine_chunks().to_numpy(zero_copy_only=False) & np.isfinite(whole) & (visit >= 0)
    total = np.bincount(visit[good], whole[good], out.size)
    count = np.bincount(visit[good], minlength=out.size)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
