"""The verdict first: pass, doubtful or fail, why, and what to do; then the figures that matter."""

from __future__ import annotations

import math
from typing import Any

from r2star.regions.quality import METRICS
from r2star.report.facts import Row, UnitFacts, in_prose, number, plain

_HEADLINES = {
    "pass": "All measures are within their limits.",
    "doubtful": "Usable, but look before you trust it.",
    "fail": "Do not use these numbers before the cause is understood.",
}
_SHOWN = (
    "snr_first_echo", "snr_last_echo", "fit_residual_fraction", "r2star_stderr_per_s", "at_bound_fraction",
    "no_value_fraction", "echo_shift_mm", "gradient_bias_per_s", "brain_volume_ml",
)  # fmt: skip
_REGISTRATION_ADVICE = "look at the alignment below: orientation, coverage, another person's T1w"


def make(unit: UnitFacts) -> dict[str, Any] | None:
    """Verdict, reasons and the brain's measures; the error of a unit that failed."""
    if unit.error is not None:
        skipped = unit.state == "skipped"
        return {
            "verdict": "skipped" if skipped else "fail",
            "headline": "Passed over: there is nothing to work on."
            if skipped
            else "This unit has no result.",
            "reasons": [],
            "measures": [],
            "acquisition": [],
        }
    return {
        "verdict": unit.verdict,
        "headline": _HEADLINES[unit.verdict],
        "reasons": [_reason(row) for row in _bad_rows(unit)],
        "measures": [_shown(row) for name in _SHOWN for row in unit.quality if row["metric"] == name],
        "acquisition": _acquisition(unit),
    }


def _bad_rows(unit: UnitFacts) -> list[Row]:
    """Failures before doubts."""
    return [row for verdict in ("fail", "doubtful") for row in unit.quality if row["verdict"] == verdict]


def _reason(row: Row) -> dict[str, str]:
    name = row["metric"]
    part = "" if row["part"] == "brain" else in_prose(row["part"])
    side = {"L": ", left", "R": ", right"}.get(row["hemisphere"], "")
    if name.startswith("registration_"):
        title = in_prose(name.removeprefix("registration_"))
        return {
            "verdict": row["verdict"],
            "what": f"Registration {row['part'].replace('_', ' ')}: {title.lower()}",
            "value": plain(number(row["value"])),
            "do": _REGISTRATION_ADVICE,
        }
    metric = METRICS[name]
    where = f" ({part}{side})" if part else ""
    return {
        "verdict": row["verdict"],
        "what": f"{metric.title}{where}",
        "value": as_value(row),
        "do": metric.advice,
    }


def as_value(row: Row) -> str:
    """A value with its unit; fractions in percent.

    >>> as_value({"metric": "coverage", "value": "0.91234"}), as_value({"metric": "echo_shift_mm", "value": "0.35"})
    ('91.2 %', '0.350 mm')
    """
    value, metric = number(row["value"]), METRICS[row["metric"]]
    if not math.isfinite(value):
        return "not known"
    if _is_share(row["metric"]):
        return f"{plain(100 * value)} %"
    return f"{plain(value)} {metric.unit}".strip()


def _is_share(metric: str) -> bool:
    return metric.endswith("_fraction") or metric == "coverage"


def _shown(row: Row) -> dict[str, str]:
    metric = METRICS[row["metric"]]
    limits = ""
    if metric.limits is not None:
        word = "at least" if metric.limits[0] > metric.limits[1] else "at most"
        limit = metric.limits[0] * (100 if _is_share(row["metric"]) else 1)
        limits = f"{word} {limit:g} {'%' if _is_share(row['metric']) else metric.unit}".rstrip()
    return {
        "title": metric.title, "value": as_value(row), "verdict": row["verdict"], "limits": limits,
        "description": metric.description,
    }  # fmt: skip


def _acquisition(unit: UnitFacts) -> list[tuple[str, str]]:
    known = unit.acquisition
    field = known.get("MagneticFieldStrength")
    rows = [
        ("Field strength", f"{field:g} T" if isinstance(field, int | float) else "not known"),
        ("Echo times", f"{', '.join(f'{1000 * time:g}' for time in unit.echo_times_s)} ms"),
    ]
    if unit.volumes is not None:
        rows.append(("Voxel", " × ".join(f"{size:.3g}" for size in unit.volumes.voxel_size_mm) + " mm"))
    if unit.settings.get("fit_only"):
        rows.append(("Anatomy", "maps only (--fit-only): without a brain mask pictures would show the face"))
    else:
        without = "another session's echoes" if unit.has_reference else "the echoes themselves"
        rows.append(("Anatomy", "T1w" if unit.has_t1w else f"no T1w: registered by {without}"))
    rows.append(("Phase", "used for the static field" if unit.has_phase else "not used"))
    return rows
