"""Written images: readable by others, the same bytes every time, whole or not there at all."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import r2star.images.writing as writing_module
from r2star.errors import EnvironmentFault, ProcessingError
from r2star.files import TEMPORARY_PREFIX, AtomicFile, sweep_temporary
from r2star.images import Grid, Image, ImageWriter, read_image, write_for_registration, write_image


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def grid(values, oblique) -> Grid:
    return Grid(values.shape, oblique)


@pytest.mark.parametrize("name", ["map.nii.gz", "map.nii"])
@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_nibabel_reads_what_is_written(tmp_path, values, grid, name, kind):
    data = (values // 8).astype(kind)
    path = write_image(tmp_path / name, data, grid, dtype=kind, description="a map")
    assert path == tmp_path / name
    other = nib.load(path)
    assert other.get_data_dtype() == np.dtype(kind)
    assert np.array_equal(np.asarray(other.dataobj), data)
    for affine in (other.affine, other.get_qform(), other.get_sform()):
        assert np.abs(affine - grid.affine).max() < 1e-5
    raw = path.read_bytes() if name.endswith(".nii") else gzip.decompress(path.read_bytes())
    bitpix = int.from_bytes(raw[72:74], "little")  # which nibabel mends as it loads
    assert bitpix == 8 * np.dtype(kind).itemsize
    assert int(other.header["qform_code"]) == int(other.header["sform_code"]) == 1
    assert other.header.get_xyzt_units() == ("mm", "sec")
    assert bytes(other.header["descrip"]).rstrip(b"\0") == b"a map"
    assert np.allclose(other.header.get_zooms(), grid.voxel_size_mm)
    assert np.array_equal(read_image(path).data, data)
    assert read_image(path).grid.same_as(grid)
    assert names(tmp_path) == [name]


def test_four_axes_and_nan(tmp_path, values, grid):
    data = np.stack([values, values * 2, values * 3], axis=3).astype(np.float32)
    data[1, 2, 3] = np.nan, np.inf, -np.inf
    path = write_image(tmp_path / "map.nii.gz", data, grid, xform_code=4)
    other = nib.load(path)
    assert np.array_equal(np.asarray(other.dataobj), data, equal_nan=True)
    assert int(other.header["sform_code"]) == 4
    assert np.allclose(other.header.get_zooms(), (*grid.voxel_size_mm, 1.0))
    assert np.array_equal(read_image(path).data, data, equal_nan=True)


def test_masks_are_bytes(tmp_path, values, grid):
    path = write_image(tmp_path / "mask.nii.gz", values > 400, grid, dtype=np.uint8)
    assert np.array_equal(np.asarray(nib.load(path).dataobj), values > 400)


def test_mirrored_grids_keep_their_sides(tmp_path, values, oblique):
    for signs in ([-1, 1, 1], [1, -1, 1], [-1, -1, -1], [-1, -1, 1]):
        grid = Grid(values.shape, oblique @ np.diag([*signs, 1.0]))
        other = nib.load(write_image(tmp_path / "map.nii", values, grid))
        assert np.abs(other.get_qform() - grid.affine).max() < 1e-5
        assert np.abs(other.get_sform() - grid.affine).max() < 1e-5


def test_values_that_do_not_fit_are_refused(tmp_path, values, grid):
    for data, dtype in (
        (values, np.uint8),
        (values + 0.5, np.int16),
        (np.full(values.shape, np.nan), np.int16),
        (np.full(values.shape, 1e300), np.float32),
    ):
        with pytest.raises(ProcessingError, match="R2S-E151"):
            write_image(tmp_path / "map.nii.gz", data, grid, dtype=dtype)
    for shape in ((23, 17), (17, 23, 12), (23, 17, 12, 1, 1)):
        with pytest.raises(ValueError, match="do not lie"):
            write_image(tmp_path / "map.nii.gz", np.zeros(shape), grid)
    long = Grid((1, 1, 4097), grid.affine)
    for data, place, dtype in ((values, grid, np.float16), (np.zeros(long.shape), long, np.float32)):
        with pytest.raises(ValueError, match="no image is written"):
            write_image(tmp_path / "map.nii.gz", data, place, dtype=dtype)
    bent = grid.affine.copy()
    bent[0, 1] += 0.5
    with pytest.raises(ValueError, match="sheared"):
        write_image(tmp_path / "map.nii.gz", values, Grid(values.shape, bent))
    assert names(tmp_path) == []


def test_same_bytes_whatever_the_order_the_slabs_and_the_threads(tmp_path, values, oblique):
    data = np.tile(values, (4, 4, 8)).astype(np.float32)
    grid = Grid(data.shape, oblique)
    reference = write_image(tmp_path / "reference.nii.gz", data, grid).read_bytes()
    assert reference[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    assert data.nbytes > 2 << 20
    fortran = write_image(tmp_path / "other-name.nii.gz", np.asfortranarray(data), grid)
    assert fortran.read_bytes() == reference
    for count in (1, 7, 50, 96):
        with ImageWriter(tmp_path / "slabs.nii.gz", grid) as writer:
            for start in range(0, 96, count):
                writer.write_slices(data[:, :, start : start + count])
            writer.commit()
        assert writer.path.read_bytes() == reference
        assert writer.sha256 == hashlib.sha256(reference).hexdigest()
    with ThreadPoolExecutor(4) as pool:
        paths = [tmp_path / f"thread-{n}.nii.gz" for n in range(8)]
        list(pool.map(lambda path: write_image(path, data, grid), paths))
    assert {path.read_bytes() for path in paths} == {reference}


def test_slabs_must_add_up(tmp_path, values, grid):
    with ImageWriter(tmp_path / "map.nii.gz", grid) as writer:
        writer.write_slices(values[:, :, :5])
        with pytest.raises(ValueError, match="values are missing"):
            writer.commit()
        with pytest.raises(ValueError, match="slices of shape"):
            writer.write_slices(values[:5])
        with pytest.raises(ValueError, match="more values"):
            writer.write_slices(values)
    assert names(tmp_path) == []


def test_link_is_replaced_and_its_target_unchanged(tmp_path, values, grid):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    link = tmp_path / "map.nii.gz"
    link.symlink_to(victim)
    write_image(link, values, grid)
    assert victim.read_text() == "precious"
    assert not link.is_symlink()
    assert np.array_equal(read_image(link).data, values)


def test_damage_between_writing_and_reading_back(tmp_path, values, grid, monkeypatch):
    """A disk that lies: what does not read back never gets its name, and the old file stays."""
    path = write_image(tmp_path / "map.nii.gz", values, grid)
    before = path.read_bytes()
    flush = AtomicFile.flush
    for position in (5, 40, len(before) // 2, len(before) - 3):

        def damage(self, position: int = position) -> None:
            flush(self)
            content = bytearray(self.temporary.read_bytes())
            content[position] ^= 16
            self.temporary.write_bytes(bytes(content))

        monkeypatch.setattr(AtomicFile, "flush", damage)
        with pytest.raises(ProcessingError, match="R2S-E150"):
            write_image(path, values + 1, grid)
        assert path.read_bytes() == before
        assert names(tmp_path) == ["map.nii.gz"]


@pytest.mark.parametrize("wrong", ["place", "values"])
def test_another_sound_file_is_not_what_was_written(tmp_path, values, grid, monkeypatch, wrong):
    if wrong == "place":
        shifted = Grid(grid.shape, grid.affine + np.array([[0, 0, 0, 1], *np.zeros((3, 4))]))
        make = writing_module.make_header
        monkeypatch.setattr(
            writing_module, "make_header", lambda shape, dtype, _, *more: make(shape, dtype, shifted, *more)
        )
    else:
        flush = AtomicFile.flush
        other = write_image(tmp_path / "other.nii.gz", values + 1, grid)

        def swap(self) -> None:
            flush(self)
            self.temporary.write_bytes(other.read_bytes())

        monkeypatch.setattr(AtomicFile, "flush", swap)
    with pytest.raises(ProcessingError, match=r"R2S-E150.*differs"):
        write_image(tmp_path / "map.nii.gz", values, grid)
    assert not (tmp_path / "map.nii.gz").exists()


FULL_DISK = """
import resource, sys, numpy as np
from r2star.errors import R2starError
from r2star.images import Grid, write_image
values = np.random.default_rng(0).normal(size=(30, 30, 20)).astype(np.float32)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    write_image(sys.argv[1], values, Grid(values.shape, np.eye(4)))
except R2starError as error:
    print(error.code)
