"""What a simulated cohort has planted: iron by age, effects of the disease by region, and courses. Imports numpy only.

Ages, courses, durations, scores, volumes, blood and R2* by region follow the published multicentre study of
multiple sclerosis (Ropele 2014, doi:10.1177/1352458514531085; the pattern of signs was read in its abstract).
The effect sizes are chosen, not measured. Healthy iron by age is Hallgren & Sourander 1958
(doi:10.1111/j.1471-4159.1958.tb12607.x), and the line from iron to R2* at 3 T is derived from the
intercepts and values of Gelman 1999 (doi:10.1148/radiology.210.3.r99fe41759).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: R2* (1/s) of tissue without iron, and 1/s per mg iron in a kg of wet tissue, at 3 T in vivo.
R2STAR_WITHOUT_IRON_PER_S = 14.9
R2STAR_PER_IRON = 0.109


@dataclass(frozen=True)
class RegionTruth:
    """What is planted in one region; effects in 1/s per year, per point and per SD, in patients only."""

    sd_per_s: float
    per_year_of_duration: float = 0.0
    per_edss_point: float = 0.0
    per_sd_of_cortical_volume: float = 0.0
    iron_limit: float = 0.0  # mg/kg: iron(age) = iron_limit·(1 − exp(−rate·age)) + iron_at_birth
    iron_rate: float = 0.0
    iron_at_birth: float = 0.0
    volume_mm3: float = 1000.0
    per_sd_of_log_ferritin: float = 0.0


REGIONS: Mapping[str, RegionTruth] = {
    "caudate": RegionTruth(2.0, 0.08, 0.35, 0.0, 96.6, 0.05, 3.3, 7200.0),
    "putamen": RegionTruth(3.0, 0.12, 0.50, 0.0, 146.2, 0.04, 4.6, 9200.0),
    "pallidum": RegionTruth(3.8, 0.0, 0.0, 0.0, 214.1, 0.09, 3.7, 3300.0),
    "thalamus": RegionTruth(1.2, 0.04, 0.20, 0.0, volume_mm3=14500.0),
    "red_nucleus": RegionTruth(4.0, 0.14, 0.60, -0.8, 194.8, 0.06, 0.0, 540.0),
    "substantia_nigra": RegionTruth(4.0, 0.0, 0.0, -0.8, 184.6, 0.08, 0.0, 1100.0),
}

LESION_PER_YEAR = -0.06
LESION_PER_LOG_VOLUME = -0.6


@dataclass(frozen=True)
class Course:
    """A disease course: its share of the patients, duration, onset and disability."""

    share: float
    duration_mean_years: float
    duration_sd_years: float
    onset_mean_years: float
    edss_start: float
    progresses: bool = True


COURSES: Mapping[str, Course] = {
    "CIS": Course(0.10, 0.8, 0.4, 32.0, 1.0, progresses=False),
    "RR": Course(0.56, 8.0, 6.0, 31.0, 2.0),
    "SP": Course(0.25, 16.0, 8.0, 31.0, 5.5),
    "PP": Course(0.09, 11.0, 6.0, 38.0, 5.0),
}


def healthy_iron_mg_per_kg(region: str, age_years: Array | float) -> Array:
    """Iron in healthy wet tissue by age, limit·(1 − e^(−rate·age)) + start; the thalamus falls after 40.

    >>> [round(float(healthy_iron_mg_per_kg("putamen", age)), 1) for age in (0, 40, 80)]
    [4.6, 121.3, 144.8]
    """
    age = np.asarray(age_years, dtype=float)
    if region == "thalamus":
        return np.asarray(47.6 - 0.15 * np.maximum(age - 40.0, 0.0))
    truth = REGIONS[region]
    return np.asarray(truth.iron_limit * -np.expm1(-truth.iron_rate * age) + truth.iron_at_birth)
