"""Headers and number types: what is read is what nibabel reads, or is refused by name."""

from __future__ import annotations

import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from r2star.errors import InputError
from r2star.images import open_image, read_grid, read_image


def refused(path, code: str, words: str = "", **options) -> InputError:
    with pytest.raises(InputError) as caught:
        read_image(path, **options)
    assert caught.value.code == code
    assert caught.value.path == str(path)
    assert words in str(caught.value)
    return caught.value


@pytest.mark.parametrize("magic", [b"xxx", b"n+2", b"n+3", b"", b"n+1x"])
def test_wrong_magic(put, nifti, values, magic):
    refused(put(nifti(values, magic=magic)), "E120", "magic")


def test_header_of_a_pair(put, nifti, values):
    refused(put(nifti(values, magic=b"ni1")), "E120", "pair")


def test_analyze(put, values):
    header = nib.AnalyzeHeader()
    header.set_data_dtype(values.dtype)
    header.set_data_shape(values.shape)
    refused(put(header.binaryblock + values.tobytes(order="F"), "image.nii"), "E120", "magic")


@pytest.mark.parametrize("size", [0, 1, 347, 349, 1348, -1])
def test_wrong_sizeof_hdr(put, nifti, values, size):
    refused(put(nifti(values, sizeof_hdr=size)), "E120", "sizeof_hdr")


@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_type_order_and_version(put, nifti, values, kind, version, endianness):
    """The same numbers."""
    stored = (values // 8).astype(kind) if kind in ("u1", "i1") else values.astype(kind)
    path = put(nifti(stored, version=version, endianness=endianness))
    image = read_image(path)
    assert image.data.dtype == np.float32
    assert np.array_equal(image.data, stored.astype(np.float32))
    assert np.abs(image.grid.affine - nib.load(path).affine).max() < 1e-5
    assert image.notices == ()


@pytest.mark.parametrize(
    "dim",
    [
        [0, 23, 17, 12, 1, 1, 1, 1],
        [8, 23, 17, 12, 1, 1, 1, 1],
        [9, 23, 17, 12, 1, 1, 1, 1],
        [-3, 23, 17, 12, 1, 1, 1, 1],
        [3, -5, 17, 12, 1, 1, 1, 1],
        [3, 23, 17, 0, 1, 1, 1, 1],
        [2, 23, 204, 1, 1, 1, 1, 1],
        [5, 23, 17, 4, 1, 3, 1, 1],
    ],
)
def test_impossible_dimensions(put, nifti, values, dim):
    refused(put(nifti(values, dim=dim)), "E121", "dim")


def test_further_axes_of_length_one(put, nifti, values):
    image = read_image(put(nifti(values, dim=[6, 23, 17, 4, 3, 1, 1, 1])))
    assert np.array_equal(image.data, values.reshape(23, 17, 4, 3, order="F"))


def test_huge_claim_is_refused_from_the_size_alone(put, nifti, values):
    """Nothing is allocated; the whole program stays below 300 MB."""
    path = put(nifti(values, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])[:400], "image.nii")
    refused(path, "E126", "32767")
    refused(path, "E126", "and 64 GiB are read")
    below_the_limit = put(nifti(values, dim=[3, 2500, 2500, 2500, 1, 1, 1, 1]), "other.nii")
    refused(below_the_limit, "E109", "promises")
    program = (
        "import sys; from r2star.images import read_image; from r2star.errors import InputError\n"
        "for path in sys.argv[1:]:\n"
        "    try: read_image(path)\n"
        "    except InputError as error: print(error.code)\n"
        "status = open('/proc/self/status').read()\n"
        "print(status.split('VmHWM:')[1].split()[0])"
    )
    packed = put(nifti(values, dim=[3, 2500, 2500, 2500, 1, 1, 1, 1]), "packed.nii.gz")
    command = [sys.executable, "-c", program, path, below_the_limit, packed]
    *codes, peak_kb = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert codes == ["E126", "E109", "E109"]
    assert int(peak_kb) < 300_000


def test_claim_that_the_stream_does_not_keep(put, nifti, values):
    """A stream that could hold the image by its size, but does not."""
    refused(put(nifti(values, dim=[3, 100, 80, 70, 1, 1, 1, 1])), "E109", "fewer bytes")


