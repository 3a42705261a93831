"""The region table from files: rows, sidecar, grids, lesions, warnings, coverage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from r2star.atlas import load_atlas
from r2star.atlas.labels import read_labels
from r2star.errors import InputError
from r2star.fit.status import Status
from r2star.images import Grid, write_image
from r2star.regions.rule import VoxelRule
from r2star.regions.table import columns_of
from r2star.register.transforms import Affine, write_composite
from r2star.steps.iron import calibration_file, load_calibration
from r2star.steps.tables import RegionTable, write_region_table

GRID = Grid((40, 36, 20), np.array([[-1.0, 0, 0, 20], [0, 1.2, 0, -20], [0, 0, 1.5, -10], [0, 0, 0, 1]]))
ATLAS = load_atlas("CIT168")
EVERY_LABEL = sorted({i for region in (*ATLAS.regions, *ATLAS.subregions) for i in region.indices})


def a_head() -> dict[str, NDArray[Any]]:
    """A column of 12 voxels for each label of the atlas, the label number as R2*, everything else plausible."""
    labels = np.zeros(GRID.shape, np.uint16)
    for number, label in enumerate(EVERY_LABEL):
        labels[2 + number % 36, 2 + 2 * (number // 36), 3:15] = label
    r2star = labels.astype(np.float32) + np.linspace(0, 0.5, 20, dtype=np.float32)
    return {
        "r2star_map": np.where(labels > 0, r2star, np.nan).astype(np.float32), "labels": labels,
        "stderr_map": np.full(GRID.shape, 0.7, np.float32), "status_map": np.zeros(GRID.shape, np.uint8),
        "s0_map": np.full(GRID.shape, 200, np.float32), "residual_map": np.full(GRID.shape, 4, np.float32),
        "first_echo": np.full(GRID.shape, 180, np.float32), "last_echo": np.full(GRID.shape, 60, np.float32),
        "gradient_bias_map": np.full(GRID.shape, 0.25, np.float32),
    }  # fmt: skip


def write_head(folder: Path, arrays: dict[str, NDArray[Any]], grid: Grid = GRID) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return {
        name: write_image(folder / f"{name}.nii.gz", array, grid, dtype=array.dtype)
        for name, array in arrays.items()
    }


def write_noise(folder: Path, sigma: float = 2.0) -> Path:
    path = folder / "noise.json"
    path.write_text(json.dumps({"sigma": sigma, "source": "background", "n_voxels": 1000}))
    return path


def make(folder: Path, arrays: dict[str, NDArray[Any]] | None = None, **more: Any) -> RegionTable:
    files = write_head(folder / "in", a_head() if arrays is None else arrays)
    given: dict[str, Any] = {"atlas": "CIT168", "entities": {"sub": "01", "run": "2"}, "n_echoes": 6,
                             "out_dir": folder, "noise": write_noise(folder), "field_strength_tesla": 3.0}  # fmt: skip
    return write_region_table(**(given | files | more))


def rows_of(table: RegionTable) -> dict[tuple[str, str, str], dict[str, str]]:
    header, *lines = [line.split("\t") for line in table.table.read_text().splitlines()]
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    return {(row["segmentation"], row["region"], row["hemisphere"]): row for row in rows}


def test_every_region_and_subregion_has_its_three_rows_in_order(tmp_path: Path) -> None:
    table = make(tmp_path)
    expected = [
        (segmentation, name, side)
        for segmentation, regions in (("CIT168", ATLAS.regions), ("CIT168subregions", ATLAS.subregions))
        for name in dict.fromkeys(region.name for region in regions)
        for side in ("L", "R", "LR")
    ]
    rows = rows_of(table)
    assert list(rows) == expected
    assert table.table.name == "atlas-CIT168_desc-R2star_stats.tsv"
    assert table.derivatives == (table.table, table.sidecar)
    assert table.notices == ()
    for region in (*ATLAS.regions, *ATLAS.subregions):
        segmentation = "CIT168" if region in ATLAS.regions else "CIT168subregions"
        row = rows[segmentation, region.name, region.hemisphere]
        assert row["index"] == "+".join(map(str, region.indices))
        assert row["n_voxels"] == row["n_valid"] == str(12 * len(region.indices))
        assert float(row["volume_mm3"]) == pytest.approx(12 * len(region.indices) * 1.8)
        low, high = min(region.indices), max(region.indices) + 0.5
        assert low <= float(row["r2star_median_per_s"]) <= high
        told = [
            row[name] for name in ("snr_first_echo", "snr_last_echo", "fit_residual", "gradient_bias_per_s")
        ]
        assert told == ["90", "30", "0.02", "0.25"]
        assert (row["participant_id"], row["session_id"], row["run_id"]) == ("sub-01", "n/a", "run-2")
        assert (row["field_strength_tesla"], row["n_echoes"], row["coverage"]) == ("3", "6", "1")
        assert row["warnings"] == row["iron_mg_per_kg"] == row["lesion_overlap"] == "n/a"


def test_flipped_storage_of_the_same_head_gives_the_same_bytes(tmp_path: Path) -> None:
    """Radiological and neurological storage: left stays left, and no digit changes."""
    arrays = a_head()
    first = make(tmp_path / "a", arrays)
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = GRID.shape[0] - 1
    files = write_head(
        tmp_path / "b",
        {name: array[::-1] for name, array in arrays.items()},
        Grid(GRID.shape, GRID.affine @ flip),
    )
    second = write_region_table(
        **files, atlas="CIT168", entities={"sub": "01", "run": "2"}, n_echoes=6, out_dir=tmp_path / "b",
        noise=write_noise(tmp_path), field_strength_tesla=3.0,
    )  # fmt: skip
    assert first.table.read_bytes() == second.table.read_bytes()


def test_without_the_optional_maps_their_columns_are_empty(tmp_path: Path) -> None:
    arrays = {name: array for name, array in a_head().items() if name in ("r2star_map", "labels")}
    row = rows_of(make(tmp_path, arrays, field_strength_tesla=None))["CIT168", "caudate", "L"]
    empty = ("snr_first_echo", "snr_last_echo", "fit_residual", "gradient_bias_per_s", "field_strength_tesla")
    assert [row[name] for name in empty] == ["n/a"] * 5
    assert float(row["r2star_stderr_per_s"]) > 0


def test_a_lost_label_keeps_its_row_and_is_told(tmp_path: Path) -> None:
    arrays = a_head()
    (lost,) = (r.indices for r in ATLAS.regions if (r.name, r.hemisphere) == ("subthalamic_nucleus", "R"))
    arrays["labels"][np.isin(arrays["labels"], lost)] = 0
    before, after = rows_of(make(tmp_path / "a")), rows_of(table := make(tmp_path / "b", arrays))
    row = after["CIT168", "subthalamic_nucleus", "R"]
    assert (row["n_voxels"], row["n_valid"], row["r2star_median_per_s"]) == ("0", "0", "n/a")
    assert row["warnings"] == "W461"
    assert ("W461", "subthalamic_nucleus") in {
        (notice.code, notice.message.rpartition(": ")[2]) for notice in table.notices
    }
    changed = {key for key in before if before[key] != after[key]}
    assert {(name, side) for _, name, side in changed} == {
        ("subthalamic_nucleus", "R"), ("subthalamic_nucleus", "LR"),
    }  # fmt: skip


def test_voxels_with_a_value_count_whatever_doubt_there_is_unless_the_rule_says_so(tmp_path: Path) -> None:
    arrays = a_head()
    inside = np.isin(arrays["labels"], ATLAS.regions[0].indices)
    arrays["status_map"][inside & (np.arange(20) % 2 == 0)] = Status.RISING
    arrays["status_map"][inside & (np.arange(20) == 4)] = Status.AT_BOUND
    key = ("CIT168", ATLAS.regions[0].name, ATLAS.regions[0].hemisphere)
    assert rows_of(make(tmp_path / "a", arrays))[key]["n_valid"] == "11"
    strict = make(tmp_path / "b", arrays, rule=VoxelRule(accepted_status=(0,)))
    assert rows_of(strict)[key]["n_valid"] == "6"
    assert json.loads(strict.sidecar.read_text())["VoxelRule"]["AcceptedStatus"] == [0]


def test_lesions_are_left_out_told_and_have_rows_of_their_own(tmp_path: Path) -> None:
    """A mask that covers 4 of the 12 voxels of each region, of a volume that lies half outside the image."""
    mask = np.zeros(GRID.shape, np.uint8)
    mask[..., 3:7] = 1
    lesions = write_image(tmp_path / "lesions.nii.gz", mask, GRID, dtype=np.uint8)
    volume = 2 * 1.8 * float(mask.sum())
    table = make(tmp_path, lesions=lesions, lesion_volume_mm3=volume, with_lesions=True)
    rows = rows_of(table)
    row = rows["CIT168", "caudate", "L"]
    assert (row["n_voxels"], row["n_valid"], row["lesion_overlap"]) == ("12", "8", "0.333333")
    assert row["warnings"] == "W463;W466"
    assert {notice.code for notice in table.notices} == {"W463", "W466"}
    own = rows["CIT168", "lesions", "LR"]
    assert float(own["volume_mm3"]) == pytest.approx(volume / 2)
    assert own["coverage"] == "0.5"
    values = a_head()["r2star_map"][mask > 0]
    assert float(own["r2star_median_per_s"]) == pytest.approx(np.nanmedian(values), rel=1e-5)
    assert own["lesion_overlap"] == "n/a"


def test_without_a_lesion_the_volume_is_zero_and_without_a_mask_unknown(tmp_path: Path) -> None:
    none = write_image(tmp_path / "none.nii.gz", np.zeros(GRID.shape, np.uint8), GRID, dtype=np.uint8)
    healthy = rows_of(make(tmp_path / "a", lesions=none, lesion_volume_mm3=0.0, with_lesions=True))
    unknown = rows_of(make(tmp_path / "b", with_lesions=True))
    assert list(healthy) == list(unknown)
    told = [rows["CIT168", "lesions", "LR"] for rows in (healthy, unknown)]
    assert [row["volume_mm3"] for row in told] == ["0", "n/a"]
    assert [row["warnings"] for row in told] == ["n/a", "n/a"]
    assert healthy["CIT168", "caudate", "L"]["lesion_overlap"] == "0"
    assert unknown["CIT168", "caudate", "L"]["lesion_overlap"] == "n/a"


def test_further_maps_have_columns_in_their_unit_over_the_same_voxels(tmp_path: Path) -> None:
    head = a_head()
    chi = head["r2star_map"] / 1000
    chi[:, :, 3] = np.nan
    path = write_image(tmp_path / "Chimap.nii.gz", chi, GRID)
    table = make(tmp_path, head, maps=(path,), map_names=("Chimap", "T1map"), map_units=("ppm", ""))
    row = rows_of(table)["CIT168", "putamen", "R"]
    assert tuple(row)[-8:] == columns_of(["Chimap", "T1map"])[-8:]
    used = np.isin(head["labels"], indices_of("putamen")[1:]) & np.isfinite(chi)
    assert row["Chimap_n_valid"] == str(used.sum()) == "11"
    assert float(row["Chimap_median"]) == pytest.approx(np.median(chi[used]), rel=1e-5)
    assert float(row["Chimap_mean"]) == pytest.approx(chi[used].mean(), rel=1e-5)
    assert (row["n_valid"], row["T1map_median"], row["T1map_n_valid"]) == ("12", "n/a", "n/a")
    sidecar = json.loads(table.sidecar.read_text())
    assert sidecar["Chimap_median"]["Units"] == "ppm"
    assert "Units" not in sidecar["T1map_median"]
    assert "Units" not in sidecar["Chimap_n_valid"]


def test_iron_stands_where_the_calibration_holds_and_nowhere_else(tmp_path: Path) -> None:
    calibration = load_calibration("gelman1999-hallgren1958")
    rows = rows_of(make(tmp_path, calibration=calibration_file(calibration.name)))
    row = rows["CIT168", "thalamus", "LR"]
    iron = (float(row["r2star_median_per_s"]) - 14.9) / 0.109
    assert float(row["iron_mg_per_kg"]) == pytest.approx(iron, rel=1e-4)
    mass = iron * float(row["volume_mm3"]) * 1.04e-3
    assert float(row["iron_mass_ug"]) == pytest.approx(mass, rel=1e-4)
    assert row["calibration"] == calibration.name
    assert "W475" in row["warnings"]
    assert rows["CIT168", "subthalamic_nucleus", "L"]["calibration"] == "n/a"


def test_statistics_are_weighted_by_probability(tmp_path: Path) -> None:
    head = a_head()
    weights = np.zeros(GRID.shape, np.float32)
    weights[..., 3:9], weights[..., 9:15] = 1, 0.25
    path = write_image(tmp_path / "weights.nii.gz", weights, GRID)
    row = rows_of(make(tmp_path, head, weight_map=path))["CIT168", "putamen", "R"]
    inside = np.isin(head["labels"], indices_of("putamen")[1:])
    values, own = head["r2star_map"][inside], weights[inside]
    assert float(row["volume_mm3"]) == pytest.approx(1.8 * own.sum())
    assert float(row["r2star_mean_per_s"]) == pytest.approx(np.average(values, weights=own), rel=1e-5)


def test_weighted_statistics_are_those_of_pen_and_paper(tmp_path: Path) -> None:
    """Values 10, 20, 30, 40 of weight 1, ½, 1, ½, which stand at 0, ¾, 1½, 2¼; the rest weighs nothing."""
    head = a_head()
    (label,) = next(
        one.indices for one in ATLAS.regions if (one.name, one.hemisphere) == ("red_nucleus", "L")
    )
    column = np.argwhere(head["labels"] == label)
    weights = np.ones(GRID.shape, np.float32)
    for place, value, weight in zip(column, (40, 10, 20, 30), (0.5, 1, 0.5, 1)):  # the first four
        head["r2star_map"][tuple(place)], weights[tuple(place)] = value, weight
    for number, place in enumerate(column[4:]):
        head["r2star_map"][tuple(place)], weights[tuple(place)] = 999, np.nan if number % 2 else 0
    table = make(tmp_path, head, weight_map=write_image(tmp_path / "weights.nii.gz", weights, GRID))
    rows = rows_of(table)
    row = rows["CIT168", "red_nucleus", "L"]
    expected = {
        "median": 25,
        "mean": 70 / 3,
        "iqr": 15,
        "p05": 11.5,
        "sd": (366 + 2 / 3) ** 0.5 / (13 / 6) ** 0.5,
    }
    for name, value in expected.items():
        assert float(row[f"r2star_{name}_per_s"]) == pytest.approx(value, rel=1e-5), name
    assert (row["n_voxels"], row["n_valid"], row["volume_mm3"]) == ("4", "4", "5.4")
    told = json.loads(table.sidecar.read_text())["VoxelRule"]["Description"]
    assert told.endswith("by the probability that the atlas gives it.")
    plain = rows_of(make(tmp_path / "plain", a_head()))
    untouched = ("CIT168", "thalamus", "LR")
    assert rows[untouched]["r2star_median_per_s"] == plain[untouched]["r2star_median_per_s"]


def test_warnings_of_the_unit_stand_in_every_row(tmp_path: Path) -> None:
    for number, codes in enumerate((["W202", "W301"], ["W202"])):
        (tmp_path / f"{number}.json").write_text(
            json.dumps([{"code": code, "message": "x"} for code in codes])
        )
    table = make(tmp_path, earlier_notices=(tmp_path / "0.json", tmp_path / "1.json"))
    assert {row["warnings"] for row in rows_of(table).values()} == {"W202;W301"}


@pytest.mark.parametrize("name", ["r2star_map", "stderr_map"])
def test_maps_on_another_grid_are_refused_by_name(tmp_path: Path, name: str) -> None:
    files = write_head(tmp_path, a_head())
    shifted = GRID.affine.copy()
    shifted[0, 3] += 0.5
    files[name] = write_image(
        tmp_path / "other.nii.gz", np.ones(GRID.shape, np.float32), Grid(GRID.shape, shifted)
    )
    with pytest.raises(InputError, match=r"E463.*other\.nii\.gz"):
        write_region_table(**files, atlas="CIT168", entities={"sub": "01"}, n_echoes=6, out_dir=tmp_path)
    assert not list(tmp_path.glob("*.tsv"))


@pytest.mark.parametrize(("value", "fine"), [(3.0000458, True), (5.9999999, True), (3.01, False)])
def test_labels_must_be_whole_numbers(tmp_path: Path, value: float, fine: bool) -> None:
    arrays = a_head()
    labels = arrays["labels"].astype(np.float64)
    labels[labels == round(value)] = value
    arrays["labels"] = labels
    if fine:
        assert make(tmp_path / "a", arrays).table.read_bytes() == make(tmp_path / "b").table.read_bytes()
    else:
        with pytest.raises(InputError, match=r"E461.*labels\.nii\.gz.*3\.01"):
            make(tmp_path, arrays)


def test_coverage_tells_how_much_of_a_region_the_image_has(tmp_path: Path) -> None:
    """The atlas' own labels, shifted in space and cut through the putamen; the transforms undo the shift."""
    whole = read_labels(ATLAS.labels)
    data = np.asarray(whole.data)
    cut = int(np.median(np.nonzero(np.isin(data, indices_of("putamen")))[1]))
    moved = whole.grid.affine.copy()
    moved[:3, 3] += [7, -5, 3]
    grid = Grid((*data[:, :cut].shape,), moved)
    labels = write_image(tmp_path / "labels.nii.gz", data[:, :cut], grid, dtype=np.uint16)
    r2star = write_image(tmp_path / "r2star.nii.gz", np.full(grid.shape, 30, np.float32), grid)
    transforms = (shift(tmp_path / "a.h5", 10, 20, 0), shift(tmp_path / "b.h5", -3, -25, 3))
    table = write_region_table(r2star, labels, "CIT168", {"sub": "01"}, 6, tmp_path, to_template=transforms)
    rows = rows_of(table)
    for region in ATLAS.regions:
        inside = np.isin(data[:, :cut], region.indices).sum() / np.isin(data, region.indices).sum()
        row = rows["CIT168", region.name, region.hemisphere]
        assert float(row["coverage"]) == pytest.approx(inside, abs=1e-5), region
        assert ("W465" in row["warnings"]) == (inside < 0.9)
    assert 0.3 < float(rows["CIT168", "putamen", "LR"]["coverage"]) < 0.7


def indices_of(name: str) -> list[int]:
    return [index for region in ATLAS.regions if region.name == name for index in region.indices]


def shift(path: Path, *by_mm: float) -> Path:
    matrix = np.eye(4)
    matrix[:3, 3] = by_mm
    return write_composite(path, [Affine(matrix)])


def test_without_transforms_the_coverage_of_a_region_at_the_edge_is_unknown(tmp_path: Path) -> None:
    arrays = a_head()
    (number,) = indices_of("caudate")[:1]
    x, y, _ = np.argwhere(arrays["labels"] == number)[0]
    arrays["labels"][x, y, 0:3] = number
    arrays["r2star_map"][x, y, 0:3] = number
    rows = rows_of(make(tmp_path, arrays))
    side = ATLAS.regions[0].hemisphere
    row = rows["CIT168", "caudate", side]
    assert (row["coverage"], row["warnings"], row["n_voxels"]) == ("n/a", "W464", "15")
    assert rows["CIT168", "putamen", side]["coverage"] == "1"
