"""``r2star-fit`` where the noise is estimated first: the images are read by the same rule as for the fit."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from r2star.cli.fit import main


@pytest.fixture
def echoes(tmp_path: Path) -> list[str]:
    """Two echoes of R2* = 40/s beside air, in files whose headers have no orientation."""
    rng = np.random.default_rng(3)
    paths = []
    for number, time_s in enumerate((0.004, 0.014), start=1):
        signal = np.zeros((24, 24, 12))
        signal[6:18, 6:18] = 1000 * np.exp(-40 * time_s)
        noisy = np.hypot(signal + rng.normal(0, 10, signal.shape), rng.normal(0, 10, signal.shape))
        image = nib.Nifti1Image(noisy.astype(np.float32), None)
        image.header.set_zooms((2, 2, 2))
        paths.append(str(tmp_path / f"echo{number}.nii.gz"))
        nib.save(image, paths[-1])
    return paths


def test_an_assumed_orientation_serves_the_noise_too(echoes: list[str], tmp_path: Path) -> None:
    out = tmp_path / "maps"
    words = [*echoes, "--echo-times", "0.004", "0.014", "-o", str(out), "--threads", "1"]
    assert main(words) == 1
    assert main([*words, "--assume-orientation"]) == 0
    tissue = (slice(7, 17), slice(7, 17), slice(None))
    stderr = np.asarray(nib.load(out / "desc-stderr_R2starmap.nii.gz").dataobj)[tissue]
    rate = np.asarray(nib.load(out / "R2starmap.nii.gz").dataobj)[tissue]
    expected = rate.std()
    assert np.median(stderr) == pytest.approx(expected, rel=0.15)


def test_fewer_files_than_echo_times_are_told_as_such(
    echoes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        *echoes,
        "--echo-times",
        "0.014",
        "0.009",
        "0.004",
        "--fit",
        "rician",
        "-o",
        str(tmp_path / "maps"),
    ]
    assert main([*words, "--threads", "1", "--assume-orientation"]) == 1
    assert "R2S-E306" in capsys.readouterr().err
