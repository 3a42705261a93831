"""Images handed to ANTs lie where they did, and an ANTs that lies is caught."""

from __future__ import annotations

from pathlib import Path

import ants
import numpy as np
import pytest

from r2star.errors import ProcessingError
from r2star.images import Grid, Image
from r2star.register import engine
from r2star.register.linear import register_linear

ANGLE = np.deg2rad(20)
GRIDS = {
    "RAS": np.diag([1.0, 1.5, 2.0, 1.0]),
    "LAS": np.array([[-1.0, 0, 0, 40], [0, 1.5, 0, -7], [0, 0, 2.0, 3], [0, 0, 0, 1]]),
    "oblique": np.array(
        [[0, -1.5 * np.sin(ANGLE), 2 * np.cos(ANGLE), 11], [-1, 0, 0, 5],
         [0, 1.5 * np.cos(ANGLE), 2 * np.sin(ANGLE), -9], [0, 0, 0, 1]]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRIDS)
def test_voxels_keep_their_world_coordinates(name: str) -> None:
    grid = Grid((5, 6, 7), GRIDS[name])
    data = np.arange(210, dtype=np.float32).reshape(grid.shape)
    image = engine.to_ants(Image(data, grid))
    index = np.array([4, 1, 3])
    lps = ants.transform_index_to_physical_point(image, index)
    expected = grid.affine @ [4, 1, 3, 1]
    np.testing.assert_allclose(lps * [-1, -1, 1], expected[:3], atol=1e-5)
    assert image[4, 1, 3] == data[4, 1, 3]


def test_values_that_are_not_finite_reach_ants_as_0() -> None:
    data = np.ones((4, 4, 4), np.float32)
    data[1, 1, 1], data[2, 2, 2] = np.nan, np.inf
    numbers = engine.to_ants(Image(data, Grid((4, 4, 4), np.eye(4)))).numpy()
    assert numbers[1, 1, 1] == numbers[2, 2, 2] == 0
    assert numbers.sum() == 62


def test_success_without_an_output_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ants, "registration", lambda *_: 0)
    blob = np.exp(-((np.indices((24, 24, 24)) - 12.0) ** 2).sum(axis=0) / 40).astype(np.float32)
    image = Image(blob, Grid(blob.shape, np.diag([8.0, 8, 8, 1])))
    with pytest.raises(ProcessingError, match=r"E402.*wrote no") as caught:
        register_linear(image, image, kinds=("Rigid",), work_dir=tmp_path, seed=1)
    assert "reinstall" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


def test_an_old_output_does_not_pass_for_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ants, "registration", lambda *_: 0)
    old = tmp_path / "xComposite.h5"
    old.write_bytes(b"old")
    with pytest.raises(ProcessingError, match="E402"):
        engine.run_registration([], 1, [old])


@pytest.mark.parametrize("bad", [np.full((3, 3, 3), np.nan, np.float32), np.zeros((3, 3, 2), np.float32)])
def test_an_output_that_cannot_be_used_is_an_error(bad: np.ndarray) -> None:
    image = ants.from_numpy(bad, direction=np.diag([-1.0, -1, 1]))
    with pytest.raises(ProcessingError, match=r"E403.*(shape|finite)"):
        engine.from_ants(image, Grid((3, 3, 3), np.eye(4)), "a map")


@pytest.mark.parametrize("name", GRIDS)
def test_an_output_in_another_place_is_an_error(name: str) -> None:
    grid = Grid((5, 6, 7), GRIDS[name])
    image = engine.to_ants(Image(np.ones(grid.shape, np.float32), grid))
    assert (engine.from_ants(image, grid, "a map") == 1).all()
    changes = {"origin": np.array(image.origin) + 0.5, "spacing": np.array(image.spacing) * 1.01}
    for key, changed in changes.items():
        moved = image.clone()
        getattr(moved, f"set_{key}")(tuple(changed))
        with pytest.raises(ProcessingError, match=r"E403.*another place"):
            engine.from_ants(moved, grid, "a map")


def test_a_missing_transform_is_an_error(tmp_path: Path) -> None:
    image = Image(np.zeros((3, 3, 3), np.float32), Grid((3, 3, 3), np.eye(4)))
    with pytest.raises(ProcessingError, match=r"E402.*the labels"):
        engine.apply_transforms(image, image.grid, [tmp_path / "none.h5"], "linear", "the labels")


def test_a_late_change_of_threads_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
    notice = engine.limit_threads(3)
    assert notice is not None
    assert notice.code == "W440"
    monkeypatch.setenv("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "2")
    assert engine.limit_threads(2) is None
