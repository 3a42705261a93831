"""R2* to iron by a straight line that is named, sourced and limited. Arrays in, arrays out; imports numpy and errors.

A calibration is never a default: it holds for one field strength, one state of tissue and the regions
that it was made in. White matter and lesions are never converted, because myelin raises R2* there as iron does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.errors import UsageError

Array = NDArray[Any]

#: Density of brain tissue in kg/mm³ (1.04 g/mL, recalled), from volume to mass.
TISSUE_KG_PER_MM3 = 1.04e-6

FIELD_TOLERANCE_TESLA = 0.2

TISSUES = ("in_vivo", "post_mortem_in_situ", "fixed")


@dataclass(frozen=True)
class Calibration:
    """R2* = slope·[Fe] + intercept, with what is known of its uncertainty and of where it holds.

    ``covariance`` is that of (slope, intercept), ``None`` where none is published; ``status`` tells whether the numbers
    were read in their source, recalled or derived.
    """

    name: str
    slope_per_s_per_mg_per_kg: float
    intercept_per_s: float
    covariance: tuple[tuple[float, float], tuple[float, float]] | None
    field_tesla: float
    tissue: str
    valid_for: tuple[str, ...]
    regions: tuple[str, ...]
    range_mg_per_kg: tuple[float, float]
    source: str
    doi: str = ""
    status: str = "recalled"
    temperature_celsius: float | None = None


@dataclass(frozen=True)
class Iron:
    """Iron of some regions: concentration and its standard error in mg/kg wet tissue, mass in µg, and extrapolation.

    NaN where the region is not one of the calibration's or R2* is NaN; the standard error is NaN too where the
    calibration has no covariance.
    """

    mg_per_kg: Array
    stderr_mg_per_kg: Array
    mass_ug: Array
    extrapolated: Array


def parse_calibration(content: Mapping[str, Any], path: str = "") -> Calibration:
    """Check the content of a calibration's TOML file; R2S-E730 names what is wrong."""
    needed = {"name": str, "slope_per_s_per_mg_per_kg": float, "intercept_per_s": float, "field_tesla": float,
              "tissue": str, "valid_for": list, "regions": list, "range_mg_per_kg": list, "source": str}  # fmt: skip
    optional = {"covariance": list, "doi": str, "status": str, "temperature_celsius": float, "notes": str}
    for name, value in content.items():
        kind = (needed | optional).get(name)
        if kind is None:
            raise UsageError(
                "E730", f"{name} is not known in a calibration", f"{', '.join(needed | optional)}", path=path
            )
        if not isinstance(value, (float, int) if kind is float else kind) or isinstance(value, bool):
            raise UsageError("E730", f"{name} is {value!r}", f"a value of type {kind.__name__}", path=path)
        if isinstance(value, int | float) and not abs(value) < math.inf:
            raise UsageError("E730", f"{name} is {value!r}", "a finite number", path=path)
    absent = [name for name in needed if name not in content]
    if absent:
        raise UsageError("E730", f"a calibration without {', '.join(absent)}", "all of them", path=path)
    low, high = _numbers(content["range_mg_per_kg"], 2, "range_mg_per_kg", path)
    positive = content["slope_per_s_per_mg_per_kg"] > 0 and content["field_tesla"] > 0
    if not positive or content["tissue"] not in TISSUES or not low < high:
        raise UsageError(
            "E730",
            "slope, field, tissue or range can't be right",
            f"a slope and a field above 0, tissue one of {', '.join(TISSUES)}",
            path=path,
        )
    covariance = content.get("covariance")
    plain = {key: value for key, value in content.items() if key != "notes"}
    return Calibration(**plain | {
        "covariance": None if covariance is None else _covariance(covariance, path),
        "regions": tuple(content["regions"]), "valid_for": tuple(content["valid_for"]), "range_mg_per_kg": (low, high),
    })  # fmt: skip


def _numbers(values: Any, count: int, name: str, path: str) -> tuple[float, ...]:
    if (
        not isinstance(values, list)
        or len(values) != count
        or not all(isinstance(v, int | float) and abs(v) < math.inf for v in values)
    ):
        raise UsageError("E730", f"{name} is {values!r}", f"{count} numbers", path=path)
    return tuple(float(value) for value in values)


