"""Step: maps, echoes and labels → the table of quality measures, and the decay of each region for the report.

May import images, atlas and the kernels. Echoes are read one at a time.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2star.atlas import Atlas, load_atlas
from r2star.atlas.labels import read_labels
from r2star.bids.sidecars import write_json
from r2star.files import write_text_atomically
from r2star.fit.status import Status
from r2star.images import Grid, read_image
from r2star.regions.quality import (
    METRICS,
    Measured,
    echo_shift,
    measured,
    median_of,
    share_of,
    volume_measures,
)
from r2star.regions.table import COLUMNS, format_number
from r2star.steps.noise import read_sigma

ENTITIES = {"participant_id": "sub", "session_id": "ses", "acquisition_id": "acq", "run_id": "run"}
QUALITY_COLUMNS = (*ENTITIES, "metric", "part", "hemisphere", "value", "unit", "verdict")
DECAY_COLUMNS = (
    *ENTITIES, "region", "hemisphere", "n_voxels", "echo_time_s",
    "signal_median", "signal_p25", "signal_p75", "fit_median", "fit_p05", "fit_p95",
)  # fmt: skip
_DECAY_TEXTS = {
    "n_voxels": "Voxels of the region that have a value",
    "echo_time_s": "Echo time",
    "signal_median": "Median over voxels of the magnitude over the fitted S0",
    "signal_p25": "25th percentile of the same",
    "signal_p75": "75th percentile of the same",
    "fit_median": "Median over voxels of exp(-R2* t)",
    "fit_p05": "5th percentile of the same",
    "fit_p95": "95th percentile of the same",
}
_QUALITY_TEXTS = {
    "part": "brain, a region of the atlas, or a registration (from, to)",
    "value": "The measure; n/a where it can't be told",
    "unit": "Unit of the value",
    "verdict": "pass, doubtful or fail by the limits; n/a where the measure is not judged",
}


class Quality(NamedTuple):
    """The two tables with their sidecars."""

    quality: Path
    decay: Path
    derivatives: tuple[Path, ...]


def measure_quality(
    magnitude: tuple[Path, ...],
    echo_times_s: tuple[float, ...],
    r2star_map: Path,
    stderr_map: Path,
    residual_map: Path,
    s0_map: Path,
    status_map: Path,
    entities: dict[str, str],
    out_dir: Path,
    noise: Path | None = None,
    brain_mask: Path | None = None,
    labels: Path | None = None,
    atlas: str | None = None,
    table: Path | None = None,
    bias_map: Path | None = None,
    measures: tuple[Path, ...] = (),
) -> Quality:
    """Write ``desc-quality_stats.tsv`` and ``desc-decay_stats.tsv``, each with its sidecar.

    Without ``brain_mask`` the voxels that have a value stand for the brain. ``table`` is the region table, whose
    coverage and medians are taken over; ``measures`` are the JSON files of the registrations.
    """
    r2star, s0, status = (read_image(path) for path in (r2star_map, s0_map, status_map))
    grid = r2star.grid
    brain = (
        np.isfinite(r2star.data)
        if brain_mask is None
        else np.nan_to_num(np.asarray(read_image(brain_mask).data)) > 0
    )
    found = _fit_measures(brain, np.asarray(status.data), s0.data, residual_map, stderr_map, bias_map)
    regions: dict[tuple[str, str], NDArray[np.bool_]] = {}
    if labels is not None and atlas is not None:
        chosen = load_atlas(atlas)
        label_data = np.asarray(read_image(labels).data)
        regions = {(one.name, one.hemisphere): np.isin(label_data, one.indices) for one in chosen.regions}
        volumes = {key: float(where.sum()) * grid.voxel_volume_mm3 for key, where in regions.items()}
        found += _table_measures(table, chosen.name) + volume_measures(volumes, atlas_volumes(chosen))
        found.append(measured("brain_volume_ml", float(brain.sum()) * grid.voxel_volume_mm3 / 1000))
    echoes = _Echoes(magnitude, echo_times_s, grid, brain)
    decay = echoes.decay(regions, np.asarray(s0.data), np.asarray(r2star.data))
    sigma = read_sigma(noise) or median_of(read_image(residual_map).data, brain)
    found = [
        measured("snr_first_echo", _ratio(echoes.medians[0], sigma)),
        measured("snr_last_echo", _ratio(echoes.medians[-1], sigma)),
        measured("echo_shift_mm", max(echoes.shifts_mm, default=math.nan)),
        *found,
    ]
    rows = [_quality_row(one) for one in found] + _registration_rows(measures)
    identity = {
        column: f"{key}-{entities[key]}" if key in entities else "n/a" for column, key in ENTITIES.items()
    }
    files = _write(out_dir / "desc-quality_stats.tsv", QUALITY_COLUMNS, rows, identity, _quality_sidecar())
    files += _write(out_dir / "desc-decay_stats.tsv", DECAY_COLUMNS, decay, identity, _decay_sidecar())
    return Quality(files[0], files[2], tuple(files))


def _fit_measures(
    brain: NDArray[np.bool_], status: NDArray[Any], s0: NDArray[Any], residual_map: Path, stderr_map: Path,
    bias_map: Path | None,
) -> list[Measured]:  # fmt: skip
    residual, stderr = (np.asarray(read_image(path).data) for path in (residual_map, stderr_map))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = residual / s0
    no_value = np.isin(status, [int(code) for code in Status if not code.has_value])
    found = [
        measured("fit_residual_fraction", median_of(relative, brain)),
        measured("r2star_stderr_per_s", median_of(stderr, brain)),
        measured("at_bound_fraction", share_of(status == Status.AT_BOUND, brain)),
        measured("rising_fraction", share_of(status == Status.RISING, brain)),
        measured("no_value_fraction", share_of(no_value, brain)),
    ]
    if bias_map is not None:
        bias = np.asarray(read_image(bias_map).data)
        found.append(measured("gradient_bias_per_s", median_of(bias, brain)))
        found.append(measured("gradient_bias_p95_per_s", median_of(bias, brain, 95)))
    return found


def atlas_volumes(atlas: Atlas) -> dict[tuple[str, str], float]:
    """(region, hemisphere) → mm³ in the atlas."""
    image = read_labels(atlas.labels)
    counts = np.bincount(np.asarray(image.data, np.int64).ravel())
    return {
        (one.name, one.hemisphere): float(sum(counts[i] for i in one.indices if i < counts.size))
        * image.grid.voxel_volume_mm3
        for one in atlas.regions
    }


def _table_measures(table: Path | None, segmentation: str) -> list[Measured]:
    """Coverage of each region and side, and how far R2* of the left lies from that of the right."""
    if table is None:
        return []
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["segmentation"] == segmentation]
    found = [
        measured("coverage", _number(row["coverage"]), row["region"], row["hemisphere"])
        for row in rows
        if row["hemisphere"] != "LR"
    ]
    medians = {(row["region"], row["hemisphere"]): _number(row["r2star_median_per_s"]) for row in rows}
    for region in dict.fromkeys(name for name, _ in medians):
        if {(region, "L"), (region, "R")} <= set(medians):
            left, right = medians[region, "L"], medians[region, "R"]
            found.append(measured("r2star_asymmetry", _ratio(left - right, (left + right) / 2), region))
    return found


class _Echoes:
    """Reads each echo once, in order of echo time: brain medians, shifts, and the signal of each region."""

    def __init__(
        self, paths: Sequence[Path], times_s: Sequence[float], grid: Grid, brain: NDArray[np.bool_]
    ) -> None:
        self._paths = (
            [paths[k] for k in np.argsort(times_s, kind="stable")] if len(paths) > 1 else list(paths)
        )
        self._times_s = sorted(times_s)
        self._grid, self._brain = grid, brain
        self.medians: list[float] = []
        self.shifts_mm: list[float] = []

    def decay(
        self, regions: Mapping[tuple[str, str], NDArray[np.bool_]], s0: NDArray[Any], rate: NDArray[Any]
    ) -> list[dict[str, str]]:
        """Rows of the decay table."""
        usable = np.isfinite(rate) & (s0 > 0)
        kept = {key: np.flatnonzero((where & usable).ravel()) for key, where in regions.items()}
        box = _box(self._brain)
        rows, before = [], None
        for number, time_s in enumerate(self._times_s):
            echo = self._read(number)
            self.medians.append(median_of(echo, self._brain))
            inside = echo[box]  # not cut out: a mask would not move with the head
            if before is not None:
                self.shifts_mm.append(echo_shift(before, inside, self._grid.voxel_size_mm))
            before = inside
            for (region, side), voxels in kept.items():
                if voxels.size:
                    signal = echo.ravel()[voxels] / s0.ravel()[voxels]
                    fitted = np.exp(-rate.ravel()[voxels].astype(np.float64) * time_s)
                    rows.append(_decay_row(region, side, time_s, signal, fitted))
        return rows

    def _read(self, number: int) -> NDArray[Any]:
        if len(self._paths) > 1:
            return np.asarray(read_image(self._paths[number]).data)
        return np.asarray(read_image(self._paths[0]).data)[..., number]


def _decay_row(
    region: str, side: str, time_s: float, signal: NDArray[Any], fitted: NDArray[Any]
) -> dict[str, str]:
    low, middle, high = np.nanpercentile(signal, (25, 50, 75))
    p05, median, p95 = np.percentile(fitted, (5, 50, 95))
    numbers = {
        "echo_time_s": time_s, "signal_median": middle, "signal_p25": low, "signal_p75": high,
        "fit_median": median, "fit_p05": p05, "fit_p95": p95,
    }  # fmt: skip
    written = {name: format_number(float(value)) for name, value in numbers.items()}
    return {"region": region, "hemisphere": side, "n_voxels": str(signal.size), **written}


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box that holds a mask; the whole image where it is empty."""
    if not mask.any():
        return tuple(slice(None) for _ in mask.shape)
    ends = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return tuple(slice(int(end[0]), int(end[-1]) + 1) for end in ends)


