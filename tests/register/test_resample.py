"""Labels and maps on other grids: exact numbers, any storage order, NaN without weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from r2star.errors import ProcessingError
from r2star.images import Grid, Image, to_canonical
from r2star.register import engine, resample
from r2star.register.transforms import Affine, write_composite

LABELS = Grid((30, 32, 28), np.diag([1.0, 1, 1, 1]))
SHIFT = np.array([2.0, -1.0, 3.0])


@pytest.fixture
def shift(tmp_path: Path) -> Path:
    matrix = np.eye(4)
    matrix[:3, 3] = SHIFT
    return write_composite(tmp_path / "shift.h5", [Affine(matrix)])


def two_blocks() -> np.ndarray:
    labels = np.zeros(LABELS.shape, np.uint16)
    labels[5:15, 6:20, 7:15] = 301
    labels[15:25, 6:20, 7:15] = 7
    return labels


def test_labels_move_by_the_transform_exactly(shift: Path) -> None:
    labels = two_blocks()
    found = resample.resample_labels_array(Image(labels, LABELS), [shift], LABELS)
    # the transform maps x to x + shift, so that voxel v shows the label of v + shift
    np.testing.assert_array_equal(found[3:13, 7:21, 4:12], 301)
    assert (found == 301).sum() == (labels == 301).sum()
    assert (found == 7).sum() == (labels == 7).sum()


@pytest.mark.parametrize("flip", [(-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
def test_storage_order_does_not_matter(shift: Path, flip: tuple[int, int, int]) -> None:
    labels = Image(two_blocks(), LABELS)
    scale = np.diag([*(1.1 * np.array(flip)), 1.0])
    scale[:3, 3] = [0.3 if f > 0 else 0.3 + 1.1 * 24 for f in flip]
    stored = Grid((25, 25, 25), scale)
    plain = resample.resample_labels_array(labels, [shift], stored.canonical())
    turned = resample.resample_labels_array(labels, [shift], stored)
    np.testing.assert_array_equal(to_canonical(turned, stored)[0], plain)
    assert (plain > 0).sum() > 500


def test_a_large_voxel_takes_its_commonest_label() -> None:
    """2 mm voxels over 1 mm labels: at each the majority of the eight, counted here without ITK."""
    labels = (
        np.random.default_rng(3).choice([0, 2, 9], size=LABELS.shape, p=[0.2, 0.5, 0.3]).astype(np.uint16)
    )
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = 0.5
    grid = Grid((15, 16, 14), affine)
    found = resample.resample_labels_array(Image(labels, LABELS), [], grid)
    blocks = labels.reshape(15, 2, 16, 2, 14, 2).transpose(0, 2, 4, 1, 3, 5).reshape(15, 16, 14, 8)
    counts = np.stack([(blocks == label).sum(axis=-1) for label in (0, 2, 9)], axis=-1)
    ranked = np.sort(counts, axis=-1)
    clear = ranked[..., -1] > ranked[..., -2]
    np.testing.assert_array_equal(found[clear], np.array([0, 2, 9])[counts.argmax(axis=-1)][clear])
    assert clear.mean() > 0.7


@pytest.mark.parametrize("corner", [(5, 6, 7), (0, 0, 0), (22, 20, 21)])
def test_looking_only_where_labels_lie_changes_nothing(tmp_path: Path, corner: tuple[int, int, int]) -> None:
    """The same as ANTs on the whole of a grid that reaches far around, labels at the edge of their image too."""
    labels = np.zeros(LABELS.shape, np.uint16)
    labels[tuple(slice(a, a + 5) for a in corner)] = 301
    labels[tuple(slice(a + 5, a + 8) for a in corner)] = 7
    turn = np.eye(4)
    turn[:2, :2] = [[0.8137, -0.7061], [0.6113, 0.9041]]
    turn[:3, 3] = [3.1417, -4.2183, 2.3319]
    path = write_composite(tmp_path / "turn.h5", [Affine(turn)])
    affine = np.diag([1.0, 1.1, 0.9, 1])
    affine[:3, 3] = [-40, -50, -45]
    grid = Grid((110, 100, 105), affine)
    image = Image(labels, LABELS)
    found = resample.resample_labels_array(image, [path], grid)
    whole = engine.apply_transforms(image, grid, [path], "genericLabel", "labels")
    np.testing.assert_array_equal(found, np.rint(whole))
    assert (found == 7).sum() > 10 < (found == 301).sum()
    mask = Image((labels > 0).astype(np.float32), LABELS)
    held = engine.apply_transforms(mask, grid, [path], "linear", "mask") > 0.5
    np.testing.assert_array_equal(resample.resample_mask(mask, [path], grid), held)


def test_labels_that_come_to_lie_nowhere_are_none(tmp_path: Path) -> None:
    away = np.eye(4)
    away[:3, 3] = 500
    path = write_composite(tmp_path / "away.h5", [Affine(away)])
    assert not resample.resample_labels_array(Image(two_blocks(), LABELS), [path], LABELS).any()
    nothing = Image(np.zeros(LABELS.shape, np.uint16), LABELS)
    assert not resample.resample_labels_array(nothing, [path], LABELS).any()


def test_a_label_that_nobody_put_in_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "apply_transforms", lambda _m, grid, *_: np.full(grid.shape, 5, np.float32))
    with pytest.raises(ProcessingError, match="E406"):
        resample.resample_labels_array(Image(two_blocks(), LABELS), [], LABELS)


def test_nan_has_no_weight_in_a_map(tmp_path: Path) -> None:
    """Half-way between a value and NaN stands the value; more than half-way into NaN stands NaN."""
    values = np.broadcast_to(np.arange(30.0)[:, None, None], LABELS.shape).astype(np.float32).copy()
    values[20:] = np.nan
    for move, expected in ((0.4, 19.0), (0.6, np.nan)):
        matrix = np.eye(4)
        matrix[0, 3] = move
        path = write_composite(tmp_path / f"{move}.h5", [Affine(matrix)])
        found = resample.resample_values(Image(values, LABELS), [path], LABELS)
        np.testing.assert_allclose(found[19, 10, 10], expected, atol=1e-4)
        np.testing.assert_allclose(found[10, 10, 10], 10 + move, atol=1e-4)


def test_outside_the_source_a_map_is_nan(shift: Path) -> None:
    found = resample.resample_values(Image(np.ones(LABELS.shape, np.float32), LABELS), [shift], LABELS)
    assert np.isnan(found[29]).all()
    np.testing.assert_allclose(found[0:27, 2:, 0:24], 1, atol=1e-5)


def test_nearest_by_world_needs_no_common_grid() -> None:
    mask = np.zeros((10, 10, 10), np.float32)
    mask[2:5, 3:6, 4:8] = 1
    coarse = Grid((10, 10, 10), np.diag([2.0, 2, 2, 1]))
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[:3, 3] = [18.5, -0.5, -0.5]
    found = resample.nearest_by_world(Image(mask, coarse), Grid((20, 20, 20), flipped))
    np.testing.assert_array_equal(found[::-1], np.kron(mask, np.ones((2, 2, 2))))
