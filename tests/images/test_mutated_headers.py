"""Headers bent at random: an image that nibabel would place likewise, or a named error; never anything else."""

from __future__ import annotations

import gzip
import time
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2star.errors import InputError
from r2star.images import read_image

#: Reading, or refusing, that takes longer counts as hanging.
LONGEST_S = 5.0
FIELDS = [name for name in nib.Nifti1Header.template_dtype.names if name not in ("db_name", "descrip")]

floats = st.floats(width=32) | st.sampled_from([0.0, -1.0, 1.0, 0.5, np.nan, np.inf, 352.0, 1e-6, 1e6])
integers = st.integers(-(2**15), 2**15 - 1) | st.sampled_from(
    [-1, 0, 1, 2, 3, 4, 7, 8, 16, 32, 512, 1792, 4096]
)


@st.composite
def field_changes(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Some header fields with new values, each of its own type."""
    changes = {}
    for name in draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=4, unique=True)):
        kind = nib.Nifti1Header.template_dtype[name]
        count = int(np.prod(kind.shape))
        if kind.base.kind == "S":
            changes[name] = np.array(draw(st.binary(max_size=kind.itemsize)), kind)
        else:
            element = floats if kind.base.kind == "f" else integers
            new = draw(st.lists(element, min_size=count, max_size=count))
            with np.errstate(over="ignore"):
                changes[name] = np.array(new).astype(kind.base).reshape(kind.shape)
    return changes


def read_or_refuse(path: Path, most_bytes: int = 40 << 20):
    """The image, or None where it is refused by name; memory stays within a bound either way."""
    tracemalloc.start()
    begin = time.monotonic()
    try:
        image, refusal = read_image(path, modulus=True), None
    except InputError as error:
        image, refusal = None, error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < most_bytes
    assert time.monotonic() - begin < LONGEST_S
    if refusal is not None:
        assert refusal.code.startswith("E1")
        assert refusal.path == str(path)
        assert "\n" not in str(refusal)
    return image


def check_against_nibabel(path: Path) -> None:
    image = read_or_refuse(path)
    if image is None:
        return
    other = nib.load(path)
    assert image.grid.shape == other.shape[:3]
    values = np.asarray(other.dataobj)
    expected = np.abs(values) if values.dtype.kind == "c" else values
    with np.errstate(over="ignore"):
        assert np.allclose(
            image.data, expected.astype(np.float32).reshape(image.data.shape), rtol=1e-6, equal_nan=True
        )
    if not image.notices:
        assert np.abs(image.grid.affine - other.affine).max() < 0.02


def write(folder: Path, content: bytes, *, packed: bool) -> Path:
    path = folder / ("image.nii.gz" if packed else "image.nii")
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    return path


relaxed = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@pytest.mark.filterwarnings("ignore::RuntimeWarning:nibabel")
@pytest.mark.parametrize("count", [150, pytest.param(2000, marks=pytest.mark.faults)])
def test_fields(tmp_path, nifti, values, count):
    small = values[:6, :5, :4]

    @settings(max_examples=count, derandomize=True, **relaxed)
    @given(field_changes(), st.booleans(), st.sampled_from("<>"))
    def check(changes, packed, endianness):
        check_against_nibabel(write(tmp_path, nifti(small, endianness=endianness, **changes), packed=packed))

    check()


@pytest.mark.filterwarnings("ignore::RuntimeWarning:nibabel")
@pytest.mark.parametrize("count", [150, pytest.param(2000, marks=pytest.mark.faults)])
def test_bytes(tmp_path, nifti, values, count):
    small = values[:6, :5, :4]

    @settings(max_examples=count, derandomize=True, **relaxed)
    @given(
        st.lists(st.tuples(st.integers(0, 555), st.integers(0, 255)), min_size=1, max_size=6),
        st.sampled_from([1, 2]),
    )
    def check(changes, version):
        content = bytearray(nifti(small, version=version))
        for position, byte in changes:
            content[position] = byte
        read_or_refuse(write(tmp_path, bytes(content), packed=False))

    check()


@pytest.mark.parametrize("count", [150, pytest.param(2000, marks=pytest.mark.faults)])
def test_anything_at_all(tmp_path, count):
    """Bytes that were never an image, under both names, with and without a beginning that looks right."""
    beginnings = [
        b"",
        b"\x1f\x8b",
        b"\x1f\x8b\x08\0",
        b"\x1f\x8b\x08\x1f" + b"\0" * 6,
        b"\x5c\1\0\0",
        b"\0\0\2\x1c",
    ]

    @settings(max_examples=count, derandomize=True, **relaxed)
    @given(st.sampled_from(beginnings), st.binary(max_size=900), st.booleans())
    def check(start, rest, packed):
        path = tmp_path / ("image.nii.gz" if packed else "image.nii")
        path.write_bytes(start + rest)
        assert read_or_refuse(path) is None

    check()
