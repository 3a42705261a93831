"""From echo files to maps: the same numbers as the arrays give, slab by slab, and faults by name."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import least_squares

from r2star.errors import InputError
from r2star.fit import Status, fit_decay
from r2star.images import Grid, read_image, write_image
from r2star.steps import fit as fit_step
from r2star.steps.fit import fit_maps
from r2star.steps.inputs import check_inputs
from r2star.steps.noise import find_noise

TIMES = (0.004, 0.009, 0.016, 0.025)
GRID = Grid((11, 9, 14), np.diag([1.5, 1.5, 2.0, 1.0]))


@pytest.fixture
def echoes(tmp_path: Path) -> tuple[tuple[Path, ...], NDArray[np.float32]]:
    """Four echoes of a head with air around it, σ = 8."""
    rng = np.random.default_rng(5)
    s0 = np.where(np.indices(GRID.shape)[2] < 8, 900.0, 0.0)
    clean = s0[..., None] * np.exp(-rng.uniform(10, 60, GRID.shape)[..., None] * np.array(TIMES))
    noisy = np.hypot(clean + rng.normal(0, 8, clean.shape), rng.normal(0, 8, clean.shape)).astype(np.float32)
    paths = tuple(write_image(tmp_path / f"echo{e}.nii.gz", noisy[..., e], GRID) for e in range(len(TIMES)))
    return paths, noisy


def read(path: Path) -> NDArray[np.float32]:
    return np.asarray(nib.load(path).dataobj)


def test_files_give_what_arrays_give_whatever_the_slab(
    echoes: tuple[tuple[Path, ...], NDArray[np.float32]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, signal = echoes
    expected = fit_decay(signal, TIMES)
    for number, slab_bytes in enumerate((1, 3 * 11 * 9 * 4 * 4, 2**26)):
        monkeypatch.setattr(fit_step, "SLAB_BYTES", slab_bytes)
        out = tmp_path / str(number)
        out.mkdir()
        maps = fit_maps(paths, TIMES, out, n_threads=1 + number % 2)
        np.testing.assert_array_equal(read(maps.r2star_map), expected.r2star_per_s)
        np.testing.assert_array_equal(read(maps.stderr_map), expected.r2star_se_per_s)
        np.testing.assert_array_equal(read(maps.s0_map), expected.s0)
        np.testing.assert_array_equal(read(maps.status_map), expected.status)


def test_one_file_of_all_echoes_and_any_order_give_the_same(
    echoes: tuple[tuple[Path, ...], NDArray[np.float32]], tmp_path: Path
) -> None:
    paths, signal = echoes
    whole = write_image(tmp_path / "all.nii.gz", signal, GRID)
    results = []
    for name, files, times in (("a", paths, TIMES), ("b", (whole,), TIMES), ("c", paths[::-1], TIMES[::-1])):
        (tmp_path / name).mkdir()
        results.append(fit_maps(files, times, tmp_path / name).r2star_map.read_bytes())
    assert results[0] == results[1] == results[2]


def test_t2star_is_the_inverse_and_sidecars_tell_units(
    echoes: tuple[tuple[Path, ...], NDArray[np.float32]], tmp_path: Path
) -> None:
    maps = fit_maps(echoes[0], TIMES, tmp_path)
    r2star, t2star = read(maps.r2star_map), read(tmp_path / "T2starmap.nii.gz")
    falling = r2star > 0
    np.testing.assert_allclose(t2star[falling], 1 / r2star[falling], rtol=1e-6)
    assert np.isnan(t2star[~falling]).all()
    units = {
        name: json.loads((tmp_path / f"{name}.json").read_text())["Units"]
        for name in ("R2starmap", "T2starmap")
    }
    assert units == {"R2starmap": "1/s", "T2starmap": "s"}


def test_sigma_marks_air_and_gives_two_echoes_their_error(
    echoes: tuple[tuple[Path, ...], NDArray[np.float32]], tmp_path: Path
) -> None:
    paths, signal = echoes
    noise = tmp_path / "noise.json"
    noise.write_text(json.dumps({"sigma": 8.0, "source": "given", "n_voxels": 0}))
    maps = fit_maps(paths, TIMES, tmp_path, noise=noise)
    dark = signal.max(axis=-1) < 24
    assert dark.sum() > 300
    assert np.isnan(read(maps.r2star_map)[dark]).all()
    assert (read(maps.status_map)[dark] == Status.BELOW_NOISE_FLOOR).all()
    (tmp_path / "two").mkdir()
    two = fit_maps(paths[:2], TIMES[:2], tmp_path / "two", noise=noise)
    bright = signal[..., 1] > 300
    # error propagation of ln(S1/S2)/ΔT
    expected = 8.0 * np.sqrt((1 / signal[..., :2].astype(float) ** 2).sum(-1)) / (TIMES[1] - TIMES[0])
    np.testing.assert_allclose(read(two.stderr_map)[bright], expected[bright], rtol=1e-4)
    (tmp_path / "none").mkdir()
    assert np.isnan(read(fit_maps(paths[:2], TIMES[:2], tmp_path / "none").stderr_map)).all()


def test_noise_is_found_from_the_air(
    echoes: tuple[tuple[Path, ...], NDArray[np.float32]], tmp_path: Path
) -> None:
    for path in (
        find_noise(echoes[0], TIMES, tmp_path).noise,
        check_inputs(echoes[0], TIMES, tmp_path).noise,
    ):
        told = json.loads(path.read_text())
        assert told["source"] == "background"
        assert told["sigma"] == pytest.approx(8.0, rel=0.05)


def test_echoes_on_different_grids_are_refused(
    echoes: tuple[tuple[Path, ...], NDArray[np.float32]], tmp_path: Path
) -> None:
    paths, signal = echoes
    moved = Grid(GRID.shape, GRID.affine + np.array([[0, 0, 0, 5], *[[0] * 4] * 3]))
    other = write_image(tmp_path / "moved.nii.gz", signal[..., 3], moved)
    with pytest.raises(InputError) as caught:
        fit_maps((*paths[:3], other), TIMES, tmp_path)
    assert (caught.value.code, caught.value.path) == ("E307", str(other))
    assert not (tmp_path / "R2starmap.nii.gz").exists()


def test_real_crop_agrees_with_an_independent_solver(shared_data: Path, tmp_path: Path) -> None:
    times = np.array([0.004, 0.008, 0.012])
    path = shared_data / "real-crop" / "mag_4d.nii.gz"
    maps = fit_maps((path,), tuple(times), tmp_path)
    signal = np.asarray(read_image(path).data, np.float64)
    r2star, status = read(maps.r2star_map), read(maps.status_map)
    voxels = np.argwhere(signal.min(axis=-1) > 0)[::53][:2000]
    agreed = explained = 0
    for voxel in voxels:
        y = signal[tuple(voxel)]
        start = [y[0] * 1.1, np.log(y[0] / y[-1]) / (times[-1] - times[0])]
        fit = least_squares(
            lambda p, y=y: p[0] * np.exp(-p[1] * times) - y,
            start,
            x_scale=[y[0], 30],
            xtol=1e-14,
            ftol=1e-14,
            gtol=1e-14,
        )
        found = r2star[tuple(voxel)]
        agreed += bool(abs(found - fit.x[1]) <= 1e-4 * max(abs(fit.x[1]), 1.0))
        explained += int(status[tuple(voxel)] not in (Status.OK, Status.RISING))
    assert len(voxels) > 1500
    assert agreed >= 0.999 * len(voxels)
    assert agreed + explained >= len(voxels)
