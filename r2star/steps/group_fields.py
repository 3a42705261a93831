"""Step: field strengths of a cohort, which are never pooled: R2* grows with the field. May import group and errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from r2star.errors import InputError, Notice
from r2star.group.model import ModelSpec
from r2star.steps.group_gather import Gathered
from r2star.steps.group_visits import Visits

FIELD = "field_strength_tesla"


def field_strengths(gathered: Gathered, visits: Visits) -> Any:
    """Field strength of each visit, NaN where it is not known; R2S-E718 where the runs of a visit differ."""
    out = np.full(visits.participant.size, np.nan)
    if FIELD not in gathered.numbers:
        return out
    values = gathered.numbers[FIELD]
    visit = visits.of_unit[gathered.unit_of_row]
    good = np.isfinite(values) & (visit >= 0)
    out[visit[good]] = values[good]
    unlike = good.nonzero()[0][np.abs(out[visit[good]] - values[good]) > 0.05]
    if unlike.size:
        label = gathered.units[int(gathered.unit_of_row[unlike[0]])].label
        raise InputError("E718", "runs of one session have different field strengths", "one", unit=label)
    return out


def unknown_fields(visits: Visits, fields: Any) -> list[Notice]:
    """What becomes of visits whose field strength nobody told, where that of others is known."""
    unknown = ~np.isfinite(fields)
    known = sorted({round(float(value), 1) for value in fields[~unknown]})
    if not known or not unknown.any():
        return []
    people = list(dict.fromkeys(f"sub-{label}" for label in visits.participant[unknown]))
    named = f"{', '.join(people[:5])}{' …' if len(people) > 5 else ''}"
    fate = "they take no part in models" if len(known) > 1 else f"they count as {known[0]:g} T, as the others"
    found = (
        f"the field strength of {int(unknown.sum())} of {fields.size} sessions is not known ({named}); {fate}"
    )
    return [Notice("W718", found, "add MagneticFieldStrength to their sidecars and run the first level anew")]


def strata_of(
    models: Sequence[ModelSpec], visits: Visits, fields: Any, *, allow_mixed: bool
) -> list[tuple[str, Any]]:
    """(suffix of its names, rows) of each stratum: one a field, unless every model has the field as a covariate.

    Raises
    ------
    InputError
        R2S-E721 where there are several fields and that was not allowed.
    """
    known = sorted({round(float(value), 1) for value in fields[np.isfinite(fields)]})
    everyone = np.ones(fields.size, dtype=bool)
    if len(known) < 2:
        return [("", everyone)]
    if all(FIELD in model.formula.columns for model in models):
        return [("", everyone)]
    if not allow_mixed:
        odd = min(known, key=lambda field: int((np.round(fields, 1) == field).sum()))
        example = f"sub-{visits.participant[np.flatnonzero(np.round(fields, 1) == odd)[0]]}"
        raise InputError(
            "E721", f"field strengths {', '.join(f'{field:g} T' for field in known)} ({odd:g} T in {example})",
            "one: R2* of different fields can't be pooled",
            f"give --allow-mixed-field (one analysis a field), or put {FIELD} into the formulas",
        )  # fmt: skip
    return [(f"@{field:g}T", np.round(fields, 1) == field) for field in known]
