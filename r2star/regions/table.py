"""The region table: its columns, how numbers are written, and what each column means. May import errors.

Columns and their order are a contract with the second level and with users' scripts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from r2star.regions.rule import VoxelRule
from r2star.regions.summary import ROW_WARNINGS, RegionSummary

MISSING = "n/a"

_SIGMA = "sigma of the noise as given, or else the root mean square of sqrt(RSS/(E-2)) over the region"

#: Columns that say which unit a row is of → the entity's key.
ENTITIES: Mapping[str, str] = {
    "participant_id": "sub", "session_id": "ses", "acquisition_id": "acq", "run_id": "run",
}  # fmt: skip
#: Column → (description, unit). Text columns and pure numbers have no unit.
COLUMNS: Mapping[str, tuple[str, str]] = {
    "participant_id": ("Participant", ""),
    "session_id": ("Session", ""),
    "acquisition_id": ("Acquisition", ""),
    "run_id": ("Run", ""),
    "segmentation": ("Segmentation that the region is from", ""),
    "region": ("Region", ""),
    "hemisphere": ("L left, R right, LR the voxels of both sides together", ""),
    "index": ("Label numbers of the region in the segmentation, joined by +", ""),
    "n_voxels": ("Voxels with the region's labels", ""),
    "n_valid": ("Voxels that count in the statistics, by VoxelRule", ""),
    "coverage": ("Fraction of the region that lies inside the field of view", ""),
    "volume_mm3": ("Volume of the region's voxels, from the affine", "mm^3"),
    "r2star_median_per_s": ("Median R2*", "1/s"),
    "r2star_mean_per_s": ("Mean R2*", "1/s"),
    "r2star_sd_per_s": ("Standard deviation of R2* over voxels (n - 1)", "1/s"),
    "r2star_iqr_per_s": ("Interquartile range of R2* over voxels", "1/s"),
    "r2star_p05_per_s": ("5th percentile of R2* over voxels", "1/s"),
    "r2star_p95_per_s": ("95th percentile of R2* over voxels", "1/s"),
    "r2star_stderr_per_s": (
        "Standard error of the median R2*, voxels taken as independent: the greater of what the spread of "
        "the values says (order statistics around the median, five voxels or more) and what the standard "
        "errors of the fits say (their harmonic mean s, about s*sqrt(pi/2n))",
        "1/s",
    ),
    "snr_first_echo": (f"Median over voxels of the first echo over sigma; {_SIGMA}", ""),
    "snr_last_echo": (f"Median over voxels of the last echo over sigma; {_SIGMA}", ""),
    "fit_residual": ("Median over voxels of sqrt(RSS/(E-2)) of the fit over S0", ""),
    "gradient_bias_per_s": (
        "Median over voxels of what macroscopic field gradients add to R2*; with --field-gradient correct it has "
        "been taken out, except where warnings hold W360 or W364",
        "1/s",
    ),
    "lesion_overlap": ("Fraction of the region's voxels inside lesions", ""),
    "iron_mg_per_kg": ("Iron per wet tissue mass, by the calibration", "mg/kg"),
    "iron_stderr_mg_per_kg": ("Standard error of iron", "mg/kg"),
    "iron_mass_ug": ("Iron in the region: concentration times volume", "ug"),
    "calibration": ("Name of the calibration from R2* to iron", ""),
    "field_strength_tesla": ("Field strength, from the sidecars", "T"),
    "n_echoes": ("Echoes of the acquisition", ""),
    "warnings": ("Codes of the warnings that touch this row, joined by ;", ""),
}

#: What is told of a further map: ending of its column → description. Its unit stands in the table's sidecar.
MAP_COLUMNS: Mapping[str, str] = {
    "median": "Median of {name} over the voxels that count for R2* and have a finite value",
    "mean": "Mean of {name}",
    "sd": "Standard deviation of {name} over voxels (n - 1)",
    "n_valid": "Voxels with a finite {name} among those that count for R2*",
}


def columns_of(maps: Iterable[str] = ()) -> tuple[str, ...]:
    """All columns of a table: the fixed ones, then four for each further map.

    >>> columns_of(["Chimap"])[-4:]
    ('Chimap_median', 'Chimap_mean', 'Chimap_sd', 'Chimap_n_valid')
    """
    return (*COLUMNS, *(f"{name}_{ending}" for name in maps for ending in MAP_COLUMNS))


def format_number(value: float) -> str:
    """Write a number: whole ones as they are, others to six significant digits, NaN as ``n/a``.

    >>> [format_number(value) for value in (3, 31.41592653, 1234567.8, -0.0, float("nan"))]
    ['3', '31.4159', '1.23457e+06', '0', 'n/a']
    """
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return MISSING
    return f"{value + 0.0:.6g}"


def identity_of(entities: Mapping[str, str]) -> dict[str, str]:
    """The cells that say which unit a row is of, by its entities; empty for an entity that it has not.

    >>> identity_of({"sub": "01", "run": "2"})
    {'participant_id': 'sub-01', 'session_id': '', 'acquisition_id': '', 'run_id': 'run-2'}
    """
    return {column: f"{key}-{entities[key]}" if key in entities else "" for column, key in ENTITIES.items()}


def table_row(
    summary: RegionSummary,
    *,
    identity: Mapping[str, str],
    segmentation: str,
    field_strength_tesla: float | None,
    n_echoes: int,
    warnings: Iterable[str] = (),
    maps: Sequence[str] = (),
) -> dict[str, str]:
    """Cells of one row, in the order of `columns_of`.

    ``identity`` holds the unit's entities by BIDS key, ``warnings`` the codes that touch the whole unit, ``maps`` the
    names of the further maps that have columns, whether the unit has them or not.
    """
    text = identity_of(identity) | {
        "segmentation": segmentation,
        "region": summary.region,
        "hemisphere": summary.hemisphere,
        "index": "+".join(str(index) for index in summary.indices),
        "calibration": summary.calibration,
        "warnings": ";".join(sorted({*warnings, *summary.warnings})),
    }
    numbers: dict[str, float] = {
        f"r2star_{name}_per_s": value for name, value in summary.r2star_per_s.items()
    }
    numbers |= {"field_strength_tesla": _or_nan(field_strength_tesla), "n_echoes": n_echoes}
    numbers |= {column: getattr(summary, column) for column in COLUMNS if column not in {*text, *numbers}}
    numbers |= {
        f"{name}_{ending}": value for name in maps for ending, value in summary.maps.get(name, {}).items()
    }
    cells = text | {column: format_number(value) for column, value in numbers.items()}
    return {column: cells.get(column, "") or MISSING for column in columns_of(maps)}


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def table_text(rows: Sequence[Mapping[str, str]]) -> str:
    """The table as tab-separated text with its header."""
    columns = tuple(rows[0]) if rows else tuple(COLUMNS)
    lines = ["\t".join(columns), *("\t".join(row[column] for column in columns) for row in rows)]
    return "\n".join(lines) + "\n"


_WEIGHTED = "A voxel counts, in R2* and in volume, by the probability that the atlas gives it."


def table_sidecar(
    rule: VoxelRule, *, maps: Mapping[str, str] | None = None, outliers: Mapping[str, int] | None = None,
    weighted: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Description and unit of every column, the rule for voxels, and what the row warnings mean.

    ``maps`` are the further maps with their units (empty where unknown), ``outliers`` the numbers of voxels that the
    rule left out, by segmentation, region and hemisphere. ``weighted`` says that the atlas weighs its voxels.
    """
    columns: dict[str, Any] = {}
    for name, (description, units) in COLUMNS.items():
        columns[name] = {"Description": description} | ({"Units": units} if units else {})
    for name, units in (maps or {}).items():
        for ending, description in MAP_COLUMNS.items():
            told = {"Units": units} if units and ending != "n_valid" else {}
            columns[f"{name}_{ending}"] = {"Description": description.format(name=name)} | told
    columns["warnings"]["Levels"] = dict(ROW_WARNINGS)
    told = rule.as_dict()
    if weighted:
        told["Description"] += f" {_WEIGHTED}"
    return columns | {"VoxelRule": told, "OutliersLeftOut": dict(outliers or {})}