"""


@pytest.mark.parametrize(
    "limits", [(0, 10, 60_000), pytest.param(range(0, 65_537, 4096), marks=pytest.mark.faults)]
)
def test_no_room_left(tmp_path, values, grid, limits):
    """The kernel refuses to let the file grow: the old file stays, nothing else is left, and the code is E601."""
    path = write_image(tmp_path / "map.nii.gz", values, grid)
    before = path.read_bytes()
    for limit in limits:
        command = [sys.executable, "-c", FULL_DISK, path, str(limit)]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        assert result.stdout.split() == ["E601"]
        assert path.read_bytes() == before
        assert names(tmp_path) == ["map.nii.gz"]


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "E601"), (errno.EDQUOT, "E601"), (errno.EIO, "E607")],
)
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_fault_of_the_file_system(tmp_path, values, grid, monkeypatch, number, code, call):
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(EnvironmentFault) as caught:
        write_image(tmp_path / "map.nii.gz", values, grid)
    monkeypatch.undo()
    assert caught.value.code == code
    assert caught.value.path == str(tmp_path / "map.nii.gz")
    assert names(tmp_path) == []


KILLED = """
import sys, numpy as np
from r2star.images import Grid, write_image
n = 0
while True:
    values = np.arange(64000).reshape(40, 40, 40) % 97 + n
    write_image(sys.argv[1], values, Grid(values.shape, np.eye(4)), dtype=np.int16)
    n += 1
    print(n, flush=True)
