"""Where voxels lie: one rule, compared with nibabel's affines; contradictions are refused or noticed."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import scipy.linalg
from nibabel.eulerangles import euler2mat

from r2star.errors import InputError
from r2star.images import Grid, from_canonical, read_grid, read_image, to_canonical
from r2star.images.quaternions import complete, nearest_right_angled, quaternion_of, rotation_of

SHAPE = (23, 17, 12)


def refused(path, code: str, words: str = "", **options) -> InputError:
    with pytest.raises(InputError) as caught:
        read_image(path, **options)
    assert caught.value.code == code
    assert words in str(caught.value)
    return caught.value


def codes(image) -> list[str]:
    return [notice.code for notice in image.notices]


def turned(affine, angle_deg: float = 0.0, shift_mm: float = 0.0):
    """Another affine, turned about the world's z axis through the first voxel and shifted along x."""
    result = affine.copy()
    result[:3, :3] = euler2mat(z=np.deg2rad(angle_deg)) @ affine[:3, :3]
    result[0, 3] += shift_mm
    return result


def rows(affine) -> dict:
    return {"srow_x": affine[0], "srow_y": affine[1], "srow_z": affine[2]}


def test_sform_alone_and_qform_alone(put, nifti, values, oblique):
    for fields in ({"qform_code": 0}, {"sform_code": 0}, {"sform_code": 4, "qform_code": 2}):
        path = put(nifti(values, oblique, **fields))
        image = read_image(path)
        assert np.abs(image.grid.affine - oblique).max() < 1e-5
        assert np.abs(image.grid.affine - nib.load(path).affine).max() < 1e-6
        assert codes(image) == []


def test_the_code_decides_not_the_numbers(put, nifti, values, oblique):
    other = turned(oblique, 30)
    sform_off = put(nifti(values, oblique, **rows(other), sform_code=0))
    assert np.abs(read_grid(sform_off).affine - oblique).max() < 1e-5
    qform_off = put(nifti(values, oblique, **rows(other), qform_code=0))
    assert np.abs(read_grid(qform_off).affine - other).max() < 1e-5


@pytest.mark.parametrize("shift", [0.0, 0.001, 0.009])
def test_rounding_between_sform_and_qform(put, nifti, values, oblique, shift):
    image = read_image(put(nifti(values, oblique, **rows(turned(oblique, 0, shift)))))
    assert codes(image) == []
    assert abs(image.grid.affine[0, 3] - oblique[0, 3] - shift) < 1e-5


@pytest.mark.parametrize("shift", [0.02, 0.5, 0.99])
def test_small_contradiction(put, nifti, values, oblique, shift):
    """Up to 1 mm at a corner: the sform, with a notice."""
    image = read_image(put(nifti(values, oblique, **rows(turned(oblique, 0, shift)), sform_code=2)))
    assert codes(image) == ["W103"]
    assert abs(image.grid.affine[0, 3] - oblique[0, 3] - shift) < 1e-5


def test_contradiction_beyond_a_millimetre(put, nifti, values, oblique):
    """6 degrees apart."""
    other = turned(oblique, 6)
    path = put(nifti(values, oblique, **rows(other), sform_code=2))
    assert "--xform" in refused(path, "E131", "mm apart").fix
    assert np.abs(read_image(path, xform="sform").grid.affine - other).max() < 1e-5
    assert np.abs(read_image(path, xform="qform").grid.affine - oblique).max() < 1e-5
    refused(put(nifti(values, oblique, **rows(turned(oblique, 0, 1.01)))), "E131")


def test_mirrored_contradiction(put, nifti, values, oblique):
    """Left and right swapped between the two: never accepted in silence."""
    mirrored = oblique @ np.diag([-1.0, 1, 1, 1])
    mirrored[:3, 3] += oblique[:3, 0] * (SHAPE[0] - 1)
    refused(put(nifti(values, oblique, **rows(mirrored))), "E131", "mm apart")


def test_no_orientation(put, nifti, values, oblique):
    path = put(nifti(values, oblique, qform_code=0, sform_code=0))
    assert "--assume-orientation" in refused(path, "E130", "left and right").fix
    image = read_image(path, assume_orientation=True)
    assert codes(image) == ["W102"]
    assert image.grid.orientation == "LAS"
    assert np.abs(image.grid.affine - nib.load(path).affine).max() < 1e-5


