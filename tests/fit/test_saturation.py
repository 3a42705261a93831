"""Saturation is found where a signal was cut off, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from r2star.fit import Status, fit_decay
from r2star.fit.saturation import find_pile_up, is_saturation
from r2star.images import Grid, read_image, write_image
from r2star.steps.fit import fit_maps
from r2star.steps.inputs import check_inputs
from r2star.steps.noise import find_noise

TIMES = (0.004, 0.009, 0.014, 0.019)
SHAPE = (24, 20, 16)
GRID = Grid(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]))


def head(ceiling: float = np.inf, kind: type = np.float32) -> np.ndarray:
    """Echoes (X, Y, Z, E) of a head in air with a bright spot, cut off at ``ceiling``."""
    rng = np.random.default_rng(3)
    x, y, z = (np.linspace(-1, 1, n).reshape(s) for n, s in zip(SHAPE, ((-1, 1, 1), (1, -1, 1), (1, 1, -1))))
    s0 = np.where(x**2 + y**2 + z**2 < 0.9, 700.0, 0.0) + 900 * np.exp(-((x - 0.3) ** 2 + y**2 + z**2) / 0.1)
    clean = s0[..., None] * np.exp(-rng.uniform(15, 40, SHAPE)[..., None] * np.array(TIMES))
    noisy = np.hypot(clean + rng.normal(0, 8, clean.shape), rng.normal(0, 8, clean.shape))
    return np.minimum(noisy, ceiling).astype(kind)


def found(signal: np.ndarray) -> float | None:
    pile = find_pile_up(signal[..., 0])
    return pile.level if pile is not None and is_saturation(pile, signal[..., 1]) else None


@pytest.mark.parametrize("kind", [np.float32, np.int16])
@pytest.mark.parametrize("ceiling", [700.0, 900.0])
def test_a_cut_off_signal_is_found(kind: type, ceiling: float) -> None:
    assert found(head(ceiling, kind)) == ceiling


def test_voxels_that_are_no_numbers_hide_no_saturation() -> None:
    signal = head(900.0)
    signal[:3, ..., 0], signal[3, ..., 0] = np.nan, np.inf
    assert found(signal) == 900.0


def test_whole_and_equal_signals_are_not_taken_for_saturated() -> None:
    rng = np.random.default_rng(0)
    assert found(head()) is None
    assert found(head(kind=np.int16)) is None
    assert found(np.broadcast_to(np.array([9.0, 6.0, 4.0, 3.0]), (*SHAPE, 4))) is None  # a uniform phantom
    assert found(np.zeros((*SHAPE, 4))) is None
    assert found(np.full((*SHAPE, 4), np.nan)) is None
    assert found(rng.integers(0, 16, (*SHAPE, 4))) is None  # coarse numbers


def test_saturated_voxels_of_a_unit_lose_the_echo_and_say_so(tmp_path: Path) -> None:
    signal = head(900.0)
    paths = tuple(write_image(tmp_path / f"echo{e}.nii.gz", signal[..., e], GRID) for e in range(4))
    checked = check_inputs(paths, TIMES, tmp_path)
    (notice,) = [one for one in checked.notices if one.code == "W305"]
    cut = signal[..., 0] == 900.0
    assert f"{cut.sum()} voxels" in notice.message
    maps = fit_maps(checked.magnitude, TIMES, tmp_path, noise=checked.noise)
    status, r2star = (read_image(path).data for path in (maps.status_map, maps.r2star_map))
    np.testing.assert_array_equal(np.isin(status[cut], [Status.SATURATED, Status.TOO_FEW_ECHOES]), True)
    assert not (status[~cut] == Status.SATURATED).any()
    later = cut & (signal[..., 1] < 900.0)
    assert later.sum() > 20
    np.testing.assert_array_equal(r2star[later], fit_decay(signal[later][:, 1:], TIMES[1:]).r2star_per_s)
    outside = find_noise(paths, TIMES, tmp_path)
    assert json.loads(outside.noise.read_text()) == json.loads(checked.noise.read_text())
    assert [one.message for one in outside.notices] == [notice.message]


@pytest.mark.parametrize("in_one", [False, True])
@pytest.mark.parametrize("sigma", [None, 3.0])
def test_saturation_is_looked_for_where_no_noise_is_estimated(
    tmp_path: Path, sigma: float | None, in_one: bool
) -> None:
    """In the two echoes that are first in time, whatever their place among the files."""
    signal, times = head(900.0)[..., [2, 0, 3, 1]], tuple(TIMES[echo] for echo in (2, 0, 3, 1))
    if in_one:
        paths = [write_image(tmp_path / "all.nii.gz", signal, GRID)]
    else:
        paths = [write_image(tmp_path / f"echo{e}.nii.gz", signal[..., e], GRID) for e in range(4)]
    found = find_noise(paths, times, tmp_path, sigma, estimate=False)
    told = json.loads(found.noise.read_text())
    assert (told["sigma"], told["saturation"]) == (sigma, 900.0)
    assert [notice.code for notice in found.notices] == ["W305"]
