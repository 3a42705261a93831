"""Drawing a cohort of patients and controls with known truth: arrays out. Knows no files; may import numpy only.

What is planted stands in `r2star.simulate.truth`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.simulate.truth import (
    COURSES,
    LESION_PER_LOG_VOLUME,
    LESION_PER_YEAR,
    R2STAR_PER_IRON,
    R2STAR_WITHOUT_IRON_PER_S,
    REGIONS,
    RegionTruth,
    healthy_iron_mg_per_kg,
)

Array = NDArray[Any]

MEASUREMENT_SD_PER_S = 0.97
SITE_SD_PER_S = 0.8
SITE_GAIN_SD = 0.02
HEMISPHERE_SD_PER_S = 0.8


@dataclass(frozen=True)
class Cohort:
    """A simulated cohort: one entry per participant, R2* as (participants, sessions).

    ``participants`` holds columns of equal length (numbers with NaN where there is none, text with ``""``);
    ``r2star_per_s`` and ``asymmetry_per_s`` (left minus right) one (P, T) array a region, ``lesions`` and
    ``normal_appearing_white_matter`` included;
    ``years`` the (T,) years since the first session; ``truth`` what was planted.
    """

    participants: dict[str, Array]
    years: Array
    r2star_per_s: dict[str, Array]
    asymmetry_per_s: dict[str, Array]
    truth: dict[str, Any] = field(default_factory=dict)

    @property
    def is_patient(self) -> Array:
        """(P,) True for patients."""
        return np.asarray(self.participants["group"] == "patient")


def simulate_cohort(
    seed: int,
    *,
    n_controls: int = 81,
    n_patients: int = 97,
    n_sites: int = 7,
    balanced: bool = True,
    n_sessions: int = 1,
    interval_years: float = 2.0,
    missing_fraction: float = 0.0,
    regions: Mapping[str, RegionTruth] = REGIONS,
) -> Cohort:
    """Draw a cohort: R2* = 14.9 + 0.109·iron(age) + effects + person + site + measurement, in 1/s.

    Parameters
    ----------
    seed
        Equal seeds give equal cohorts.
    n_controls, n_patients, n_sites
        Sizes; the defaults are those of the study.
    balanced
        Whether every site has the same mix; otherwise the share of patients differs much from site to site.
    n_sessions, interval_years
        Follow-up: healthy iron and the duration effect go on with time; measurement noise is new.
    missing_fraction
        Share of scores, volumes and blood values that are missing (NaN) at random; R2* is complete.
    regions
        What to plant.

    Returns
    -------
    Cohort
        With ``truth`` holding the planted coefficients, site effects and settings.

    >>> cohort = simulate_cohort(1)
    >>> int(cohort.is_patient.sum()), cohort.r2star_per_s["caudate"].shape
    (97, (178, 1))
    """
    rng = np.random.default_rng(seed)
    patient = np.arange(n_controls + n_patients) >= n_controls
    people = _people(rng, patient)
    people["site"] = _sites(rng, patient, n_sites, balanced)
    people |= _blood(rng, people)
    offset, gain = rng.normal(0, SITE_SD_PER_S, n_sites), rng.normal(1, SITE_GAIN_SD, n_sites)
    site_index = np.array([int(label[4:]) - 1 for label in people["site"]])
    years = interval_years * np.arange(n_sessions)
    shared = rng.standard_normal(patient.size)
    values: dict[str, Array] = {}
    for name, truth in regions.items():
        person = truth.sd_per_s * (0.6 * shared + 0.8 * rng.standard_normal(patient.size))
        values[name] = _region_values(name, truth, people, patient, years) + person[:, None]
    values |= _white_matter(rng, people, patient, years)
    asymmetry = {}
    for name, exact in values.items():
        measured = gain[site_index, None] * exact + offset[site_index, None]
        values[name] = measured + rng.normal(0, MEASUREMENT_SD_PER_S, exact.shape)
        asymmetry[name] = rng.normal(0, HEMISPHERE_SD_PER_S, exact.shape)
    truth_told = _truth(regions, people, patient, offset=offset, gain=gain, seed=seed)
    _remove_at_random(rng, people, missing_fraction)
    return Cohort(people, years, values, asymmetry, truth_told)


def _people(rng: np.random.Generator, patient: Array) -> dict[str, Array]:
    """Age, sex, course and the patients' disease."""
    n, n_patients = patient.size, int(patient.sum())
    course = np.full(n, "", dtype=object)
    course[patient] = _shares(n_patients)
    age = np.clip(rng.normal(40, 11, n), 18, 85)
    duration, edss = np.full(n, np.nan), np.full(n, np.nan)
    for name, shape in COURSES.items():
        rows = np.flatnonzero(course == name)
        spread = shape.duration_sd_years**2 / shape.duration_mean_years
        duration[rows] = rng.gamma(shape.duration_mean_years / spread, spread, rows.size)
        age[rows] = np.maximum(rng.normal(shape.onset_mean_years, 8, rows.size), 12) + duration[rows]
        drift = 0.05 * (duration[rows] - 10) if shape.progresses else 0.0
        edss[rows] = np.clip(
            np.round(2 * (shape.edss_start + drift + rng.normal(0, 1.1, rows.size))) / 2, 0, 10
        )
    log_lesion = np.log(6) + 0.035 * duration + 0.08 * edss + rng.normal(0, 0.8, n)
    loss = np.where(patient, np.nan_to_num(duration) + 4 * np.nan_to_num(edss) + 6, 0.0)
    return {
        "group": np.where(patient, "patient", "control").astype(object),
        "course": course,
        "age": age,
        "sex": np.where(rng.random(n) < np.where(patient, 0.65, 0.58), "female", "male").astype(object),
        "disease_duration_years": duration,
        "edss": edss,
        "lesion_volume_ml": np.exp(log_lesion),
        "cortical_volume_ml": 620 - 1.4 * (age - 40) - loss + rng.normal(0, 30, n),
        "white_matter_volume_ml": 500 - 0.6 * (age - 40) - 0.8 * loss + rng.normal(0, 40, n),
    }