def _covariance(rows: Any, path: str) -> tuple[tuple[float, float], tuple[float, float]]:
    if not isinstance(rows, list) or len(rows) != 2:
        raise UsageError(
            "E730", f"covariance is {rows!r}", "two rows of two numbers: slope, intercept", path=path
        )
    (a, b), (c, d) = (_numbers(row, 2, "covariance", path) for row in rows)
    if b != c or a < 0 or d < 0 or a * d < b * c:
        raise UsageError(
            "E730", f"covariance is {rows!r}", "a symmetric matrix that is positive semidefinite", path=path
        )
    return (a, b), (c, d)


def refuse_mismatch(
    calibration: Calibration, field_strength_tesla: float | None, tissue: str = "in_vivo"
) -> None:
    """Raise `UsageError` R2S-E731 where the field or the tissue is not the calibration's.

    An unknown field strength is a mismatch: R2* of iron grows with the field.
    """
    fix = "leave out --iron, or name a calibration that was made for these data"
    known = field_strength_tesla is not None and np.isfinite(field_strength_tesla)
    if not known or abs(float(field_strength_tesla or 0) - calibration.field_tesla) > FIELD_TOLERANCE_TESLA:
        told = f"{field_strength_tesla:g} T" if known else "of unknown field strength"
        raise UsageError(
            "E731", f"data {told}, calibration {calibration.name} {calibration.field_tesla:g} T", fix=fix
        )
    if tissue not in calibration.valid_for:
        holds = ", ".join(calibration.valid_for).replace("_", " ")
        found = f"{tissue.replace('_', ' ')} data, calibration {calibration.name} holds for {holds}"
        raise UsageError("E731", found, fix=fix)


def convert_to_iron(
    calibration: Calibration, r2star_per_s: Array, stderr_per_s: Array, volume_mm3: Array, regions: Array
) -> Iron:
    """[Fe] = (R2* − b)/a in mg/kg, with the standard error by the delta method.

    var[Fe] = (var R2* + var b + [Fe]²·var a + 2·[Fe]·cov(a, b))/a²; mass = [Fe] · volume · 1.04 g/mL.

    Parameters
    ----------
    r2star_per_s, stderr_per_s, volume_mm3
        (N,) of regions.
    regions
        (N,) names; a sub-region counts as its region (``pallidum_external`` as ``pallidum``).

    >>> line = Calibration("x", 0.1, 15.0, ((0.0, 0.0), (0.0, 0.0)), 3.0, "in_vivo", ("in_vivo",), ("putamen",),
    ...                    (40.0, 215.0), "example")
    >>> iron = convert_to_iron(line, np.array([25.0]), np.array([0.5]), np.array([5000.0]), np.array(["putamen"]))
    >>> float(iron.mg_per_kg[0]), float(iron.stderr_mg_per_kg[0]), round(float(iron.mass_ug[0]), 6)
    (100.0, 5.0, 520.0)
    """
    slope = calibration.slope_per_s_per_mg_per_kg
    valid = np.array([_belongs(str(region), calibration.regions) for region in regions], dtype=bool)
    iron = np.where(
        valid, (np.asarray(r2star_per_s, dtype=float) - calibration.intercept_per_s) / slope, np.nan
    )
    stderr = np.full(iron.shape, np.nan)
    if calibration.covariance is not None:
        (var_slope, covariance), (_, var_intercept) = calibration.covariance
        variance = (
            np.asarray(stderr_per_s, dtype=float) ** 2
            + var_intercept
            + iron**2 * var_slope
            + 2 * iron * covariance
        )
        stderr = np.sqrt(variance) / slope
    low, high = calibration.range_mg_per_kg
    with np.errstate(invalid="ignore"):
        outside = (iron < low) | (iron > high)
    mass = iron * np.asarray(volume_mm3, dtype=float) * TISSUE_KG_PER_MM3 * 1000.0
    return Iron(iron, stderr, mass, outside)


def _belongs(region: str, regions: tuple[str, ...]) -> bool:
    return any(region == name or region.startswith(f"{name}_") for name in regions)
