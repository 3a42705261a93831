"""Denoising from file to file: what the fit reads, what the sidecars tell, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from r2star.cli.app import main as app_main
from r2star.cli.fit import main as fit_main
from r2star.errors import EnvironmentFault, InputError, UsageError
from r2star.fit import denoise, denoise_mppca, fit_decay
from r2star.images import Grid, read_image, write_image
from r2star.steps.denoise import denoise_echoes
from r2star.steps.noise import find_noise

TIMES = (0.004, 0.008, 0.012, 0.016, 0.020, 0.024)
GRID = Grid((14, 12, 10), np.diag([2.0, 2.0, 2.0, 1.0]))
SIGMA = 15.0


@pytest.fixture
def echoes(tmp_path: Path) -> tuple[Path, ...]:
    """Six echoes of tissue whose R2* rises along x, with a wall of air."""
    pytest.importorskip("dipy", reason="the extra 'denoise' is not installed")
    rng = np.random.default_rng(0)
    r2star = np.broadcast_to(np.linspace(15, 45, 14)[:, None, None], GRID.shape)
    s0 = np.where(np.indices(GRID.shape)[1] < 10, 800.0, 0.0)
    clean = s0[..., None] * np.exp(-r2star[..., None] * np.array(TIMES))
    noisy = np.hypot(clean + rng.normal(0, SIGMA, clean.shape), rng.normal(0, SIGMA, clean.shape))
    return tuple(
        write_image(tmp_path / f"echo{e}.nii.gz", noisy[..., e].astype(np.float32), GRID) for e in range(6)
    )


def test_the_echoes_of_tissue_are_denoised_and_the_change_is_told(
    echoes: tuple[Path, ...], tmp_path: Path
) -> None:
    noise = find_noise(echoes, TIMES, tmp_path, SIGMA).noise
    done = denoise_echoes(echoes, TIMES, tmp_path, noise=noise)
    signal = np.stack([read_image(path).data for path in echoes], -1)
    found = np.stack([read_image(path).data for path in done.magnitude], -1)
    tissue = signal.max(axis=-1) >= 5 * SIGMA
    assert 0.7 < tissue.mean() < 0.9
    np.testing.assert_array_equal(found[~tissue], signal[~tissue])
    np.testing.assert_array_equal(found, denoise_mppca(signal, mask=tissue).signal)
    before, after = fit_decay(signal[tissue], TIMES), fit_decay(found[tissue], TIMES)
    told = json.loads(done.denoising.read_text())
    assert told["ResidualRatio"] == pytest.approx(np.median(after.residual / before.residual), rel=1e-3)
    assert told["ResidualRatio"] < 0.9
    assert told["NoiseSigma"] == pytest.approx(SIGMA, rel=0.15)
    assert told["DenoisedVoxels"] == tissue.sum()
    assert not done.notices


def test_the_command_denoises_and_every_map_says_so(
    echoes: tuple[Path, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = ("--echo-times", *map(str, TIMES))
    for name, extra in (("plain", ()), ("denoised", ("--denoise", "mppca"))):
        assert fit_main([*map(str, echoes), *times, "-o", str(tmp_path / name), *extra]) == 0
    assert "MP-PCA: residuals are 0." in capsys.readouterr().out
    sidecars = {
        name: json.loads((tmp_path / name / "R2starmap.json").read_text()) for name in ("plain", "denoised")
    }
    assert "Denoising" not in sidecars["plain"]
    assert sidecars["denoised"]["Denoising"]["Method"] == "MP-PCA"
    core = np.s_[3:-3, 2:7, 2:-2]
    spread = {}
    for name in sidecars:
        r2star = read_image(tmp_path / name / "R2starmap.nii.gz").data
        spread[name] = np.std(r2star[core] - r2star[core].mean(axis=(1, 2), keepdims=True))
    assert spread["denoised"] < 0.8 * spread["plain"]


def test_a_unit_is_denoised_and_its_maps_say_so(
    tmp_path: Path, write_participant: Callable[..., Path]
) -> None:
    pytest.importorskip("dipy", reason="the extra 'denoise' is not installed")
    write_participant(tmp_path / "bids", shape=(12, 10, 8))
    command = [str(tmp_path / "bids"), str(tmp_path / "out"), "participant", "--fit-only"]
    assert app_main([*command, "--denoise", "mppca"]) == 0
    sidecar = json.loads((tmp_path / "out/sub-01/anat/sub-01_R2starmap.json").read_text())
    assert 0 < sidecar["Denoising"]["ResidualRatio"] < 1
    assert "EchoTime" in sidecar
    assert app_main(command) == UsageError.exit_code  # results with and without never mix


def test_one_file_of_all_echoes_is_denoised_alike(echoes: tuple[Path, ...], tmp_path: Path) -> None:
    signal = np.stack([read_image(path).data for path in echoes], -1)
    whole = write_image(tmp_path / "all.nii.gz", signal, GRID)
    results = []
    for name, files in (("many", echoes), ("one", (whole,))):
        (tmp_path / name).mkdir()
        done = denoise_echoes(files, TIMES, tmp_path / name)
        images = [read_image(path).data for path in done.magnitude]
        results.append(np.stack(images, -1) if len(images) > 1 else images[0])
    np.testing.assert_array_equal(*results)


def test_too_few_echoes_and_a_slab_too_thin_are_refused(echoes: tuple[Path, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3 or more") as refused:
        denoise_echoes(echoes[:2], TIMES[:2], tmp_path)
    assert refused.value.code == "E336"
    thin = Grid((14, 12, 3), np.diag([2.0, 2.0, 2.0, 1.0]))
    paths = tuple(
        write_image(tmp_path / f"thin{e}.nii", np.full(thin.shape, 100.0 - e, np.float32), thin)
        for e in range(3)
    )
    with pytest.raises(InputError, match="5 voxels a side"):
        denoise_echoes(paths, TIMES[:3], tmp_path)


def test_residuals_that_rise_are_doubted(
    echoes: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(signal: np.ndarray, *, mask: np.ndarray) -> denoise.Denoised:
        noise = np.random.default_rng(1).normal(0, 60, signal.shape)
        spoilt = np.abs(signal + noise).astype(np.float32)
        return denoise.Denoised(spoilt, np.ones(mask.shape, np.float32))

    monkeypatch.setattr("r2star.steps.denoise.denoise_mppca", spoil)
    (notice,) = denoise_echoes(echoes, TIMES, tmp_path).notices
    assert notice.code == "W304"
    assert "times as large" in notice.message


def test_a_missing_dipy_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "dipy.denoise.localpca", None)
    with pytest.raises(EnvironmentFault, match="E640"):
        denoise.require_dipy()