"""


@pytest.mark.parametrize("kills", [6, pytest.param(200, marks=pytest.mark.faults)])
def test_killed_while_writing(tmp_path, kills):
    """Whenever the process dies, the file under its name is whole, and orphans are swept."""
    path = tmp_path / "map.nii.gz"
    rng = np.random.default_rng(5)
    for _ in range(kills):
        command = [sys.executable, "-c", KILLED, path]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(float(rng.uniform(0, 0.02)))
            process.send_signal(signal.SIGKILL)
        data = read_image(path).data
        assert np.array_equal(data - data[0, 0, 0], np.arange(64000).reshape(40, 40, 40) % 97)
        sweep_temporary(tmp_path)
        assert names(tmp_path) == ["map.nii.gz"]


def test_temporary_files_of_living_writers_are_not_swept(tmp_path, values, grid):
    with ImageWriter(tmp_path / "map.nii.gz", grid) as writer:
        assert sweep_temporary(tmp_path) == ()
        (name,) = names(tmp_path)
        assert name.startswith(TEMPORARY_PREFIX)
        writer.write_slices(values)
        writer.commit()
    assert names(tmp_path) == ["map.nii.gz"]


def test_for_registration(tmp_path, values, oblique):
    data = values.astype(np.float64)
    data[0, :3, 0] = np.nan, np.inf, -np.inf
    affine = oblique @ np.array([[0, -1.0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    image = Image(data, Grid(values.shape, affine))
    path = write_for_registration(tmp_path / "fixed.nii", image)
    expected = nib.as_closest_canonical(nib.Nifti1Image(np.where(np.isfinite(data), data, 0), affine))
    written = nib.load(path)
    assert written.get_data_dtype() == np.float32
    assert np.array_equal(np.asarray(written.dataobj), np.asarray(expected.dataobj))
    assert np.abs(written.get_qform() - expected.affine).max() < 1e-5
    assert np.abs(written.get_sform() - expected.affine).max() < 1e-5
    with pytest.raises(ValueError, match="three axes"):
        write_for_registration(path, Image(np.zeros((2, 2, 2, 2)), Grid((2, 2, 2), np.eye(4))))


def test_standard_gzip_reads_the_stream(tmp_path, values, grid):
    path = write_image(tmp_path / "map.nii.gz", values, grid, dtype=np.int16)
    assert gzip.decompress(path.read_bytes())[352:] == values.astype("<i2").tobytes(order="F")