def test_asked_for_an_xform_that_is_not_there(put, nifti, values):
    refused(put(nifti(values, qform_code=0)), "E130", "qform_code is 0", xform="qform")
    refused(put(nifti(values, sform_code=0)), "E130", "sform_code is 0", xform="sform")


@pytest.mark.parametrize("field", ["qform_code", "sform_code"])
@pytest.mark.parametrize("code", [-1, 6, 9999])
def test_unknown_codes(put, nifti, values, field, code):
    refused(put(nifti(values, **{field: code})), "E136", field)


def sheared(affine, amount: float):
    result = affine.copy()
    result[:3, 1] += amount * affine[:3, 0]
    return result


def test_sheared_sform(put, nifti, values, oblique):
    """By half a voxel a step refused; by rounding straightened, beyond rounding with a notice."""
    for xform in (None, "sform"):
        path = put(nifti(values, oblique, **rows(sheared(oblique, 0.5)), qform_code=0))
        assert "right angles" in refused(path, "E132", "sheared", xform=xform).fix
    expected = {0.05: None, 0.005: ["W105"], 0.0005: [], 1e-6: []}
    for amount, notices in expected.items():
        path = put(nifti(values, oblique, **rows(sheared(oblique, amount)), qform_code=0))
        if notices is None:
            refused(path, "E132", "sheared")
            continue
        image = read_image(path)
        assert codes(image) == notices
        scaled = image.grid.affine[:3, :3] / image.grid.voxel_size_mm
        assert np.abs(scaled.T @ scaled - np.eye(3)).max() < 2e-6
        moved = np.linalg.norm(image.grid.corners - Grid(SHAPE, sheared(oblique, amount)).corners, axis=1)
        assert moved.max() < 0.1


def test_pixdim_against_the_affine(put, nifti, values, oblique):
    """Volumes come from the affine."""
    image = read_image(put(nifti(values, oblique, pixdim=[1, 2, 2, 2, 1, 1, 1, 1], qform_code=0)))
    assert codes(image) == ["W104"]
    assert image.grid.voxel_volume_mm3 == pytest.approx(0.9 * 1.1 * 1.5, rel=1e-6)
    assert image.grid.voxel_size_mm == pytest.approx((0.9, 1.1, 1.5), rel=1e-6)


@pytest.mark.parametrize("size", [1e-6, 0.049, 20.1, 1e6])
@pytest.mark.parametrize("turn", [0.0, 0.7])
def test_implausible_voxels(put, nifti, values, size, turn):
    affine = nib.affines.from_matvec(nib.eulerangles.euler2mat(turn) @ np.diag([1, size, 1]))
    refused(put(nifti(values, affine)), "E134", "0.05 to 20 mm")


@pytest.mark.parametrize("size", [0.05, 20.0])
def test_voxels_at_the_limits(put, nifti, values, size):
    assert read_grid(put(nifti(values, np.diag([1, size * (1 + 1e-9 * (10 - size)), 1, 1])))).shape == SHAPE


@pytest.mark.parametrize(
    "pixdim", [[1, -0.9, 1.1, 1.5], [1, 0, 1.1, 1.5], [1, np.nan, 1, 1], [0.5, 1, 1, 1], [-2, 1, 1, 1]]
)
def test_qform_that_programs_read_differently(put, nifti, values, pixdim):
    full = [*pixdim, 1, 1, 1, 1]
    refused(put(nifti(values, sform_code=0, pixdim=full)), "E135", "qform")
    image = read_image(put(nifti(values, qform_code=0, pixdim=full)))
    assert codes(image) == ["W104"]


@pytest.mark.parametrize("handedness", [0, 1, -1])
def test_handedness(put, nifti, values, oblique, handedness):
    path = put(nifti(values, oblique, sform_code=0, pixdim=[handedness, 0.9, 1.1, 1.5, 1, 1, 1, 1]))
    grid = read_grid(path)
    assert np.sign(np.linalg.det(grid.affine[:3, :3])) == (handedness or 1)
    assert np.abs(grid.affine - nib.load(path).get_qform()).max() < 1e-6


@pytest.mark.parametrize("part", ["quatern_b", "quatern_c", "quatern_d"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1.5])
def test_invalid_quaternion(put, nifti, values, part, value):
    refused(put(nifti(values, sform_code=0, **{part: value})), "E135", "quaternion")