@pytest.mark.parametrize("code", [0, 1, 128, 1536, 2048, 2304, 9999, -1, 3])
def test_types_that_are_not_read(put, nifti, values, code):
    refused(put(nifti(values, datatype=code)), "E122", f"datatype is {code}")


def test_bitpix(put, nifti, values):
    refused(put(nifti(values, bitpix=32)), "E123", "16 bits but bitpix says 32")
    image = read_image(put(nifti(values, bitpix=0)))
    assert [notice.code for notice in image.notices] == ["W107"]
    assert np.array_equal(image.data, values)


@pytest.mark.parametrize("offset", [0, 348, 351, 352.5, -352, np.nan, np.inf, 1e30])
def test_impossible_offset(put, nifti, values, offset):
    refused(put(nifti(values, vox_offset=offset)), "E124", "vox_offset")


@pytest.mark.parametrize("extra", [16, 8, 100_000])
def test_extension_before_the_values(put, nifti, values, extra):
    content = nifti(values, vox_offset=352 + extra)
    path = put(content[:352] + b"\xaa" * extra + content[352:])
    assert np.array_equal(read_image(path).data, values)


@pytest.mark.parametrize(("slope", "inter"), [(0.5, 0), (2, -7.25), (-1.5, 3), (1, 10), (0.0371, 1e3)])
def test_scaled_integers_are_the_scaled_floats(put, nifti, values, slope, inter):
    """The same as the floats in float64, to the rounding of float32."""
    image = read_image(put(nifti(values, scl_slope=slope, scl_inter=inter)))
    expected = values.astype(np.float64) * np.float32(slope) + np.float32(inter)
    assert np.array_equal(image.data, expected.astype(np.float32))


@pytest.mark.parametrize("inter", [0, 5, np.nan])
@pytest.mark.parametrize("slope", [0, np.nan, np.inf, -np.inf])
def test_no_slope_means_unscaled(put, nifti, values, slope, inter):
    """The intercept counts for nothing without a slope."""
    assert np.array_equal(read_image(put(nifti(values, scl_slope=slope, scl_inter=inter))).data, values)


@pytest.mark.parametrize("inter", [np.nan, np.inf])
def test_slope_without_a_usable_intercept(put, nifti, values, inter):
    refused(put(nifti(values, scl_slope=2, scl_inter=inter)), "E125", "scl_inter")


def test_every_echo_with_its_own_slope(put, nifti, values):
    """Four files whose slopes differ hold the same numbers."""
    truth = values.astype(np.float64) * 4
    for echo, slope in enumerate((4.0, 0.5, 2.0, 8.0)):
        stored = np.rint(truth / slope).astype(np.int32)
        image = read_image(put(nifti(stored, scl_slope=slope, scl_inter=0), f"echo-{echo}.nii.gz"))
        assert np.abs(image.data - truth).max() <= slope / 2


def test_complex_values(put, nifti, values):
    """Refused, or the modulus, or as they are: never the real part."""
    numbers = (values * np.exp(1j * values)).astype(np.complex64)
    path = put(nifti(numbers))
    refused(path, "E128", "complex")
    assert np.array_equal(read_image(path, modulus=True).data, np.abs(numbers))
    assert np.array_equal(read_image(path, dtype=np.complex64).data, numbers)
    wide = put(nifti(numbers.astype(np.complex128), scl_slope=2))
    assert np.allclose(read_image(wide, modulus=True).data, 2 * np.abs(values), rtol=1e-6)
    assert read_grid(path).shape == numbers.shape
    refused(put(nifti(numbers, scl_slope=2, scl_inter=1)), "E125", modulus=True)


def test_nan_and_infinity_stay(put, nifti, values):
    odd = values.astype(np.float32)
    odd[0, 0, :4] = np.nan, np.inf, -np.inf, -5
    for slope in (0, 3):
        data = read_image(put(nifti(odd, scl_slope=slope))).data
        assert np.array_equal(data, odd * (slope or 1), equal_nan=True)


def test_beyond_float32_is_infinite(put, nifti):
    data = read_image(put(nifti(np.array([[[1e300, -1e300, 1.0]]])))).data
    assert data.tolist() == [[[np.inf, -np.inf, 1.0]]]


