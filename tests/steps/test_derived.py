"""Masks, maps and segmentations of other programs on the MEGRE grid: by world coordinates, through a T1w, refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from r2star.errors import InputError
from r2star.images import Grid, read_image, write_image
from r2star.register.transforms import Affine, write_composite
from r2star.steps.derived import adopt_map, adopt_mask, adopt_segmentation

GRID = Grid((20, 18, 16), np.array([[-2.0, 0, 0, 19], [0, 2, 0, -17], [0, 0, 3, -24], [0, 0, 0, 1]]))
FINE = Grid((40, 36, 48), np.array([[1.0, 0, 0, -19.5], [0, 1, 0, -17.5], [0, 0, 1, -24.5], [0, 0, 0, 1]]))


@pytest.fixture
def like(tmp_path: Path) -> Path:
    return write_image(tmp_path / "like.nii.gz", np.ones(GRID.shape, np.float32), GRID)


@pytest.fixture
def ways(tmp_path: Path) -> tuple[Path, Path]:
    """A T1w whose world lies 6 mm further right and 3 mm higher than the MEGRE's: to the MEGRE, and to the T1w."""
    paths = []
    for name, sign in (("from.h5", 1), ("to.h5", -1)):
        matrix = np.eye(4)
        matrix[:3, 3] = np.array([6.0, 0, 3.0]) * sign
        paths.append(write_composite(tmp_path / name, [Affine(matrix)]))
    return paths[0], paths[1]


def in_world(grid: Grid, low: tuple[float, ...], high: tuple[float, ...]) -> np.ndarray:
    """Voxels whose centre lies in a box of world coordinates."""
    axes = np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij")
    points = np.stack(axes, -1) @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    return np.all((points > low) & (points < high), axis=-1)


def test_a_given_mask_on_another_grid_is_taken_by_world_coordinates(tmp_path: Path) -> None:
    like = write_image(tmp_path / "like.nii.gz", np.zeros((8, 8, 8)), Grid((8, 8, 8), np.eye(4)))
    flipped = np.diag([-2.0, 2, 2, 1])
    flipped[:3, 3] = [6.5, 0.5, 0.5]
    values = np.zeros((4, 4, 4), np.uint8)
    values[0, 1, 1] = 1
    given = write_image(tmp_path / "given.nii.gz", values, Grid((4, 4, 4), flipped), dtype=np.uint8)
    adopted = adopt_mask(given, like, out_dir=tmp_path)
    mask = read_image(adopted.image).data > 0
    assert [notice.code for notice in adopted.notices] == ["W442"]
    expected = np.zeros((8, 8, 8), bool)
    expected[6:8, 2:4, 2:4] = True
    np.testing.assert_array_equal(mask, expected)


def test_an_empty_given_mask_is_refused(tmp_path: Path) -> None:
    grid = Grid((4, 4, 4), np.eye(4))
    like = write_image(tmp_path / "like.nii.gz", np.zeros((4, 4, 4)), grid)
    with pytest.raises(InputError, match="E409"):
        adopt_mask(like, like, out_dir=tmp_path)


def test_a_lesion_mask_of_another_grid_keeps_its_place_and_volume(like: Path, tmp_path: Path) -> None:
    inside = in_world(FINE, (-8, -6, -7.5), (4, 6, 7.5))
    given = write_image(tmp_path / "x_mask.nii.gz", 3 * inside.astype(np.float32), FINE)
    found = adopt_mask(given, like, tmp_path, kind="lesions")
    np.testing.assert_array_equal(
        read_image(found.image).data > 0, in_world(GRID, (-8, -6, -7.5), (4, 6, 7.5))
    )
    assert found.image.name == "desc-lesions_mask.nii.gz"
    assert found.volume_mm3 == inside.sum()
    assert [notice.code for notice in found.notices] == ["W469"]
    assert list(json.loads(found.hashes.read_text())) == [str(given)]


@pytest.mark.parametrize(
    ("scale", "shift"), [(255.0, 0.0), (1.5, 0.0), (1.0, -0.5)], ids=["brightness", "above 1", "below 0"]
)
@pytest.mark.parametrize("kind", ["brain", "lesions"])
def test_values_of_an_image_are_no_mask(
    like: Path, tmp_path: Path, kind: str, scale: float, shift: float
) -> None:
    values = scale * np.random.default_rng(1).uniform(0, 1, GRID.shape) + shift
    given = write_image(tmp_path / "x.nii.gz", values.astype(np.float32), GRID)
    with pytest.raises(InputError, match=r"E478.*x\.nii\.gz.*binarise"):
        adopt_mask(given, like, tmp_path, kind=kind)