def test_quaternion_of_length_one_and_a_rounding(put, nifti, values):
    path = put(nifti(values, sform_code=0, quatern_b=np.float32(1.00001), quatern_c=0, quatern_d=0))
    linear = read_grid(path).affine[:3, :3] / [0.9, 1.1, 1.5]
    assert np.abs(linear - np.diag([1, -1, -1])).max() < 1e-6


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_affine_that_is_not_finite(put, nifti, values, oblique, value):
    for row, column in product(range(3), range(4)):
        broken = oblique.copy()
        broken[row, column] = value
        refused(put(nifti(values, oblique, **rows(broken))), "E133")
        refused(put(nifti(values, oblique, **rows(broken), qform_code=0)), "E133")
    refused(put(nifti(values, sform_code=0, qoffset_x=value)), "E133")


@pytest.mark.parametrize("value", [2e6, 1e308, -1e308])
def test_numbers_beyond_all_bounds(put, nifti, values, oblique, value):
    for row, column in product(range(3), range(4)):
        broken = oblique.copy()
        broken[row, column] = value
        for fields in ({"qform_code": 0}, {}, {"xyzt_units": 1}):
            with pytest.raises(InputError, match=r"R2S-E13[134]"):
                read_image(put(nifti(values, oblique, version=2, **rows(broken), **fields)))
    for field in ("quatern_b", "qoffset_y", "pixdim"):
        changes = {field: [1, value, 1, 1, 1, 1, 1, 1] if field == "pixdim" else value}
        with pytest.raises(InputError, match=r"R2S-E13[345]"):
            read_image(put(nifti(values, version=2, sform_code=0, **changes)))


def test_affine_without_volume(put, nifti, values, oblique):
    flat = oblique.copy()
    flat[:3, 1] = flat[:3, 0]
    refused(put(nifti(values, oblique, **rows(flat), qform_code=0)), "E133")
    refused(put(nifti(values, oblique, **rows(oblique * 0), qform_code=0)), "E133")


def every_storage_order():
    """All 48 ways of storing one head, as signed permutations."""
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            matrix = np.zeros((4, 4))
            matrix[3, 3] = 1
            for axis in range(3):
                matrix[order[axis], axis] = signs[axis]
            yield matrix


@pytest.mark.parametrize("angle", [0.0, 0.5])
def test_canonical_order_is_nibabels_and_comes_back(values, angle):
    """Whatever the storage, the same voxels at the same places."""
    turn = np.eye(4)
    turn[:3, :3] = euler2mat(0.3 * angle, -0.4 * angle, angle) @ np.diag([0.9, 1.1, 1.5])
    for matrix in every_storage_order():
        affine = turn @ matrix
        affine[:3, 3] = [5.0, -3.0, 7.0]
        grid = Grid(SHAPE, affine)
        assert grid.orientation == "".join(nib.aff2axcodes(affine))
        data, canonical = to_canonical(values, grid)
        other = nib.as_closest_canonical(nib.Nifti1Image(values, affine))
        assert np.array_equal(data, np.asarray(other.dataobj))
        assert canonical.shape == data.shape
        assert np.abs(canonical.affine - other.affine).max() < 1e-9
        assert canonical.orientation == "RAS"
        assert np.array_equal(from_canonical(data, grid), values)
        assert np.shares_memory(data, values)


def test_canonical_keeps_further_axes(values):
    stack = np.stack([values, values + 1], axis=3)
    grid = Grid(SHAPE, np.array([[0, -1.0, 0, 3], [0, 0, 2.0, 1], [-1.5, 0, 0, 0], [0, 0, 0, 1]]))
    data, canonical = to_canonical(stack, grid)
    assert data.shape == (17, 12, 23, 2)
    assert canonical.shape == (17, 12, 23)
    assert np.array_equal(from_canonical(data, grid), stack)
    with pytest.raises(ValueError, match="do not lie on a grid"):
        to_canonical(data, grid)
    with pytest.raises(ValueError, match="do not lie on a grid"):
        from_canonical(stack, grid)


def test_what_is_no_grid(oblique):
    for shape, affine in (((2, 3), oblique), ((2, 3, 4, 5), oblique), ((2, 3, 4), oblique[:3])):
        with pytest.raises(ValueError, match="a grid has 3 axes"):
            Grid(shape, affine)
    assert Grid((2, 3, 4), oblique) != (2, 3, 4)