def _shares(n_patients: int) -> Array:
    """Courses in the planned shares, by the largest remainder."""
    exact = {name: shape.share * n_patients for name, shape in COURSES.items()}
    counts = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda each: counts[each] - exact[each])[
        : n_patients - sum(counts.values())
    ]:
        counts[name] += 1
    return np.repeat(np.array(list(counts), dtype=object), list(counts.values()))


def _sites(rng: np.random.Generator, patient: Array, n_sites: int, balanced: bool) -> Array:
    site = np.empty(patient.size, dtype=object)
    labels = np.array([f"site{k + 1:02d}" for k in range(n_sites)], dtype=object)
    for rising, rows in ((False, np.flatnonzero(~patient)), (True, np.flatnonzero(patient))):
        if balanced:
            site[rows] = rng.permutation(labels[np.arange(rows.size) % n_sites])
            continue
        weight = np.linspace(1, 4, n_sites)[:: 1 if rising else -1]
        site[rows] = rng.choice(labels, rows.size, p=weight / weight.sum())
    return site


def _blood(rng: np.random.Generator, people: Mapping[str, Array]) -> dict[str, Array]:
    """Blood values; inflammation raises ferritin, low stores lead to supplements (indication confounds)."""
    n, female = people["age"].size, people["sex"] == "female"
    log_crp = rng.normal(0.2, 0.9, n)
    log_ferritin = np.where(female, 4.0, 4.8) + 0.15 * log_crp + rng.normal(0, 0.6, n)
    haemoglobin = np.where(female, 134.0, 149.0) + 4 * (log_ferritin - 4.4) + rng.normal(0, 9, n)
    supplemented = rng.random(n) < 1 / (1 + np.exp(3.0 + 2.0 * (log_ferritin - 4.0)))
    return {
        "haemoglobin_g_per_l": haemoglobin,
        "ferritin_ug_per_l": np.exp(log_ferritin),
        "crp_mg_per_l": np.exp(log_crp),
        "transferrin_saturation_percent": np.clip(27 + 5 * (log_ferritin - 4.4) + rng.normal(0, 8, n), 3, 80),
        "iron_supplementation": np.where(supplemented, "yes", "no").astype(object),
    }


