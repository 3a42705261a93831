"""Step: write a simulated cohort as a BIDS dataset without images and the first level's results for it.

``OUT`` is the BIDS dataset (participants.tsv, sessions.tsv, truth.json); ``OUT/derivatives/r2star`` holds
a region table and a marker for each unit, as the first level leaves them. May import simulate, files and
settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from r2star import __version__
from r2star.bids.dataset import BIDS_VERSION
from r2star.files import write_text_atomically
from r2star.regions.table import COLUMNS
from r2star.simulate.cohort import Cohort
from r2star.simulate.truth import REGIONS

SEGMENTATION = "simulated"
SIDES = {"L": 0.5, "R": -0.5, "LR": 0.0}
WITHIN_REGION_SD_PER_S = 3.0
VOXEL_MM3 = 2.0

_SETTINGS = {"simulated": True, "fit_method": "none"}
_DESCRIPTIONS: Mapping[str, Any] = {
    "participant_id": {"Description": "Simulated participant"},
    "group": {
        "Description": "Patient or control",
        "Levels": {"patient": "patient", "control": "healthy control"},
    },
    "course": {"Description": "Course of multiple sclerosis; n/a in controls"},
    "age": {"Description": "Age at the first session", "Units": "year"},
    "sex": {"Description": "Sex", "Levels": {"female": "female", "male": "male"}},
    "disease_duration_years": {"Description": "Time since the first symptom", "Units": "year"},
    "edss": {"Description": "Expanded Disability Status Scale"},
    "lesion_volume_ml": {"Description": "T2 lesion volume", "Units": "mL"},
    "cortical_volume_ml": {"Description": "Neocortical volume, normalised for head size", "Units": "mL"},
    "white_matter_volume_ml": {"Description": "White matter volume, normalised for head size", "Units": "mL"},
    "site": {"Description": "Centre"},
    "haemoglobin_g_per_l": {"Description": "Haemoglobin", "Units": "g/L"},
    "ferritin_ug_per_l": {"Description": "Ferritin", "Units": "ug/L"},
    "crp_mg_per_l": {"Description": "C-reactive protein", "Units": "mg/L"},
    "transferrin_saturation_percent": {"Description": "Transferrin saturation", "Units": "percent"},
    "iron_supplementation": {"Description": "Takes iron supplements", "Levels": {"yes": "yes", "no": "no"}},
}


class WrittenCohort(NamedTuple):
    """Where a simulated cohort stands: the BIDS dataset and the derivative dataset."""

    bids_dir: Path
    output_dir: Path


def write_cohort(cohort: Cohort, out: Path, *, field_strength_tesla: float = 3.0) -> WrittenCohort:
    """Write the dataset, the region tables, the markers and the planted truth.

    Participants are ``sub-0001`` onwards; sessions ``ses-1`` onwards where there are several.
    """
    derivatives = out / "derivatives" / "r2star"
    derivatives.mkdir(parents=True, exist_ok=True)
    labels = [f"{k + 1:04d}" for k in range(cohort.is_patient.size)]
    _write_dataset(cohort, out, labels)
    _write_description(derivatives, "r2star on a simulated cohort", "derivative")
    n_sessions = cohort.years.size
    for person, label in enumerate(labels):
        for session in range(n_sessions):
            entities = {"sub": label} | ({"ses": str(session + 1)} if n_sessions > 1 else {})
            rows = _region_rows(cohort, person, session, entities, field_strength_tesla)
            _write_unit(derivatives, entities, rows)
    return WrittenCohort(out, derivatives)


def _write_dataset(cohort: Cohort, out: Path, labels: Sequence[str]) -> None:
    _write_description(out, "Simulated cohort", "raw")
    write_text_atomically(out / ".bidsignore", "truth.json\n")
    write_text_atomically(
        out / "README", "A simulated cohort: no person was measured. truth.json tells what was planted.\n"
    )
    columns = {"participant_id": [f"sub-{label}" for label in labels]} | {
        name: [_cell(value) for value in values] for name, values in cohort.participants.items()
    }
    write_text_atomically(out / "participants.tsv", _table(columns))
    write_text_atomically(out / "participants.json", _json({name: _DESCRIPTIONS[name] for name in columns}))
    write_text_atomically(out / "truth.json", _json(cohort.truth))
    for label in labels:  # participants.tsv names only participants who have a folder
        (out / f"sub-{label}").mkdir(exist_ok=True)
    if cohort.years.size > 1:
        sessions = {
            "session_id": [f"ses-{k + 1}" for k in range(cohort.years.size)],
            "years_from_baseline": [_cell(value) for value in cohort.years],
        }
        for label in labels:
            write_text_atomically(out / f"sub-{label}" / f"sub-{label}_sessions.tsv", _table(sessions))


def _write_description(folder: Path, name: str, kind: str) -> None:
    content: dict[str, Any] = {
        "Name": name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": kind,
        "License": "CC0",
    }
    if kind == "derivative":
        content["GeneratedBy"] = [{"Name": "r2star", "Version": __version__}]
        write_text_atomically(folder / ".bidsignore", "logs/\ngroup\ngroup.html\n*_stats.tsv\n*_stats.json\n")
    else:
        content["Authors"] = ["r2star-simulate"]
    write_text_atomically(folder / "dataset_description.json", _json(content))


def _region_rows(
    cohort: Cohort, person: int, session: int, entities: Mapping[str, str], field_strength_tesla: float
) -> Iterator[dict[str, str]]:
    """Rows of one unit, always the same ones in the same order; no lesions, no value."""
    for index, (region, values) in enumerate(cohort.r2star_per_s.items(), start=1):
        volume = _volume_mm3(cohort, region, person)
        for side, share in SIDES.items():
            r2star = values[person, session] + share * cohort.asymmetry_per_s[region][person, session]
            n_voxels = round(volume / VOXEL_MM3 / (1 if side == "LR" else 2)) if np.isfinite(r2star) else 0
            yield _row(
                entities, region, side, index,
                r2star=r2star, n_voxels=n_voxels, field_strength_tesla=field_strength_tesla,
            )  # fmt: skip


def _row(
    entities: Mapping[str, str], region: str, side: str, index: int,
    *, r2star: float, n_voxels: int, field_strength_tesla: float,
) -> dict[str, str]:  # fmt: skip
    spread = WITHIN_REGION_SD_PER_S if np.isfinite(r2star) else np.nan
    numbers = {
        "index": index, "n_voxels": n_voxels, "n_valid": n_voxels,
        "coverage": 1.0 if n_voxels else np.nan,
        "volume_mm3": n_voxels * VOXEL_MM3, "r2star_median_per_s": r2star, "r2star_mean_per_s": r2star,
        "r2star_sd_per_s": spread, "r2star_iqr_per_s": 1.349 * spread,
        "r2star_p05_per_s": r2star - 1.645 * spread, "r2star_p95_per_s": r2star + 1.645 * spread,
        "r2star_stderr_per_s": spread / np.sqrt(max(n_voxels, 1)), "lesion_overlap": 0.0,
        "field_strength_tesla": field_strength_tesla, "n_echoes": 6,
    }  # fmt: skip
    text = {
        "participant_id": f"sub-{entities['sub']}",
        "session_id": f"ses-{entities['ses']}" if "ses" in entities else "n/a",
        "segmentation": SEGMENTATION, "region": region, "hemisphere": side,
    }  # fmt: skip
    return text | {name: _cell(value) for name, value in numbers.items()}


def _volume_mm3(cohort: Cohort, region: str, person: int) -> float:
    if region == "lesions":
        return 1000.0 * float(np.nan_to_num(cohort.participants["lesion_volume_ml"][person]))
    if region not in REGIONS:
        return 1000.0 * float(cohort.participants["white_matter_volume_ml"][person])
    return REGIONS[region].volume_mm3


def _write_unit(derivatives: Path, entities: Mapping[str, str], rows: Iterator[dict[str, str]]) -> None:
    label = "_".join(f"{key}-{value}" for key, value in entities.items())
    folder = derivatives.joinpath(*(f"{key}-{value}" for key, value in entities.items()), "anat")
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(COLUMNS)]
    lines += ["\t".join(row.get(name, "n/a") for name in COLUMNS) for row in rows]
    table = folder / f"{label}_seg-{SEGMENTATION}_desc-R2star_stats.tsv"
    content = "\n".join(lines) + "\n"
    write_text_atomically(table, content)
    marker = {
        "unit": label, "entities": dict(entities), "state": "ok", "version": __version__, "settings":
        _SETTINGS, "settings_sha256": _sha256(_json(_SETTINGS)), "inputs": {},
        "outputs": {str(table.relative_to(derivatives)): _sha256(content)}, "notices": [], "timing": {},
    }  # fmt: skip
    path = derivatives / "logs" / "units" / f"{label}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, _json(marker))


def _cell(value: object) -> str:
    """A table cell: text as it is, numbers to seven digits, ``n/a`` for what is missing."""
    if isinstance(value, str):
        return value or "n/a"
    number = float(value)  # type: ignore[arg-type]
    return f"{number:.7g}" if np.isfinite(number) else "n/a"


def _table(columns: Mapping[str, Sequence[str]]) -> str:
    lines = ["\t".join(columns), *("\t".join(row) for row in zip(*columns.values(), strict=True))]
    return "\n".join(lines) + "\n"


def _json(content: object) -> str:
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
