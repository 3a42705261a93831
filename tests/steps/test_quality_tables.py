"""The tables of quality and of decay, from files with a known signal."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from r2star.images import Grid, write_image
from r2star.steps.fit import fit_maps
from r2star.steps.quality import measure_quality
from r2star.steps.quality_tables import DECAY_COLUMNS, QUALITY_COLUMNS

TIMES_S = (0.004, 0.012, 0.02, 0.03)
SHAPE = (30, 30, 24)
SIGMA = 2.0


@pytest.fixture(scope="module")
def unit(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("quality")
    rng = np.random.default_rng(5)
    grid = Grid(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]))
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    brain = x**2 + y**2 + z**2 < 0.7
    texture = 40 * gaussian_filter(
        rng.normal(size=SHAPE), 1.2
    )  # as a brain has: what moves must be seen to move
    s0 = np.where(brain, 100.0 + texture, 0)
    paths = []
    for number, time_s in enumerate(TIMES_S, start=1):
        values = np.abs(s0 * np.exp(-25 * time_s) + rng.normal(0, SIGMA, SHAPE)).astype(np.float32)
        paths.append(write_image(folder / f"echo-{number}.nii.gz", values, grid))
    noise = folder / "noise.json"
    noise.write_text(json.dumps({"sigma": SIGMA}))
    fitted = fit_maps(tuple(paths), TIMES_S, folder, noise=noise)
    mask = write_image(folder / "mask.nii.gz", brain.astype(np.uint8), grid)
    labels = np.zeros(SHAPE, np.uint16)
    labels[8:13, 12:18, 8:14], labels[17:22, 12:18, 8:14] = 1, 101  # putamen of both sides
    region = write_image(folder / "labels.nii.gz", labels, grid)
    return {
        "magnitude": tuple(paths), "echo_times_s": TIMES_S, "r2star_map": fitted.r2star_map,
        "stderr_map": fitted.stderr_map, "residual_map": fitted.residual_map, "s0_map": fitted.s0_map,
        "status_map": fitted.status_map, "entities": {"sub": "01", "run": "2"}, "noise": noise, "brain_mask": mask,
        "labels": region, "atlas": "CIT168", "brain": brain, "s0": s0,
    }  # fmt: skip


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_the_brains_measures_are_those_of_the_signal(unit: dict[str, Any], tmp_path: Path) -> None:
    given = {name: value for name, value in unit.items() if name not in ("brain", "s0")}
    told = measure_quality(**given, out_dir=tmp_path)
    rows = _rows(told.quality)
    assert tuple(rows[0]) == QUALITY_COLUMNS
    known = [row for row in rows if row["value"] != "n/a"]
    value = {(row["metric"], row["part"], row["hemisphere"]): float(row["value"]) for row in known}
    expected = np.median(unit["s0"][unit["brain"]])
    for name, time_s in (("snr_first_echo", TIMES_S[0]), ("snr_last_echo", TIMES_S[-1])):
        assert value[name, "brain", "n/a"] == pytest.approx(expected * np.exp(-25 * time_s) / SIGMA, rel=0.02)
    # the residual of a fit of two parameters to E echoes estimates sigma; its median lies a little below
    residual = value["fit_residual_fraction", "brain", "n/a"]
    assert residual == pytest.approx(SIGMA / expected * np.sqrt(np.log(2)), rel=0.1)
    assert value["echo_shift_mm", "brain", "n/a"] < 0.2
    assert value["brain_volume_ml", "brain", "n/a"] == pytest.approx(unit["brain"].sum() * 8 / 1000)
    assert value["no_value_fraction", "brain", "n/a"] == 0
    assert {row["participant_id"] for row in rows} == {"sub-01"}
    assert {row["session_id"] for row in rows} == {"n/a"}
    assert {row["run_id"] for row in rows} == {"run-2"}


def test_the_decay_is_that_of_the_region(unit: dict[str, Any], tmp_path: Path) -> None:
    given = {name: value for name, value in unit.items() if name not in ("brain", "s0")}
    rows = _rows(measure_quality(**given, out_dir=tmp_path).decay)
    assert tuple(rows[0]) == DECAY_COLUMNS
    assert {(row["region"], row["hemisphere"]) for row in rows} == {("putamen", "L"), ("putamen", "R")}
    assert len(rows) == 2 * len(TIMES_S)
    for row in rows:
        expected = np.exp(-25 * float(row["echo_time_s"]))
        assert float(row["fit_median"]) == pytest.approx(expected, rel=0.02)
        assert float(row["signal_median"]) == pytest.approx(expected, rel=0.02)
        assert float(row["fit_p95"]) >= float(row["fit_median"]) >= float(row["fit_p05"])


def test_an_echo_that_moved_is_told(unit: dict[str, Any], tmp_path: Path) -> None:
    from r2star.images import read_image

    moved = read_image(unit["magnitude"][2])
    path = write_image(tmp_path / "moved.nii.gz", np.roll(moved.data, 1, axis=1), moved.grid)
    magnitude = (*unit["magnitude"][:2], path, unit["magnitude"][3])
    given = {name: value for name, value in unit.items() if name not in ("brain", "s0")}
    rows = _rows(measure_quality(**{**given, "magnitude": magnitude}, out_dir=tmp_path).quality)
    (row,) = [row for row in rows if row["metric"] == "echo_shift_mm"]
    assert float(row["value"]) == pytest.approx(2.0, abs=0.2)
    assert row["verdict"] in ("doubtful", "fail")


def test_registrations_come_with_their_verdicts(unit: dict[str, Any], tmp_path: Path) -> None:
    told = tmp_path / "T1w_to_template_measures.json"
    judged = {"box_similarity": "doubtful"}
    told.write_text(
        json.dumps({"verdict": "doubtful", "measures": {"box_similarity": 0.4}, "verdicts": judged})
    )
    given = {name: value for name, value in unit.items() if name not in ("brain", "s0")}
    rows = _rows(measure_quality(**given, out_dir=tmp_path, measures=(told,)).quality)
    (row,) = [row for row in rows if row["metric"] == "registration_box_similarity"]
    assert (row["part"], row["value"], row["verdict"]) == ("T1w_to_template", "0.4", "doubtful")


def test_maps_alone_have_measures_too(unit: dict[str, Any], tmp_path: Path) -> None:
    names = ("brain", "s0", "brain_mask", "labels", "atlas")
    given = {name: value for name, value in unit.items() if name not in names}
    result = measure_quality(**given, out_dir=tmp_path)
    assert _rows(result.decay) == []
    metrics = {row["metric"] for row in _rows(result.quality)}
    assert {"snr_first_echo", "echo_shift_mm", "at_bound_fraction"} <= metrics
    sidecar = json.loads(result.quality.with_suffix(".json").read_text())
    assert set(QUALITY_COLUMNS) <= set(sidecar)
