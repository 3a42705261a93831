"""A start is found from anywhere, and an origin that is far off is told."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from r2star.errors import ProcessingError
from r2star.images import Grid, Image
from r2star.register.align import FAR_MM, coarse_copy, find_start, mutual_information, sample_at


def head() -> Image:
    """A lopsided blob with texture, 4 mm voxels."""
    shape = (44, 54, 46)
    x, y, z = (np.indices(shape) - np.array([22, 27, 23])[:, None, None, None]) * 4.0
    inside = (x / 70) ** 2 + (y / 88) ** 2 + ((z - 0.15 * y) / 72) ** 2 < 1
    rng = np.random.default_rng(0)
    values = inside * (100 + 60 * gaussian_filter(rng.normal(size=shape), 2) / 0.03 * 0.3)
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = [-88, -108, -92]
    return Image(values.astype(np.float32), Grid(shape, affine))


def moved(image: Image, shift: np.ndarray) -> Image:
    affine = image.grid.affine.copy()
    affine[:3, 3] += shift
    return Image(image.data, Grid(image.grid.shape, affine))


@pytest.mark.parametrize("shift", [(0, 0, 0), (30, -20, 45), (500, 0, 0), (-300, 900, 120)])
def test_a_shifted_copy_is_found_to_half_a_coarse_voxel(shift: tuple[int, int, int]) -> None:
    fixed = head()
    start, notices = find_start(fixed, moved(fixed, np.array(shift)), "x")
    np.testing.assert_allclose(start.map_points(np.zeros(3)), shift, atol=4.0)
    far = np.linalg.norm(shift) > FAR_MM
    assert [notice.code for notice in notices] == (["W441"] if far else [])


def test_an_empty_image_is_an_error() -> None:
    fixed = head()
    with pytest.raises(ProcessingError, match="E405"):
        find_start(fixed, Image(np.zeros(fixed.grid.shape, np.float32), fixed.grid), "x")


@pytest.mark.parametrize("step_mm", [2.0, 5.0, 9.0, 40.0])
def test_a_coarse_copy_is_smoothed_and_then_interpolated(step_mm: float) -> None:
    """The same as a whole volume smoothed by scipy, read at the new voxels; NaN counts as 0."""
    image = head()
    image.data[3, 4, 5] = np.nan
    coarse = coarse_copy(image, step_mm)
    sigma = 0.35 * step_mm / 4 if step_mm > 4 else 0.0
    smooth = gaussian_filter(np.nan_to_num(image.data).astype(np.float64), sigma, mode="nearest")
    places = np.stack(np.meshgrid(*[np.arange(n) for n in coarse.grid.shape], indexing="ij"), -1)
    to_voxels = np.linalg.inv(image.grid.affine) @ coarse.grid.affine
    voxels = np.clip(places @ to_voxels[:3, :3].T + to_voxels[:3, 3], 0, np.array(smooth.shape) - 1)
    world = voxels @ image.grid.affine[:3, :3].T + image.grid.affine[:3, 3]
    expected = sample_at(Image(smooth, image.grid), world)
    # sample_at reads 32-bit values
    np.testing.assert_allclose(coarse.data, expected, atol=1e-5 * np.nanmax(image.data))
    assert coarse.grid.shape == tuple(max(int(np.ceil(n * min(4 / step_mm, 1))), 2) for n in image.grid.shape)


def test_a_coarse_copy_covers_the_same_place() -> None:
    fine = head()
    axes = np.indices(fine.grid.shape).astype(float)
    world = np.moveaxis(axes, 0, -1) @ fine.grid.affine[:3, :3].T + fine.grid.affine[:3, 3]
    ramp = Image((world @ np.array([1.0, 2.0, -0.5])).astype(np.float32), fine.grid)
    coarse = coarse_copy(ramp, 8.0)
    points = np.array([[0.0, 0, 0], [20, -30, 10], [-15, 25, -40]])
    assert max(coarse.grid.voxel_size_mm) == pytest.approx(8.0)
    np.testing.assert_allclose(sample_at(coarse, points), points @ [1.0, 2.0, -0.5], atol=1e-3)


def test_mutual_information_of_a_copy_is_its_entropy() -> None:
    """Equal shares in 24 bins: ln 24; independent values: nothing but the bias (bins − 1)² / 2n."""
    values = np.tile(np.arange(24.0), 500)
    for copy in (values, values[::-1], 7 - 3 * values):
        assert mutual_information(values, copy) == pytest.approx(np.log(24), abs=0.1)
    rng = np.random.default_rng(1)
    one, other = rng.uniform(size=(2, 200_000))
    assert mutual_information(one, other) == pytest.approx(23**2 / (2 * 200_000), rel=0.25)
