"""ITK and nibabel see each written image at the same place with the same values, though they differ on the inputs."""

from __future__ import annotations

from itertools import product

import nibabel as nib
import numpy as np
import pytest

from r2star.images import Grid, read_image, write_for_registration, write_image
from r2star.images.grid import corners_of

ants = pytest.importorskip("ants")


def itk_view(path):
    """Values and world corners (RAS+, mm) as ITK reads them, which counts x and y the other way."""
    image = ants.image_read(str(path), dimension=3)
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.direction) * np.array(image.spacing)
    affine[:3, 3] = image.origin
    affine[:2] *= -1
    return image.numpy(), corners_of(image.shape, affine)


def assert_agreement(path):
    data, corners = itk_view(path)
    other = nib.load(path)
    assert np.abs(corners - corners_of(other.shape, other.affine)).max() < 1e-3
    reference = np.asarray(other.dataobj, np.float64)
    assert np.abs(data - reference).max() <= 1e-6 * np.abs(reference).max()


@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
@pytest.mark.parametrize("name", ["map.nii.gz", "map.nii"])
def test_written_images(tmp_path, values, oblique, signs, name):
    grid = Grid(values.shape, oblique @ np.diag([*signs, 1.0]))
    path = write_image(tmp_path / name, values, grid)
    assert_agreement(path)
    assert np.abs(itk_view(path)[1] - grid.corners).max() < 1e-3


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"scl_slope": 0, "scl_inter": 100},
        {"scl_slope": 0.5, "scl_inter": -3},
        {"sform_code": 0},
        {"qform_code": 0, "pixdim": [1, -1, 2, 3, 1, 1, 1, 1]},
        {"qform_code": 0, "sform_code": 0},
        {"xyzt_units": 0},
        {"version": 2},
        {"endianness": ">"},
    ],
)
def test_odd_inputs_written_afresh(tmp_path, put, nifti, values, fields):
    image = read_image(put(nifti(values, **fields)), assume_orientation=True)
    path = write_for_registration(tmp_path / "fixed.nii", image)
    assert_agreement(path)
    assert np.abs(np.sort(itk_view(path)[1], axis=0) - np.sort(image.grid.corners, axis=0)).max() < 1e-3


def test_contradiction_settled_by_the_user(tmp_path, put, nifti, values, oblique):
    path = put(nifti(values, oblique, srow_x=[1, 0, 0, 0], srow_y=[0, 1, 0, 0], srow_z=[0, 0, 1, 0]))
    for xform in ("sform", "qform"):
        assert_agreement(write_for_registration(tmp_path / "fixed.nii", read_image(path, xform=xform)))


def test_real_images(tmp_path, shared_data):
    for path in sorted(shared_data.rglob("*T1w.nii.gz")) + sorted(shared_data.rglob("*MEGRE.nii.gz")):
        image = read_image(path)
        assert_agreement(write_for_registration(tmp_path / "fixed.nii", image))
        assert_agreement(write_image(tmp_path / "copy.nii.gz", image.data, image.grid))
