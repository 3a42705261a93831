"""Small print of the image rules: boundaries of the single checks."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest

from r2star.errors import InputError
from r2star.images import Grid, read_image, write_image
from r2star.images.extensions import overruns
from r2star.images.grid import closest_axes


def test_grids_are_equal_in_shape_and_place_alone():
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    grid = Grid((3, 2, 1), affine)
    assert grid == Grid((3, 2, 1), affine.copy())
    assert hash(grid) == hash(Grid((3, 2, 1), affine.copy()))
    for shape in ((3, 2, 2), (2, 2, 1), (4, 2, 1)):
        assert grid != Grid(shape, affine)
        assert Grid(shape, affine) != grid
    assert grid != Grid((3, 2, 1), affine + np.eye(4) * [1, 0, 0, 0])


@pytest.mark.parametrize("sizes", [(0.2, 1.0, 15.0), (15.0, 0.2, 1.0), (1.0, 15.0, 0.2)])
@pytest.mark.parametrize("degrees", [-40, -10, 10, 40])
def test_the_nearest_axes_do_not_depend_on_the_voxels_sizes(sizes, degrees):
    angle = np.deg2rad(degrees)
    rotation = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = rotation * sizes
    assert closest_axes(affine) == ((0, 1, 2), (False, False, False))
    assert nib.aff2axcodes(affine) == ("R", "A", "S")


@pytest.mark.parametrize(("dim", "shape"), [
    ([3, 23, 17, 12], (23, 17, 12)), ([4, 23, 17, 12, 1], (23, 17, 12)), ([4, 23, 17, 6, 2], (23, 17, 6, 2)),
    ([5, 23, 17, 4, 3, 1], (23, 17, 4, 3)), ([5, 23, 17, 12, 1, 1], (23, 17, 12)),
])  # fmt: skip
def test_axes_of_length_one_behind_the_third_count_for_nothing(put, nifti, values, dim, shape):
    image = read_image(put(nifti(values, dim=[*dim, *[1] * (8 - len(dim))])))
    assert image.data.shape == shape
    assert np.array_equal(image.data, values.reshape(shape, order="F"))


@pytest.mark.parametrize(("n", "shape"), [(1, (3, 4, 5)), (2, (3, 4, 5, 2)), (3, (3, 4, 5, 3))])
def test_volumes_written_are_volumes_read(tmp_path, n, shape):
    data = np.arange(60.0 * n).reshape(3, 4, 5, n).astype(np.float32)
    grid = Grid((3, 4, 5), np.diag([2.0, 2.0, 3.0, 1.0]))
    image = read_image(write_image(tmp_path / "x.nii.gz", data, grid))
    assert image.data.shape == shape
    assert np.array_equal(image.data.reshape(data.shape), data)


@pytest.mark.parametrize(("length", "fine"), [(10, True), (60_000, True), (200_000, False)])
def test_a_name_in_the_gzip_header_has_a_bound(put, nifti, values, length, fine):
    packed = gzip.compress(nifti(values), mtime=0)
    named = packed[:3] + b"\x08" + packed[4:10] + b"n" * length + b"\0" + packed[10:]
    path = put(named, packed=False)
    if fine:
        assert np.array_equal(
            read_image(path).data, read_image(put(packed, "other.nii.gz", packed=False)).data
        )
        return
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert caught.value.code == "E108"


@pytest.mark.parametrize(
    ("lengths", "fine"), [((4096, 1, 1), True), ((4097, 1, 1), False), ((1, 1, 4097), False)]
)
def test_the_longest_axis(put, nifti, lengths, fine):
    values = np.zeros(lengths, np.uint8)
    path = put(nifti(values, dim=[3, *lengths, 1, 1, 1, 1]))
    if fine:
        assert read_image(path).data.shape == lengths
        return
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert caught.value.code == "E126"


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize(("sizes", "room", "too_long"), [
    ([], 0, True), ([16], 16, False), ([16], 32, False), ([16], 15, True), ([32], 16, True), ([9000], 16, True),
    ([16, 16], 32, False), ([16, 32], 32, True), ([16, 4096], 32, True), ([16, 0, 64], 40, False), ([-16], 16, False),
    ([8], 8, False), ([48, 8], 56, False), ([48, 8], 48, False), ([48, 9], 56, True),
])  # fmt: skip
def test_extensions_must_end_before_the_values(order, sizes, room, too_long):
    """Each begins with its own size; what lies in the room and beyond it is cut from the file as it stands."""
    content = b"\1\0\0\0"
    for size in sizes:
        content += size.to_bytes(4, order, signed=True) + b"\0\0\0\6" + b"." * max(0, size - 8)
    assert overruns((content + b"\0" * room)[: 4 + room], 4 + room, order) == too_long
    assert not overruns(b"\0" + content[1:], 4 + room, order)  # the flag says that there are none


def test_a_file_without_any_place_for_extensions_has_none_that_overrun():
    assert not overruns(b"", 0, "little")


@pytest.mark.parametrize("byte", [*range(32), 0x20, 0x7E, 0xC3])
def test_text_has_no_control_characters_but_those_of_lines(put, byte):
    with pytest.raises(InputError) as caught:
        read_image(put(b"not an image" + bytes([byte]) + b"at all", "image.nii"))
    assert caught.value.code == ("E109" if byte < 0x20 and chr(byte) not in "\t\r\n" else "E105")


@pytest.mark.parametrize("flags", [4 | 8, 4 | 16, 4 | 8 | 16])
def test_fields_of_the_gzip_header_may_be_longer_than_what_is_read_at_a_time(put, nifti, values, flags):
    body = gzip.compress(nifti(values), mtime=0)
    texts = b"".join(letter * 30_000 + b"\0" for flag, letter in ((8, b"n"), (16, b"c")) if flags & flag)
    extra = (60_000).to_bytes(2, "little") + b"x" * 60_000
    path = put(body[:3] + bytes([flags]) + body[4:10] + extra + texts + body[10:], packed=False)
    assert np.array_equal(read_image(path).data, values)
    assert gzip.decompress(path.read_bytes()) == nifti(values)


def test_grids_with_the_same_corners_and_other_voxels_are_not_the_same():
    fine, coarse = Grid((5, 3, 3), np.eye(4)), Grid((3, 3, 3), np.diag([2.0, 1.0, 1.0, 1.0]))
    assert np.array_equal(fine.corners, coarse.corners)
    assert not fine.same_as(coarse)
    assert not coarse.same_as(fine)
    assert fine.same_as(Grid((5, 3, 3), np.eye(4)))


def test_an_image_whose_description_names_an_annex_is_an_image(put, nifti, values):
    path = put(nifti(values, descrip=b"from .git/annex/objects/Xk/9p"), "image.nii")
    assert np.array_equal(read_image(path).data, values)