@pytest.mark.parametrize(("code", "in_mm"), [(1, 1000.0), (3, 0.001)])
def test_metres_and_micrometres(put, nifti, values, oblique, code, in_mm):
    scaled = oblique / in_mm
    scaled[3, 3] = 1
    image = read_image(put(nifti(values, scaled, xyzt_units=code | 8)))
    assert [notice.code for notice in image.notices] == ["W106"]
    assert np.abs(image.grid.affine - oblique).max() < 1e-4
    refused(put(nifti(values, xyzt_units=code)), "E134", "mm")


def test_labels(put, nifti):
    """1e-3 from a whole number is a label, more is none; nothing is truncated."""
    stored = np.array([[[3.0000458, 5.9999999, 0.0, 101.0]]], np.float32)
    assert read_image(put(nifti(stored)), dtype=np.uint8).data.tolist() == [[[3, 6, 0, 101]]]
    for wrong in (5.5, 256.0, -1.0, np.nan, np.inf):
        path = put(nifti(np.array([[[wrong, 1.0]]], np.float32)))
        refused(path, "E140", "whole number", dtype=np.uint8)
    assert read_image(put(nifti(np.array([[[300, 7]]], np.int16))), dtype=np.int32).data.tolist() == [
        [[300, 7]]
    ]
    refused(put(nifti(np.array([[[300, 7]]], np.int16))), "E140", "300", dtype=np.uint8)
    refused(put(nifti(np.array([[[2, 1]]], np.int16))), "E140", "2", dtype=bool)


@pytest.mark.parametrize("count", [1, 5, 12, 40])
@pytest.mark.parametrize("slope", [0, 0.5])
def test_slabs_are_the_whole(put, nifti, values, count, slope):
    path = put(nifti(np.stack([values, values + 5], axis=3), scl_slope=slope))
    whole = read_image(path)
    with open_image(path) as reader:
        assert reader.shape == (23, 17, 12, 2)
        assert reader.n_slices == 24
        slabs = [reader.read_slices(count) for _ in range(-(-24 // count))]
        assert reader.verified
        assert reader.read_slices(count).shape == (23, 17, 0)
        with pytest.raises(ValueError, match="read already"):
            reader.read()
    assert np.array_equal(np.concatenate(slabs, axis=2).reshape(whole.data.shape, order="F"), whole.data)
    assert slabs[0].flags.f_contiguous
    assert reader.sha256 == whole.sha256


def test_slabs_into_memory_that_is_there(put, nifti, values):
    path = put(nifti(values))
    room = np.full((2, 5, 17, 23), -1, np.float32)
    with open_image(path) as reader:
        first = reader.read_slices(5, room[0].T)
        assert np.shares_memory(first, room)
        assert np.array_equal(room[0].T, values[:, :, :5])
        reader.read_slices(5, room[1].T)
        last = reader.read_slices(5, room[0].T)
        assert last.shape == (23, 17, 2)
        assert np.array_equal(last, values[:, :, 10:])
        assert np.array_equal(room[0, 2:].T, values[:, :, 2:5])
    for wrong in (
        np.empty((23, 17, 5), np.float32),
        room[0, :2].T,
        room[0].T.astype(np.float64),
        room[0].T.astype(np.int16),
        room[0],
    ):
        with open_image(path) as reader, pytest.raises(ValueError, match="can't be read into"):
            reader.read_slices(5, wrong)


def test_real_images_read_as_nibabel_reads_them(shared_data):
    paths = sorted(shared_data.rglob("*.nii.gz"))
    assert len(paths) >= 8
    for path in paths:
        image, other = read_image(path), nib.load(path)
        assert image.notices == ()
        assert np.array_equal(image.data, np.asarray(other.dataobj).astype(np.float32), equal_nan=True)
        assert np.abs(image.grid.affine - other.affine).max() < 1e-4


def test_memory_limit(put, nifti, values):
    """An image that does not fit says how much it needs. The file has no blocks on the disk."""
    path = put(nifti(values, dim=[3, 1500, 1000, 1000, 1, 1, 1, 1]), "image.nii")
    os.truncate(path, 352 + 2 * 1500 * 1000 * 1000)
    program = (
        "import sys, resource; from r2star.images import read_image; from r2star.errors import R2starError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "try: read_image(sys.argv[1])\n"
        "except R2starError as error: print(error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, path], check=True, capture_output=True, text=True
    ).stdout
    assert said.startswith("R2S-E603")
    assert "5.6 GiB" in said
