"""Misuse of other programs' results: one clear line, the right exit code, and nothing or no other unit touched."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from battery import only_line

Run = Callable[..., object]


@pytest.fixture
def dataset(tmp_path: Path, write_participant: Callable[..., Path]) -> Path:
    for label in ("01", "02"):
        write_participant(tmp_path / "bids", label)
    (tmp_path / "tool" / "sub-01" / "anat").mkdir(parents=True)
    return tmp_path / "bids"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--segmentation", "desc-aseg"], "E531", "--derivatives is needed"),
        (["--derivatives", "nowhere", "--segmentation", "dseg"], "E531", "nowhere"),
        (["--derivatives", "TOOL", "--lesions", "no.such/file"], "E530", "--lesions no.such/file"),
        (["--derivatives", "TOOL", "--maps", "T1map", "space-T1w_T1map"], "E530", "T1map twice"),
        (["--iron", "nobody2020"], "E733", "nobody2020"),
        (["--atlas", "CIT168", "Nowhere"], "E450", "'Nowhere'"),
        (["--derivatives", "TOOL", "--maps", "Chimap", "--fit-only"], "E532", "--maps with --fit-only"),
    ],
)  # fmt: skip
def test_a_wrong_option_stops_before_any_work(
    dataset: Path, tmp_path: Path, r2star: Run, words: list[str], code: str, told: str
) -> None:
    given = [str(tmp_path / "tool") if word == "TOOL" else word for word in words]
    done = r2star("app", dataset, tmp_path / "out", "participant", *given)
    assert done.returncode == 2
    line = only_line(done.stderr)
    assert f"R2S-{code}" in line
    assert told in line
    assert not (tmp_path / "out" / "status.tsv").exists()


def test_a_missing_segmentation_is_the_units_own_fault(dataset: Path, tmp_path: Path, r2star: Run) -> None:
    words = ["--derivatives", tmp_path / "tool", "--segmentation", "desc-aseg", "--sloppy"]
    done = r2star("app", dataset, tmp_path / "out", "participant", "--participant-label", "01", *words)
    assert done.returncode == 1
    line = only_line(done.stderr)
    assert "R2S-E470 sub-01" in line
    with (tmp_path / "out/status.tsv").open() as handle:
        (row,) = csv.DictReader(handle, delimiter="\t")
    assert (row["unit"], row["state"], row["code"]) == ("sub-01", "failed_input", "R2S-E470")


def test_a_calibration_of_another_field_is_refused(dataset: Path, tmp_path: Path, r2star: Run) -> None:
    for path in dataset.rglob("*_MEGRE.json"):
        path.write_text(path.read_text().replace('"MagneticFieldStrength": 3', '"MagneticFieldStrength": 7'))
    words = ["--iron", "langkammer2010", "--participant-label", "01"]
    done = r2star("app", dataset, tmp_path / "out", "participant", *words)
    assert done.returncode == 1
    assert "R2S-E731 sub-01" in only_line(done.stderr)


def test_a_broken_derivative_image_is_named(dataset: Path, tmp_path: Path, r2star: Run) -> None:
    path = tmp_path / "tool/sub-01/anat/sub-01_label-lesion_mask.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:20])
    words = [
        "--derivatives",
        tmp_path / "tool",
        "--lesions",
        "label-lesion_mask",
        "--participant-label",
        "01",
    ]
    done = r2star("app", dataset, tmp_path / "out", "participant", *words)
    assert done.returncode == 1
    line = only_line(done.stderr)
    assert path.name in line
    assert "R2S-E1" in line
