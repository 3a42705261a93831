"""Writing NIfTI images: whole or not at all, re-read before they count, the same bytes for the same values.

A file is NIfTI-1, little endian, unscaled, with sform and qform of the same code and place. Gzip streams
are packed by ISA-L in blocks of fixed size, without name or time, so that neither slabs nor threads show in
the bytes; ISA-L chooses its code by the processor, so another kind of processor may pack the same values into
other bytes. Imports numpy, isal, errors and files.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from isal import isal_zlib
from numpy.typing import DTypeLike, NDArray

from r2star.errors import InputError, ProcessingError
from r2star.files import AtomicFile
from r2star.images.grid import Grid, Image, to_canonical
from r2star.images.headers import DATATYPES, LAYOUTS, LONGEST_AXIS
from r2star.images.opening import is_gzip_name
from r2star.images.quaternions import nearest_right_angled, quaternion_of
from r2star.images.reader import ImageReader

_LEVEL = 1
_BLOCK = 1 << 20
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # deflate, no fields, no time, unknown system
_HEADER_SIZE = 348
_MM_AND_SECONDS = 2 | 8
_CODES = {np.dtype(name): code for code, name in DATATYPES.items()}


class ImageWriter:
    """An image being written slab by slab along z; `commit` verifies it and puts it in place.

    Used as a context manager: leaving without `commit` leaves nothing. ``shape`` may have a fourth axis
    beyond the grid's three. After `commit`, ``sha256`` is the hash of the file's bytes.

    Raises
    ------
    EnvironmentFault
        E601 disk or quota full, E602 no right to write, E607 another fault of the file system.
    ProcessingError
        E150 the file does not read back as it was written, E151 values that ``dtype`` can't hold.
    """

    def __init__(
        self,
        path: str | Path,
        grid: Grid,
        *,
        dtype: DTypeLike = np.float32,
        n_volumes: int | None = None,
        description: str = "",
        xform_code: int = 1,
    ) -> None:
        self.path = Path(path)
        self.grid = grid
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.shape = grid.shape if n_volumes in (None, 1) else (*grid.shape, n_volumes)
        header = make_header(self.shape, self.dtype, grid, description, xform_code)
        self._left = int(np.prod(self.shape))
        self._gzipped = is_gzip_name(self.path)
        self._file = AtomicFile(self.path, suffix=".nii.gz" if self._gzipped else ".nii")
        self._hash = hashlib.sha256()
        self._crc = self._length = 0
        self._buffer = bytearray()
        self._deflate = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -15)
        try:
            if self._gzipped:
                self._emit(_GZIP_HEADER)
            self._content(header)
        except BaseException:
            self._file.close()
            raise

    def write_slices(self, values: NDArray[Any]) -> None:
        """Append the slices (X, Y, n), or values (X, Y, Z, ...), that come next in storage order."""
        if values.shape[:2] != self.shape[:2]:
            raise ValueError(f"slices of shape {values.shape} for an image of shape {self.shape}")
        flat = np.ravel(self._cast(values), order="F")
        if flat.size > self._left:
            raise ValueError("more values than the image holds")
        self._left -= flat.size
        self._content(flat.view(np.uint8).data)

    def commit(self) -> None:
        """Finish the file, flush it, read it back and rename it to its place."""
        if self._left:
            raise ValueError(f"{self._left} values are missing")
        if self._gzipped:
            self._emit(self._deflate.compress(self._buffer))
            self._emit(self._deflate.flush())
            self._emit(struct.pack("<II", self._crc, self._length & 0xFFFFFFFF))
        self.sha256 = self._hash.hexdigest()
        self._file.flush()
        self._read_back()
        self._file.commit()

    def close(self) -> None:
        """Give up what was not committed."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _cast(self, values: NDArray[Any]) -> NDArray[Any]:
        if values.dtype == self.dtype:
            return values
        try:
            with np.errstate(over="raise", invalid="raise"):
                cast = values.astype(self.dtype)
        except FloatingPointError:
            cast = None
        if cast is None or (self.dtype.kind in "iu" and not np.array_equal(cast, values)):
            raise ProcessingError(
                "E151", f"values of type {values.dtype} do not fit {self.dtype}", path=self.path
            )
        return cast

    def _content(self, data: bytes | memoryview) -> None:
        self._crc = isal_zlib.crc32(data, self._crc)
        self._length += len(data)
        if not self._gzipped:
            self._emit(data)
            return
        view = memoryview(data)
        while view:
            room = _BLOCK - len(self._buffer)
            self._buffer += view[:room]
            view = view[room:]
            if len(self._buffer) == _BLOCK:
                self._emit(self._deflate.compress(self._buffer))
                self._buffer = bytearray()

    def _emit(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self._file.write(data)

    def _read_back(self) -> None:
        """Read the temporary file as any image is read: its place, type, check sum and hash must be ours."""
        try:
            with ImageReader(self._file.temporary, dtype=self.dtype) as reader:
                reader.verify()
        except InputError as error:
            raise ProcessingError(
                "E150", f"the written file does not read back: {error.message}", path=self.path
            ) from error
        same = (
            reader.sha256 == self.sha256
            and reader.shape == self.shape
            and reader.header.dtype == self.dtype
            and not reader.header.scaled
            and reader.grid.same_as(self.grid)
        )
        if not same:
            raise ProcessingError(
                "E150", "the written file differs from what was written", "", "check the disk", path=self.path
            )


def make_header(
    shape: tuple[int, ...], dtype: np.dtype[Any], grid: Grid, description: str = "", xform_code: int = 1
) -> bytes:
    """The 352 bytes before the values of a NIfTI-1 file, with sform and qform of one place and code.

    Raises
    ------
    ValueError
        Where the grid or the type can't be written: a sheared affine, an axis too long, an unknown type.
    """
    if max(shape) > LONGEST_AXIS or dtype.newbyteorder("=") not in _CODES:
        raise ValueError(f"no image is written with shape {shape} and type {dtype}")
    straight = nearest_right_angled(grid.affine)
    if not grid.same_as(Grid(grid.shape, straight), tol_mm=2e-3):
        raise ValueError("the affine is sheared")
    fields = np.zeros(1, LAYOUTS[_HEADER_SIZE].newbyteorder("<"))
    fields["sizeof_hdr"] = _HEADER_SIZE
    fields["dim"] = 1
    fields["dim"][0, : len(shape) + 1] = (len(shape), *shape)
    fields["datatype"] = _CODES[dtype.newbyteorder("=")]
    fields["bitpix"] = dtype.itemsize * 8
    fields["vox_offset"] = _HEADER_SIZE + 4
    fields["scl_slope"] = 1.0
    fields["xyzt_units"] = _MM_AND_SECONDS
    fields["descrip"] = description.encode("ascii", "replace")[:79]
    fields["magic"] = b"n+1"
    _place(fields, grid, straight, xform_code)
    return fields.tobytes() + b"\0\0\0\0"


def _place(fields: NDArray[Any], grid: Grid, straight: NDArray[np.float64], xform_code: int) -> None:
    sizes = np.array(grid.voxel_size_mm)
    rotation = straight[:3, :3] / sizes
    handedness = 1.0 if np.linalg.det(rotation) > 0 else -1.0
    rotation[:, 2] *= handedness
    fields["qform_code"] = fields["sform_code"] = xform_code
    fields["pixdim"][0, :5] = (handedness, *sizes, 1.0)
    fields["quatern"] = quaternion_of(rotation)[1:]
    fields["qoffset"] = grid.affine[:3, 3]
    fields["srow"] = grid.affine[:3]


def write_image(
    path: str | Path,
    data: NDArray[Any],
    grid: Grid,
    *,
    dtype: DTypeLike = np.float32,
    description: str = "",
    xform_code: int = 1,
) -> Path:
    """Write (X, Y, Z) or (X, Y, Z, T) values: temporary file, fsync, re-read, rename.

    The same values give the same bytes. The name decides: .nii.gz is packed, .nii is not. A symbolic link
    at ``path`` is replaced, not followed.

    Raises
    ------
    EnvironmentFault
        E601 disk or quota full, E602 no right to write, E607 another fault of the file system.
    ProcessingError
        E150 the file does not read back as it was written, E151 values that ``dtype`` can't hold.
    """
    values = data.astype(np.uint8) if data.dtype == bool else data
    if values.shape[:3] != grid.shape or values.ndim > 4:
        raise ValueError(f"values of shape {values.shape} do not lie on a grid of shape {grid.shape}")
    n_volumes = values.shape[3] if values.ndim == 4 else None
    with ImageWriter(
        path, grid, dtype=dtype, n_volumes=n_volumes, description=description, xform_code=xform_code
    ) as writer:
        for volume in np.moveaxis(values, 3, 0) if values.ndim == 4 else (values,):
            for z in range(grid.shape[2]):
                writer.write_slices(volume[:, :, z])
        writer.commit()
    return writer.path


def write_for_registration(path: str | Path, image: Image) -> Path:
    """Write an image (X, Y, Z) as ANTs should get it: closest to RAS+, float32, not finite → 0, uncompressed.

    NIfTI readers differ over scaling, compression faults, contradictory or missing orientations and NaN;
    nothing of that is left in this file.
    """
    if image.data.ndim != 3:
        raise ValueError(f"registration takes three axes, not {image.data.shape}")
    data, grid = to_canonical(image.data, image.grid)
    values = np.nan_to_num(data.astype(np.float32, order="F"), nan=0.0, posinf=0.0, neginf=0.0)
    return write_image(path, values, grid)