def test_corners_and_likeness(oblique):
    grid = Grid(SHAPE, oblique)
    assert grid.corners.shape == (8, 3)
    assert np.allclose(grid.corners[0], oblique[:3, 3])
    assert np.allclose(grid.corners[-1], (oblique @ [22, 16, 11, 1])[:3])
    near, far = (Grid(SHAPE, turned(oblique, 0, shift)) for shift in (0.0009, 0.0011))
    assert grid.same_as(near)
    assert not grid.same_as(far)
    assert grid.same_as(far, tol_mm=0.01)
    assert not grid.same_as(Grid((23, 17, 13), oblique))
    assert grid == Grid(SHAPE, oblique.copy())
    assert grid != near
    assert hash(grid) == hash(Grid(SHAPE, oblique.copy()))
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 1


def test_quaternions_and_rotations():
    rng = np.random.default_rng(3)
    for _ in range(50):
        quaternion = rng.normal(size=4)
        quaternion *= np.sign(quaternion[0]) / np.linalg.norm(quaternion)
        rotation = rotation_of(quaternion)
        assert np.abs(rotation - nib.quaternions.quat2mat(quaternion)).max() < 1e-12
        assert np.abs(quaternion_of(rotation) - quaternion).max() < 1e-7
    half_turn = quaternion_of(np.diag([-1.0, 1.0, -1.0]))
    assert np.abs(np.abs(half_turn) - [0, 0, 1, 0]).max() < 1e-12


def nearly_half_turns():
    """Rotations whose unstored part is small, down to what float32 can't tell from nothing."""
    rng = np.random.default_rng(11)
    for a in (0.0, 1e-8, 1e-5, 1e-4, 3e-4, 6e-4, 1e-3, 1e-2):
        for handedness in (1, -1):
            axis = rng.normal(size=3)
            axis *= np.sqrt(1 - a * a) / np.linalg.norm(axis)
            yield a, axis, handedness


def test_half_turns_are_no_contradiction(put, nifti, values):
    """A rounded quaternion near a half turn differs from the sform by up to 0.3 mm: that is no news."""
    for a, axis, handedness in nearly_half_turns():
        affine = np.eye(4)
        affine[:3, :3] = rotation_of(np.array([a, *axis])) * [0.4, 0.5, 0.7 * handedness]
        long = np.broadcast_to(values[:1, :1, :1], (400, 2, 400))
        image = read_image(put(nifti(long, affine), "image.nii"))
        assert codes(image) == []
        assert np.abs(image.grid.affine - affine).max() < 1e-6
        refused(put(nifti(long, affine, **rows(turned(affine, 1.0))), "image.nii"), "E131")


def test_qform_of_half_turns_alone(put, nifti, values):
    for a, axis, handedness in nearly_half_turns():
        affine = np.eye(4)
        affine[:3, :3] = rotation_of(np.array([a, *axis])) * [0.5, 0.5, 0.5 * handedness]
        path = put(nifti(values, affine, sform_code=0))
        assert np.abs(read_grid(path).affine - nib.load(path).get_qform()).max() < 1e-6


def test_completed_quaternion_stays_within_the_rounding():
    """Another rotation decides what is open, and nothing beyond."""
    stored = np.array([0.0, 0.6, 0.7])
    far = rotation_of(np.array([1.0, 0.0, 0.0, 0.0]))
    assert np.abs(complete(stored, far) - complete(stored)).max() < 1e-6
    assert complete(np.array([0.0, 0.0, 1.0]), far)[0] == pytest.approx(np.sqrt(3 * 2**-23), rel=1e-3)
    slightly = rotation_of(np.array([-1e-4, 0.0, 0.0, np.sqrt(1 - 1e-8)]))
    assert complete(np.array([0.0, 0.0, 1.0]), slightly)[0] == pytest.approx(-1e-4, rel=1e-6)


def test_nearest_right_angles_are_the_polar_factor(oblique):
    bent = sheared(oblique, 0.3)
    sizes = np.linalg.norm(bent[:3, :3], axis=0)
    rotation = scipy.linalg.polar(bent[:3, :3] / sizes)[0]
    assert np.abs(nearest_right_angled(bent)[:3, :3] - rotation * sizes).max() < 1e-12
    assert np.array_equal(nearest_right_angled(bent)[:, 3], bent[:, 3])


def test_nearest_right_angles_leave_a_right_angled_affine(oblique):
    assert np.abs(nearest_right_angled(oblique) - oblique).max() < 1e-12
    bent = nearest_right_angled(sheared(oblique, 0.02))
    assert np.allclose(
        np.linalg.norm(bent[:3, :3], axis=0), np.linalg.norm(sheared(oblique, 0.02)[:3, :3], axis=0)
    )