@pytest.mark.parametrize(("most", "told"), [(1, []), (20, []), (100, ["W445"])])
def test_many_numbers_in_a_mask_are_told(like: Path, tmp_path: Path, most: int, told: list[str]) -> None:
    """Twenty lesions, each with a number, are usual; a hundred may be percentages."""
    values = np.random.default_rng(2).integers(0, most + 1, GRID.shape).astype(np.uint8)
    given = write_image(tmp_path / "x.nii.gz", values, GRID, dtype=np.uint8)
    found = adopt_mask(given, like, tmp_path, kind="lesions")
    assert [notice.code for notice in found.notices] == told
    np.testing.assert_array_equal(read_image(found.image).data > 0, values > 0)


def test_probabilities_are_cut_at_a_half_and_nan_is_outside(like: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(3).uniform(0, 1, GRID.shape).astype(np.float32)
    values[:3] = np.nan
    given = write_image(tmp_path / "x.nii.gz", values, GRID)
    found = adopt_mask(given, like, tmp_path, kind="lesions")
    assert found.notices == ()
    np.testing.assert_array_equal(read_image(found.image).data > 0, np.nan_to_num(values) > 0.5)


def test_an_empty_lesion_mask_is_a_healthy_participant(like: Path, tmp_path: Path) -> None:
    given = write_image(tmp_path / "none.nii.gz", np.zeros(GRID.shape, np.uint8), GRID, dtype=np.uint8)
    found = adopt_mask(given, like, tmp_path, kind="lesions")
    assert found.volume_mm3 == 0
    assert not read_image(found.image).data.any()


def test_masks_maps_and_labels_come_from_the_t1w_through_the_alignment(
    like: Path, ways: tuple[Path, Path], tmp_path: Path
) -> None:
    """What lies at x in the MEGRE lies at x + (6, 0, 3) in the T1w."""
    there, here = in_world(FINE, (-2, -6, -4.5), (10, 6, 10.5)), in_world(GRID, (-8, -6, -7.5), (4, 6, 7.5))
    mask = write_image(tmp_path / "mask.nii.gz", there.astype(np.uint8), FINE, dtype=np.uint8)
    moved = adopt_mask(mask, like, tmp_path, transforms=(ways[0],))
    np.testing.assert_array_equal(read_image(moved.image).data > 0, here)
    values = np.where(there, 40.0, np.nan).astype(np.float32)
    chi = write_image(tmp_path / "Chimap_in.nii.gz", values, FINE)
    found = read_image(adopt_map(chi, like, tmp_path, "Chimap", transforms=(ways[0],)).image).data
    assert np.all(found[here] == 40)
    labels = write_image(tmp_path / "dseg.nii.gz", (12 * there).astype(np.uint8), FINE, dtype=np.uint8)
    table = tmp_path / "dseg.tsv"
    table.write_text("index\tname\n12\tLeft-Putamen\n")
    own = adopt_segmentation(labels, "x", like, tmp_path, table, transforms=(ways[0],), to_source=(ways[1],))
    np.testing.assert_array_equal(read_image(own.image, dtype=np.uint8).data, 12 * here)
    told = json.loads(own.described.read_text())
    assert told["regions"] == [["putamen", "L", [12]]]
    assert told["expected_mm3"] == told["inside_mm3"] == {"12": float(there.sum())}


def test_a_map_of_the_same_grid_keeps_every_bit(like: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(2).normal(size=GRID.shape).astype(np.float32)
    values[3, 4, 5] = np.nan
    given = write_image(tmp_path / "T1map_in.nii.gz", values, GRID)
    found = read_image(adopt_map(given, like, tmp_path, "T1map").image)
    np.testing.assert_array_equal(found.data, values)


def test_a_segmentation_without_a_table_is_freesurfers_or_refused(like: Path, tmp_path: Path) -> None:
    data = np.zeros(GRID.shape, np.uint16)
    for number, label in enumerate((2, 41, 10, 11, 12, 13, 49, 50, 51, 52, 1035)):
        data[12 - number, 3:6, 3:6] = label  # left of the middle first
    given = write_image(tmp_path / "aseg.nii.gz", data, GRID, dtype=np.uint16)
    own = adopt_segmentation(given, "aseg", like, tmp_path)
    found = read_image(own.image, dtype=np.uint16).data
    np.testing.assert_array_equal(found, np.where(data == 1035, 0, data))
    names = [name for name, _, _ in json.loads(own.described.read_text())["regions"]]
    assert names[-1] == "white_matter"
    assert "pallidum\t" not in own.lookup.read_text()
    assert "13\tpallidum_L\n" in own.lookup.read_text()
    other = write_image(tmp_path / "other.nii.gz", (data > 0).astype(np.uint8), GRID, dtype=np.uint8)
    with pytest.raises(InputError, match=r"E477.*other\.nii\.gz"):
        adopt_segmentation(other, "x", like, tmp_path)


@pytest.mark.parametrize(
    ("value", "code"), [(3.0000458, ""), (5.4, "E461"), (-1.0, "E461"), (70000.0, "E461")]
)
def test_labels_are_whole_numbers_or_refused(like: Path, tmp_path: Path, value: float, code: str) -> None:
    data = np.zeros(GRID.shape)
    data[4:8, 4:8, 4:8] = value
    given = write_image(tmp_path / "dseg.nii.gz", data, GRID, dtype=np.float64)
    (tmp_path / "dseg.tsv").write_text("index\tname\n3\tputamen_L\n5\tputamen_R\n")
    if code:
        with pytest.raises(InputError, match=rf"{code}.*dseg\.nii\.gz"):
            adopt_segmentation(given, "x", like, tmp_path, tmp_path / "dseg.tsv")
    else:
        own = adopt_segmentation(given, "x", like, tmp_path, tmp_path / "dseg.tsv")
        assert np.unique(read_image(own.image).data).tolist() == [0, 3]


@pytest.mark.parametrize("mirrored", ["names", "image", "image and names"])
@pytest.mark.parametrize("step", [1, -1], ids=["RAS", "LAS"])
def test_left_and_right_that_are_exchanged_are_refused(
    like: Path, tmp_path: Path, mirrored: str, step: int
) -> None:
    """In the world, not in the order of voxels; two regions of which one is right are no proof."""
    affine = GRID.affine * [[-step], [1], [1], [1]]
    data = np.zeros(GRID.shape, np.uint16)
    left, right = (slice(2, 5), slice(14, 17)) if step > 0 else (slice(14, 17), slice(2, 5))
    for side, label in ((left, 1), (right, 2)):
        data[side, 3:6, 3:6], data[side, 8:12, 3:6] = label, label + 2
    names = ["left_putamen", "right_putamen", "left_caudate", "right_caudate"]
    if "names" in mirrored:
        names = [names[k] for k in (1, 0, 3, 2)]
    if "image" in mirrored:
        data = data[::-1]
    table = tmp_path / "dseg.tsv"
    table.write_text("index\tname\n" + "".join(f"{k}\t{name}\n" for k, name in enumerate(names, start=1)))
    given = write_image(tmp_path / "dseg.nii.gz", data, Grid(GRID.shape, affine), dtype=np.uint16)
    if mirrored == "image and names":
        adopt_segmentation(given, "x", like, tmp_path, table)
        return
    with pytest.raises(InputError, match=r"E479.*left of .*putamen.*farther right.*label table"):
        adopt_segmentation(given, "x", like, tmp_path, table)


def test_images_of_four_dimensions_are_refused(like: Path, tmp_path: Path) -> None:
    given = write_image(tmp_path / "many.nii.gz", np.ones((*GRID.shape, 2), np.float32), GRID)
    with pytest.raises(InputError, match=r"E475.*20×18×16×2"):
        adopt_map(given, like, tmp_path, "Chimap")


def test_a_segmentation_on_another_grid_is_taken_by_its_place_and_told(like: Path, tmp_path: Path) -> None:
    """Stored one voxel farther along the first axis, under an affine that says so: the labels stay where they are."""
    data = np.zeros(GRID.shape, np.uint16)
    data[3:7, 2:6, 3:6], data[8:10, 2:6, 3:6] = 50, 11
    same = write_image(tmp_path / "same.nii.gz", data, GRID, dtype=np.uint16)
    (tmp_path / "table.tsv").write_text("index\tname\n11\tcaudate_L\n50\tcaudate_R\n")
    moved = GRID.affine.copy()
    moved[:3, 3] -= GRID.affine[:3, 0]
    shifted = write_image(
        tmp_path / "shifted.nii.gz", np.roll(data, 1, axis=0), Grid(GRID.shape, moved), dtype=np.uint16
    )
    own, other = (
        adopt_segmentation(path, path.name[:4], like, tmp_path, lookup=tmp_path / "table.tsv")
        for path in (same, shifted)
    )
    assert [notice.code for notice in own.notices] == []
    assert [notice.code for notice in other.notices] == ["W444"]
    np.testing.assert_array_equal(read_image(own.image).data, read_image(other.image).data)