def _ratio(value: float, by: float) -> float:
    return value / by if by and math.isfinite(by) else math.nan


def _number(cell: str) -> float:
    return math.nan if cell == "n/a" else float(cell)


def _quality_row(one: Measured) -> dict[str, str]:
    return {
        "metric": one.metric, "part": one.part, "hemisphere": one.hemisphere or "n/a",
        "value": format_number(one.value), "unit": METRICS[one.metric].unit or "n/a", "verdict": one.verdict or "n/a",
    }  # fmt: skip


def _registration_rows(measures: Iterable[Path]) -> list[dict[str, str]]:
    rows = []
    for path in measures:
        told = json.loads(path.read_text())
        for name, value in told["measures"].items():
            rows.append({
                "metric": f"registration_{name}", "part": path.name.removesuffix("_measures.json"),
                "hemisphere": "n/a", "value": format_number(float(value)), "unit": "n/a",
                "verdict": told.get("verdicts", {}).get(name, "n/a"),
            })  # fmt: skip
    return rows


def _write(
    path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]], identity: Mapping[str, str],
    sidecar: Mapping[str, Any],
) -> list[Path]:  # fmt: skip
    lines = ["\t".join(columns), *("\t".join({**identity, **row}[name] for name in columns) for row in rows)]
    write_text_atomically(path, "\n".join(lines) + "\n")
    return [path, write_json(path.with_suffix(".json"), sidecar)]


def _quality_sidecar() -> dict[str, Any]:
    columns: dict[str, Any] = {name: {"Description": COLUMNS[name][0]} for name in ENTITIES}
    levels = {name: one.description for name, one in METRICS.items()}
    columns["metric"] = {
        "Description": "What is measured; registration_* are the measures of a registration", "Levels": levels
    }  # fmt: skip
    columns |= {name: {"Description": text} for name, text in _QUALITY_TEXTS.items()}
    columns["hemisphere"] = {"Description": "L left, R right, n/a where it is of neither"}
    columns["Software"] = {name: metadata.version(name) for name in ("antspyx", "numba", "numpy", "scipy")}
    columns["Limits"] = {name: list(one.limits) for name, one in METRICS.items() if one.limits}
    return columns


def _decay_sidecar() -> dict[str, Any]:
    columns: dict[str, Any] = {name: {"Description": COLUMNS[name][0]} for name in (*ENTITIES, "region")}
    columns["hemisphere"] = {"Description": "L left, R right"}
    columns |= {name: {"Description": text} for name, text in _DECAY_TEXTS.items()}
    columns["echo_time_s"]["Units"] = "s"
    return columns
