"""The range of R2* in healthy adults, for the region table of the report: a guide for the eye, never a test.

At 3 T and with a known age: iron by age of Hallgren and Sourander through the working line of Gelman; where one
of the two is missing, published ranges of adults. At other field strengths nothing is said.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from r2star.errors import InputError
from r2star.group.ages import OLDEST_AGE
from r2star.report.facts import NormRange
from r2star.steps.ages import other_unit
from r2star.steps.iron import load_calibration, load_norms

FIELD_TESLA, FIELD_TOLERANCE_TESLA = 3.0, 0.2
CALIBRATION, NORMS = "gelman1999-hallgren1958", "hallgren1958"
_BY_AGE = (
    "By age: iron of Hallgren and Sourander 1958 (mean ± 2 SD) through R2* = 14.9 + 0.109·[Fe mg/kg] at 3 T, "
    "derived from Gelman 1999. A guide for the eye: methods differ, and iron was measured in other people."
)
_ADULTS = (
    "Healthy adults at 3 T, ranges of published regional means (recalled, not read): a guide for the eye."
)

#: Ranges of published regional means at 3 T in healthy adults, 1/s; recalled.
ADULT_RANGES: Mapping[str, tuple[float, float]] = {
    "pallidum": (34, 42), "putamen": (24, 31), "caudate": (21, 25), "thalamus": (18, 21),
    "red_nucleus": (30, 37), "substantia_nigra": (30, 38),
}  # fmt: skip


def norm_ranges(
    regions: Iterable[str], age_years: float | None, field_tesla: float | None
) -> dict[str, NormRange]:
    """The range of each region for which one is known; none away from 3 T.

    >>> sorted(norm_ranges(["putamen", "accumbens"], None, 3.0)), norm_ranges(["putamen"], 40, 7.0)
    (['putamen'], {})
    """
    if field_tesla is None or abs(field_tesla - FIELD_TESLA) > FIELD_TOLERANCE_TESLA:
        return {}
    found = {}
    for region in regions:
        ranged = _by_age(region, age_years) if age_years is not None else None
        if ranged is None and region in ADULT_RANGES:
            ranged = NormRange(*ADULT_RANGES[region], _ADULTS)
        if ranged is not None:
            found[region] = ranged
    return found


def _by_age(region: str, age_years: float) -> NormRange | None:
    line, curve = load_calibration(CALIBRATION), load_norms(NORMS).curves.get(region)
    age = np.array([age_years])
    if curve is None or region not in line.regions or bool(curve.extrapolates(age)[0]):
        return None
    iron, sd = float(curve.mean(age)[0]), math.exp(curve.log_sd[0])
    low, high = (
        line.slope_per_s_per_mg_per_kg * max(iron + reach * sd, 0.0) + line.intercept_per_s
        for reach in (-2.0, 2.0)
    )
    return NormRange(low, high, _BY_AGE)


def age_of(bids_dir: Path, participant: str) -> float | None:
    """A participant's age in years from participants.tsv; None where it is not told as a plain number of years."""
    table = bids_dir / "participants.tsv"
    try:
        if other_unit(table, "age")[0]:
            return None
        with table.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                if row.get("participant_id") in (participant, f"sub-{participant}"):
                    age = float(row.get("age") or "nan")
                    return age if 0 <= age <= OLDEST_AGE else None
    except (InputError, OSError, ValueError, UnicodeDecodeError):
        return None
    return None
