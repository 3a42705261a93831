"""Images with one end several times as bright as the other: evened out, and placed on each other all the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from round_head import BRAIN_MM, GRID, HEAD_MM, MASK, PLACES_MM, within
from scipy.ndimage import affine_transform, gaussian_filter

from r2star.images import Image
from r2star.register import extent
from r2star.register.extent import register_by_extent, register_rigid_by_extent
from r2star.register.shading import is_shaded, without_shading
from r2star.register.transforms import Affine, Warp, map_points

HEAD, BRAIN, CORE = within(HEAD_MM), within(BRAIN_MM), within(BRAIN_MM - 12)


def head(
    grey: float,
    white: float,
    fold: float = 1.0,
    toward: tuple[float, float, float] = (0.5, 0.4, -0.77),
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Image:
    """A folded brain of two tissues, dark around that, bright scalp; brighter by ``fold`` at one end; then noise."""
    rng = np.random.default_rng(3)
    folds = gaussian_filter(rng.normal(size=GRID.shape), 1.5) > 0
    values = np.where(BRAIN, np.where(folds, grey, white), 0.0)
    values[HEAD & ~within(HEAD_MM - 9)] = 120
    values = affine_transform(values, np.eye(3), shift, order=1, mode="nearest")
    values *= fold ** (PLACES_MM @ np.array(toward) / 180)
    noises = np.random.default_rng(int(grey)).normal(size=(2, *GRID.shape))
    return Image(np.hypot(values + noises[0], noises[1]).astype(np.float32), GRID)


@pytest.mark.parametrize("fold", [1.0, 1.5])
def test_an_even_head_is_not_called_shaded(fold: float) -> None:
    assert not is_shaded(head(60, 100, fold))


def test_a_shaded_head_is_told_and_an_empty_image_is_none() -> None:
    assert is_shaded(head(60, 100, 7.0))
    assert not is_shaded(Image(np.zeros(GRID.shape, np.float32), GRID))


@pytest.mark.parametrize(("within_mm", "least_contrast"), [(6.0, 1.4), (20.0, 1.6)])
def test_shading_goes_and_tissue_stays(within_mm: float, least_contrast: float) -> None:
    """An evened head is the same with and without shading, up to a factor. Tissues differ by 100/60 = 1.67 before."""
    plain, dark = (
        np.asarray(without_shading(image, within_mm).data) for image in (head(60, 100), head(60, 100, 5.0))
    )
    quotient = (dark / plain)[CORE]
    assert np.percentile(quotient, 99) / np.percentile(quotient, 1) < 1.35  # of 5
    tissue = np.asarray(head(60, 100).data)[CORE] > 80
    contrast = np.median(dark[CORE][tissue]) / np.median(dark[CORE][~tissue])
    assert least_contrast < contrast < 1.7


def test_air_stays_dark() -> None:
    """Divided by next to nothing, the noise of the air would be as bright as the head."""
    evened = np.asarray(without_shading(head(60, 100, 5.0)).data)
    air = ~within(HEAD_MM + 6)
    assert np.percentile(evened[air], 99.9) < 0.2 * np.median(evened[CORE])


def test_shaded_images_of_one_head_are_laid_on_each_other(tmp_path: Path) -> None:
    """Shaded from other ends by as much as 7 T does, and without what shades."""
    shift = (1.5, -1.0, 2.0)
    fixed, moving = (
        without_shading(image, 6.0)
        for image in (head(60, 100, 9.0), head(90, 50, 9.0, (-0.6, -0.3, 0.74), shift))
    )
    found = register_rigid_by_extent(fixed, MASK, moving, work_dir=tmp_path, seed=1).warp
    points = PLACES_MM[CORE][::50]
    away = map_points(found.fixed_to_moving, points) - points + 3.0 * np.array(shift)
    assert np.linalg.norm(away, axis=1).max() < 1.0


@pytest.mark.parametrize(
    ("fold", "first_mm", "second_mm", "tries", "kept_mm"),
    [
        (7.0, 20.0, 0.0, 2, 0.0),  # missed, and found without shading
        (7.0, 0.0, 20.0, 1, 0.0),  # found as it is
        (7.0, 20.0, 60.0, 2, 20.0),  # missed both ways
        (1.0, 20.0, 0.0, 1, 20.0),  # shading is not why
    ],
)
@pytest.mark.parametrize("one_head", [True, False])
def test_a_shaded_head_that_is_missed_is_tried_without_its_shading(
    monkeypatch: pytest.MonkeyPatch,
    fold: float,
    first_mm: float,
    second_mm: float,
    tries: int,
    kept_mm: float,
    *,
    one_head: bool,
) -> None:
    tried: list[tuple[Image, Image]] = []

    def registered(fixed: Image, moving: Image, **_: object) -> Warp:
        tried.append((fixed, moving))
        shift = np.eye(4)
        shift[0, 3] = second_mm if len(tried) > 1 else first_mm
        return Warp([Affine(shift)], [Affine(np.linalg.inv(shift))])

    monkeypatch.setattr(extent, "register_rigid" if one_head else "register_linear", registered)
    monkeypatch.setattr(extent, "shows_head", lambda *_: True)
    monkeypatch.setattr(extent, "LARGEST_BRAIN_MM3", 0.0)
    register = register_rigid_by_extent if one_head else register_by_extent
    found = register(head(60, 100), MASK, head(60, 100, fold))
    assert len(tried) == tries
    assert read_shift(found.warp) == kept_mm
    assert (found.moving is tried[0][1]) is (kept_mm == first_mm)


def read_shift(warp: Warp) -> float:
    return float(map_points(warp.fixed_to_moving, np.zeros((1, 3)))[0, 0])
