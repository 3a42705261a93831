"""The one way to read an image: slab by slab, verified to the last byte. Imports numpy and errors.

Values are scaled in float64 and then cast; NaN and infinities stay. A slab is only as certain as what was
read so far: nothing that was made from slabs may be believed before the last one came, or `ImageReader.close`
returned, without an error.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from r2star.errors import EnvironmentFault, InputError, Notice
from r2star.images.extensions import overruns
from r2star.images.headers import Header, header_size, parse_header
from r2star.images.opening import is_gzip_name, open_source
from r2star.images.orientation import Xform, grid_of
from r2star.images.streams import GZIP_MAGIC, RECOPY
from r2star.images.values import as_stored, convert

MOST_SURPLUS_BYTES = 4096

_MOST_DEFLATE = 1032  # a byte of deflate stream never gives more bytes than this (zlib's technical notes)
_SKIP = 1 << 16
_MOST_SEARCHED = 1 << 30
_BLOCK_VALUES = 1 << 17


class ImageReader:
    """An open image: its grid at once, its values slab by slab along z, its verdict at the end.

    Parameters
    ----------
    path
        A .nii or .nii.gz file, NIfTI-1 or NIfTI-2.
    dtype
        Type of the values handed out. To an integer type only whole numbers (to 1e-3) are cast.
    xform, assume_orientation
        What to do where the header's orientation is contradictory or missing; see
        `r2star.images.orientation`.
    modulus
        Hand out the modulus of complex values, which are refused else unless ``dtype`` is complex.

    Raises
    ------
    InputError
        E1xx, each fault by its own name, at any stage of reading.
    EnvironmentFault
        E603 not enough memory, E606 not readable.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        dtype: DTypeLike = np.float32,
        xform: Xform | None = None,
        assume_orientation: bool = False,
        modulus: bool = False,
    ) -> None:
        self.path = Path(path)
        self.dtype = np.dtype(dtype)
        self._modulus = modulus
        self._file, self._source, size = open_source(self.path)
        self._notices: list[Notice] = []
        self._verified = False
        self._extension_overruns = False
        self._done = 0
        try:
            self.header = self._read_header(size)
            self.grid, notices = grid_of(
                self.header, self.path, xform=xform, assume_orientation=assume_orientation
            )
            self._check_complex()
        except InputError as error:
            raise self._cause_of(error) from error
        except BaseException:
            self._file.close()
            raise
        self._notices += [*self.header.notices, *notices]
        self._total = int(np.prod(self.shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """(X, Y, Z) or (X, Y, Z, T)."""
        return self.header.shape

    @property
    def n_slices(self) -> int:
        """Slices along z, of all volumes together."""
        return int(np.prod(self.shape[2:]))

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Warnings so far."""
        return tuple(self._notices)

    @property
    def verified(self) -> bool:
        """Whether the file was read and checked to its last byte."""
        return self._verified

    @property
    def sha256(self) -> str:
        """Hash of the file's bytes as they are on the disk; known once the file is verified."""
        if not self._verified:
            raise ValueError("the hash is known when the image was read to its end")
        return self._source.sha256

    def read_slices(self, count: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The next ``count`` slices, or those that are left: (X, Y, n), x fastest in memory.

        Volumes of a 4D image follow one another. With the last slice the rest of the file is verified. ``out``,
        an array of `dtype` with x fastest in memory (as ``np.empty((n, Y, X)).T``) and room for ``count`` slices,
        is filled instead of a new one; the part of it that was filled is returned.
        """
        x, y = self.shape[:2]
        count = min(count, self.n_slices - self._done // (x * y))
        if out is None:
            slab = self._allocate((x, y, count))
        else:
            slab = out[:, :, :count]
            if slab.shape != (x, y, count) or slab.dtype != self.dtype or not slab.flags.f_contiguous:
                raise ValueError(f"slices {(x, y, count)} of {self.dtype} can't be read into {out.shape}")
        self._fill(slab)
        return slab

    def read(self) -> NDArray[Any]:
        """All values at once, x fastest in memory; only before the first slab was read."""
        if self._done:
            raise ValueError("a part of the image has been read already")
        values = self._allocate(self.shape)
        self._fill(values)
        return values

    def verify(self) -> None:
        """Read what is left and check the file to its last byte."""
        scratch = memoryview(bytearray(_SKIP))
        left = (self._total - self._done) * self.header.dtype.itemsize
        while left:
            left -= self._take(scratch[: min(left, len(scratch))])
        self._done = self._total
        self._finish()

    def close(self, *, verify: bool = True) -> None:
        """Close the file, after verifying the rest of it."""
        try:
            if verify and not self._file.closed:
                self.verify()
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(verify=kind is None)

    def _read_header(self, size: int) -> Header:
        raw = bytearray(348)
        read = self._source.read_into(memoryview(raw))
        if raw.startswith(GZIP_MAGIC):
            raise InputError("E106", "the file is gzipped twice", "", "unpack it once", path=self.path)
        if read < len(raw):
            raise self._too_short()
        more = bytearray(header_size(bytes(raw), self.path) - len(raw))
        if more:
            self._take(memoryview(more))
        header = parse_header(bytes(raw + more), self.path)
        self._check_room(header, size)
        skip = header.data_offset - len(raw) - len(more)
        scratch = memoryview(bytearray(_SKIP))
        first = bytes(scratch[: self._take(scratch[: min(skip, _SKIP)])])
        self._extension_overruns = overruns(
            first, skip, "little" if raw[0] else "big"
        )  # sizeof_hdr is 348 or 540
        skip -= len(first)
        while skip:
            skip -= self._take(scratch[: min(skip, _SKIP)])
        return header

    def _check_room(self, header: Header, size: int) -> None:
        """Refuse from the file's size alone what can't be there, before anything is allocated."""
        needed = header.data_offset + header.data_bytes
        room = size * _MOST_DEFLATE if is_gzip_name(self.path) else size
        if needed > room:
            raise InputError(
                "E109",
                f"the file is cut off: its header promises {needed} bytes",
                f"it has {size} on the disk",
                RECOPY,
                path=self.path,
            )

    def _check_complex(self) -> None:
        if self.header.dtype.kind == "c" and not self._modulus and self.dtype.kind != "c":
            raise InputError(
                "E128",
                "the image holds complex numbers",
                "a magnitude image is needed",
                "split it into magnitude and phase images",
                path=self.path,
            )

    def _allocate(self, shape: tuple[int, ...]) -> NDArray[Any]:
        try:
            return np.empty(shape, self.dtype, order="F")
        except MemoryError as error:
            gib = float(np.prod(shape, dtype=float)) * self.dtype.itemsize / 2**30
            raise EnvironmentFault(
                "E603",
                f"not enough memory: {gib:.1f} GiB are needed for this image",
                "",
                "use a machine or a limit with more memory",
                path=self.path,
            ) from error

    def _take(self, view: memoryview) -> int:
        if self._source.read_into(view) < len(view):
            raise self._too_short()
        return len(view)

    def _too_short(self) -> InputError:
        return InputError(
            "E109",
            "the file is cut off: it holds fewer bytes than its header promises",
            "",
            RECOPY,
            path=self.path,
        )

    def _fill(self, values: NDArray[Any]) -> None:
        flat = values.reshape(-1, order="F")
        if as_stored(self.header, self.dtype):
            self._take(flat.view(np.uint8).data)
        else:
            scratch = np.empty(min(_BLOCK_VALUES, flat.size), self.header.dtype)
            for start in range(0, flat.size, _BLOCK_VALUES):
                target = flat[start : start + _BLOCK_VALUES]
                block = scratch[: target.size]
                self._take(block.view(np.uint8).data)
                convert(block, target, self.header, modulus=self._modulus, path=self.path)
        self._done += flat.size
        if self._done == self._total:
            self._finish()

    def _finish(self) -> None:
        if self._verified:
            return
        member = self._source.part
        surplus = self._source.read_into(memoryview(bytearray(MOST_SURPLUS_BYTES + 1)))
        if surplus and self._source.part > member:
            raise InputError(
                "E111", "a second gzip stream follows the image", "", "keep one image a file", path=self.path
            )
        if surplus > MOST_SURPLUS_BYTES:
            raise self._cause_of(self._too_long())
        if surplus and self._extension_overruns:
            raise InputError(
                "E124",
                f"a header extension reaches past vox_offset, and {surplus} bytes follow the values",
                "values that start behind the extension",
                "convert the original images again, for example with dcm2niix",
                path=self.path,
            )
        if surplus:
            message = f"{surplus} bytes follow the values and were not used"
            self._notices.append(Notice("W101", message, RECOPY, str(self.path)))
        self._verified = True
        self._file.close()

    def _too_long(self) -> InputError:
        return InputError(
            "E112",
            "the file holds more values than its header says",
            f"at most {MOST_SURPLUS_BYTES} bytes may follow them",
            RECOPY,
            path=self.path,
        )

    def _cause_of(self, error: InputError) -> InputError:
        """What explains a fault of the content: damage to the file if there is any, else the fault."""
        scratch = memoryview(bytearray(_SKIP))
        try:
            for _ in range(_MOST_SEARCHED // _SKIP):
                if self._source.read_into(scratch) < _SKIP:
                    break
        except InputError as damage:
            return damage
        finally:
            self._file.close()
        return error
