"""Composite transforms against ITK itself, and files that must be refused."""

from __future__ import annotations

import resource
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from r2star.errors import EnvironmentFault, ProcessingError
from r2star.images import Grid, Image
from r2star.register import engine
from r2star.register.transforms import (
    STORED_STEP_MM,
    Affine,
    Field,
    jacobian_determinant,
    map_points,
    read_affine,
    read_composite,
    write_composite,
)

OBLIQUE = np.array(
    [[-1.9, 0.3, 0.1, 30.0], [0.31, 1.95, -0.2, -41.0], [0.07, 0.18, 2.2, -20.0], [0, 0, 0, 1.0]]
)


def right_angled(affine: np.ndarray) -> np.ndarray:
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / sizes)
    return np.block([[(left @ right) * sizes, affine[:3, 3:]], [np.zeros((1, 3)), np.ones((1, 1))]])


@pytest.fixture
def chain() -> list[Affine | Field]:
    rng = np.random.default_rng(4)
    grid = Grid((24, 28, 22), right_angled(OBLIQUE))
    field = np.stack([gaussian_filter(rng.normal(size=grid.shape), 4) * 25 for _ in range(3)], axis=-1)
    matrix = np.eye(4)
    matrix[:3, :3] += rng.normal(size=(3, 3)) * 0.05
    matrix[:3, 3] = [3.0, -2.0, 1.0]
    return [Field(field.astype(np.float32), grid), Affine(matrix)]


def points_inside(grid: Grid) -> np.ndarray:
    axes = [np.arange(6, n - 6, dtype=float) for n in grid.shape]
    voxels = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return voxels @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def test_itk_moves_points_as_we_do(tmp_path: Path, chain: list[Affine | Field]) -> None:
    """Coordinate images pulled through the written file by ANTs are our mapped points."""
    grid = chain[0].grid
    path = write_composite(tmp_path / "x.h5", chain)
    axes = np.meshgrid(*[np.arange(n, dtype=float) for n in grid.shape], indexing="ij")
    world = np.stack(axes, axis=-1) @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    wide = Grid(grid.shape, grid.affine)
    pulled = np.stack(
        [engine.apply_transforms(Image(world[..., k].astype(np.float32), wide), grid, [path], "linear", "x")
         for k in range(3)], axis=-1,
    )  # fmt: skip
    expected = map_points(chain, world)
    inside = (slice(8, -8),) * 3  # a coordinate image ends where the grid ends
    np.testing.assert_allclose(pulled[inside], expected[inside], atol=2 * STORED_STEP_MM)
    assert np.abs(expected - world)[inside].max() > 3


def test_reading_gives_back_what_was_written(tmp_path: Path, chain: list[Affine | Field]) -> None:
    back = read_composite(write_composite(tmp_path / "x.h5", chain))
    points = points_inside(chain[0].grid)
    np.testing.assert_allclose(map_points(back, points), map_points(chain, points), atol=2 * STORED_STEP_MM)
    np.testing.assert_allclose(back[1].matrix, chain[1].matrix, atol=1e-12)


def test_equal_chains_give_equal_bytes(tmp_path: Path, chain: list[Affine | Field]) -> None:
    one = write_composite(tmp_path / "one.h5", chain).read_bytes()
    assert write_composite(tmp_path / "two.h5", chain).read_bytes() == one


def test_a_warp_that_is_not_finite_is_not_written(tmp_path: Path, chain: list[Affine | Field]) -> None:
    chain[0].displacement_mm[3, 3, 3, 1] = np.nan
    with pytest.raises(ProcessingError, match="E404"):
        write_composite(tmp_path / "x.h5", chain)
    assert list(tmp_path.iterdir()) == []


def test_a_warp_that_is_not_finite_is_not_read(tmp_path: Path, chain: list[Affine | Field]) -> None:
    path = write_composite(tmp_path / "x.h5", chain)
    with h5py.File(path, "r+") as file:
        file["TransformGroup/2/TransformParameters"][17] = np.nan
    with pytest.raises(ProcessingError, match="not finite"):
        read_composite(path)


@pytest.mark.parametrize(
    ("link", "name", "size"),
    [
        (1, "TransformParameters", 11),
        (1, "TransformFixedParameters", 1),  # numpy would repeat it along three axes
        (2, "TransformParameters", 3 * 60),
        (2, "TransformFixedParameters", 20),
    ],
)
def test_a_transform_of_another_shape_is_not_read(
    tmp_path: Path, chain: list[Affine | Field], link: int, name: str, size: int
) -> None:
    path = write_composite(tmp_path / "x.h5", chain)
    with h5py.File(path, "r+") as file:
        item = file[f"TransformGroup/{link}"]
        values = np.resize(item[name][...], size)
        del item[name]
        item[name] = values
    with pytest.raises(ProcessingError, match=r"E404.*numbers") as caught:
        read_composite(path)
    assert caught.value.path == str(path)


def test_half_a_file_is_not_read(tmp_path: Path, chain: list[Affine | Field]) -> None:
    path = write_composite(tmp_path / "x.h5", chain)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ProcessingError, match=r"E404.*can't be read"):
        read_composite(path)


def test_a_linear_registration_gives_affines_alone(tmp_path: Path, chain: list[Affine | Field]) -> None:
    field, affine = chain
    np.testing.assert_allclose(read_affine(write_composite(tmp_path / "a.h5", [affine])), affine.matrix)
    for others in ([field, affine], []):
        with pytest.raises(ProcessingError, match=r"E404.*linear registration"):
            read_affine(write_composite(tmp_path / "b.h5", others))


def test_something_else_is_no_transform(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ProcessingError, match="E404"):
        read_composite(path)


def test_a_file_cut_short_anywhere_is_no_transform(tmp_path: Path, chain: list[Affine | Field]) -> None:
    whole = write_composite(tmp_path / "x.h5", chain).read_bytes()
    for size in (0, 1, 96, *range(500, len(whole) - 1, max(1, len(whole) // 40)), len(whole) - 1):
        cut = tmp_path / "cut.h5"
        cut.write_bytes(whole[:size])
        with pytest.raises(ProcessingError, match="E404"):
            read_composite(cut)


def test_jacobian_of_an_affine_is_its_determinant(chain: list[Affine | Field]) -> None:
    grid = Grid((6, 7, 8), right_angled(OBLIQUE))
    found = jacobian_determinant([chain[1]], grid)
    np.testing.assert_allclose(found, np.linalg.det(chain[1].matrix), rtol=1e-9)


def test_outside_its_grid_a_field_moves_nothing(chain: list[Affine | Field]) -> None:
    far = np.array([[900.0, 0.0, 0.0]])
    np.testing.assert_array_equal(chain[0].map_points(far), far)


def test_a_transform_that_finds_no_room_is_an_error_of_the_disk_and_leaves_nothing(
    tmp_path: Path, chain: list[Affine | Field]
) -> None:
    _, hard = old = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (1000, 7000, 20_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            with pytest.raises(EnvironmentFault) as error:
                write_composite(tmp_path / "full.h5", chain)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        assert error.value.code == "E601"
        assert list(tmp_path.iterdir()) == []
    assert write_composite(tmp_path / "full.h5", chain).stat().st_size > 20_000