def _region_values(
    name: str, truth: RegionTruth, people: Mapping[str, Array], patient: Array, years: Array
) -> Array:
    """(P, T) R2* before person, site and measurement."""
    age = people["age"][:, None] + years
    duration = np.nan_to_num(people["disease_duration_years"])[:, None] + patient[:, None] * years
    disease = truth.per_year_of_duration * duration
    disease = disease + truth.per_edss_point * np.nan_to_num(people["edss"])[:, None]
    disease = disease + truth.per_sd_of_cortical_volume * np.nan_to_num(_patient_z(people, patient))[:, None]
    iron = healthy_iron_mg_per_kg(name, age)
    log_ferritin = np.log(people["ferritin_ug_per_l"])
    ferritin = truth.per_sd_of_log_ferritin * (log_ferritin - log_ferritin.mean()) / log_ferritin.std(ddof=1)
    return np.asarray(R2STAR_WITHOUT_IRON_PER_S + R2STAR_PER_IRON * iron + disease + ferritin[:, None])


def _patient_z(people: Mapping[str, Array], patient: Array) -> Array:
    """Cortical volume in SD of the patients, 0 in controls: its effect is planted in patients only."""
    volume = people["cortical_volume_ml"]
    if patient.sum() < 2:
        return np.zeros(patient.size)
    return np.where(patient, (volume - volume[patient].mean()) / volume[patient].std(ddof=1), 0.0)


def _white_matter(
    rng: np.random.Generator, people: Mapping[str, Array], patient: Array, years: Array
) -> dict[str, Array]:
    log_volume = np.log(people["lesion_volume_ml"])[:, None]
    duration = people["disease_duration_years"][:, None] + years
    lesions = 17 + LESION_PER_YEAR * duration + LESION_PER_LOG_VOLUME * (log_volume - 2)
    noise = rng.normal(0, 1.5, patient.size)[:, None], rng.normal(0, 1.2, patient.size)[:, None]
    return {
        "lesions": lesions + noise[0],
        "normal_appearing_white_matter": np.broadcast_to(20.0 + noise[1], (patient.size, years.size)),
    }


def _truth(
    regions: Mapping[str, RegionTruth], people: Mapping[str, Array], patient: Array,
    *, offset: Array, gain: Array, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """The planted coefficients; ``group`` is the patients' mean effect at their own mean covariates."""
    told: dict[str, Any] = {}
    mean = {name: float(people[name][patient].mean()) for name in ("disease_duration_years", "edss")}
    volume_sd = float(people["cortical_volume_ml"][patient].std(ddof=1)) if patient.sum() > 1 else np.inf
    for name, truth in regions.items():
        group = (
            truth.per_year_of_duration * mean["disease_duration_years"] + truth.per_edss_point * mean["edss"]
        )
        told[name] = {
            "group": group,
            "disease_duration_years": truth.per_year_of_duration,
            "edss": truth.per_edss_point,
            "cortical_volume_ml": truth.per_sd_of_cortical_volume / volume_sd,
            "log_lesion_volume": 0.0,
            "log_ferritin_per_sd": truth.per_sd_of_log_ferritin,
        }
    told["lesions"] = {"disease_duration_years": LESION_PER_YEAR, "log_lesion_volume": LESION_PER_LOG_VOLUME}
    sites = {
        f"site{k + 1:02d}": {"offset_per_s": float(a), "gain": float(b)}
        for k, (a, b) in enumerate(zip(offset, gain))
    }
    return {"seed": seed, "effects_per_s": told, "sites": sites}


def _remove_at_random(rng: np.random.Generator, people: dict[str, Array], fraction: float) -> None:
    for name in ("edss", "cortical_volume_ml", "haemoglobin_g_per_l", "ferritin_ug_per_l"):
        gone = rng.random(people[name].size) < fraction
        people[name] = np.where(gone, np.nan, people[name])
