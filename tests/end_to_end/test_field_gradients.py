"""A correction for field gradients that can't be carried out is refused through the command line, in one line."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_correction_with_phase_in_doubt_is_refused_before_any_work(
    tmp_path: Path, write_participant: Callable[..., Path], r2star: Run
) -> None:
    folder = write_participant(tmp_path / "bids")
    for path in sorted(folder.glob("*_MEGRE.nii.gz")):
        phase = path.with_name(path.name.replace("_MEGRE", "_part-phase_MEGRE"))
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.zeros(image.shape, np.float32), image.affine), phase)
        sidecar = path.name.replace(".nii.gz", ".json")
        phase.with_name(sidecar.replace("_MEGRE", "_part-phase_MEGRE")).write_text(
            (folder / sidecar).read_text()
        )
        path.rename(path.with_name(path.name.replace("_MEGRE", "_part-mag_MEGRE")))
        (folder / sidecar).rename(folder / sidecar.replace("_MEGRE", "_part-mag_MEGRE"))
    out = tmp_path / "out"
    done = r2star(
        "app", tmp_path / "bids", out, "participant", "-w", tmp_path / "work", "--field-gradient", "correct"
    )
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    assert len(lines) == 1, done.stderr
    assert "R2S-E362" in lines[0]
    assert "part-phase_MEGRE.nii.gz" in lines[0]
    with (out / "status.tsv").open() as handle:
        (row,) = csv.DictReader(handle, delimiter="\t")
    assert (row["state"], row["code"].removeprefix("R2S-")) == ("failed_input", "E362")
    assert not (out / "sub-01").exists()


@pytest.mark.parametrize(("options", "code"), [(["--fit", "loglinear"], "E529"), (["--fit-only"], "E530")])
def test_a_correction_that_nothing_would_carry_out_is_refused(
    tmp_path: Path, r2star: Run, options: list[str], code: str
) -> None:
    (tmp_path / "bids").mkdir()
    done = r2star(
        "app", tmp_path / "bids", tmp_path / "out", "participant", "--field-gradient", "correct", *options
    )
    assert done.returncode == 2
    assert f"R2S-{code}" in done.stderr
