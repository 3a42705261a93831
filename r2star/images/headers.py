"""NIfTI-1 and NIfTI-2 headers: what is not certain is refused by name. Imports numpy and errors.

Rules, beyond the standard's own:

- single files only (magic ``n+1``, ``n+2``), either byte order; no ANALYZE, no .hdr/.img pairs;
- 3 axes, or 4 with echoes or times last; axes of length 1 behind the third count for nothing; at most 4096
  along each axis and 64 GiB of values;
- values int8 … uint64, float32, float64, complex64 or complex128; no colours, bits or long doubles;
- ``bitpix`` must fit the datatype (0 counts as not filled in: a notice);
- scl_slope 0, NaN or infinite: values are as stored and scl_inter is ignored; a valid slope needs a finite
  scl_inter;
- lengths in metres or micrometres are converted, with a notice; other codes for the unit count as
  millimetres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from r2star.errors import InputError, Notice

LONGEST_AXIS = 4096
MOST_BYTES = 64 << 30

_NIFTI1 = np.dtype(
    [
        ("sizeof_hdr", "i4"), ("unused1", "S35"), ("dim_info", "u1"), ("dim", "i2", (8,)),
        ("intent_p", "f4", (3,)), ("intent_code", "i2"), ("datatype", "i2"), ("bitpix", "i2"),
        ("slice_start", "i2"), ("pixdim", "f4", (8,)), ("vox_offset", "f4"), ("scl_slope", "f4"),
        ("scl_inter", "f4"), ("slice_end", "i2"), ("slice_code", "u1"), ("xyzt_units", "u1"),
        ("cal_max", "f4"), ("cal_min", "f4"), ("slice_duration", "f4"), ("toffset", "f4"),
        ("unused2", "i4", (2,)), ("descrip", "S80"), ("aux_file", "S24"), ("qform_code", "i2"),
        ("sform_code", "i2"), ("quatern", "f4", (3,)), ("qoffset", "f4", (3,)), ("srow", "f4", (3, 4)),
        ("intent_name", "S16"), ("magic", "S4"),
    ]
)  # fmt: skip
_NIFTI2 = np.dtype(
    [
        ("sizeof_hdr", "i4"), ("magic", "S8"), ("datatype", "i2"), ("bitpix", "i2"), ("dim", "i8", (8,)),
        ("intent_p", "f8", (3,)), ("pixdim", "f8", (8,)), ("vox_offset", "i8"), ("scl_slope", "f8"),
        ("scl_inter", "f8"), ("cal_max", "f8"), ("cal_min", "f8"), ("slice_duration", "f8"),
        ("toffset", "f8"), ("slice_start", "i8"), ("slice_end", "i8"), ("descrip", "S80"),
        ("aux_file", "S24"), ("qform_code", "i4"), ("sform_code", "i4"), ("quatern", "f8", (3,)),
        ("qoffset", "f8", (3,)), ("srow", "f8", (3, 4)), ("slice_code", "i4"), ("xyzt_units", "i4"),
        ("intent_code", "i4"), ("intent_name", "S16"), ("dim_info", "u1"), ("unused", "S15"),
    ]
)  # fmt: skip
LAYOUTS = {348: _NIFTI1, 540: _NIFTI2}

DATATYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 32: "c8", 64: "f8", 256: "i1", 512: "u2", 768: "u4",
    1024: "i8", 1280: "u8", 1792: "c16",
}  # fmt: skip
_REFUSED_DATATYPES = {
    0: "unknown", 1: "single bits", 128: "RGB colours", 1536: "128-bit floats", 2048: "256-bit complex",
    2304: "RGBA colours",
}  # fmt: skip
_MAGIC = {348: b"n+1", 540: b"n+2"}
_PAIR_MAGIC = (b"ni1", b"ni2")
_UNITS_IN_MM = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}
_NOT_NIFTI_FIX = "convert the original images again, for example with dcm2niix"


@dataclass(frozen=True)
class Header:
    """What a NIfTI header says, checked; lengths in mm, codes and matrices as stored."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    data_offset: int
    slope: float
    inter: float
    pixdim: NDArray[np.float64]
    qform_code: int
    sform_code: int
    quaternion: NDArray[np.float64]
    offset: NDArray[np.float64]
    sform: NDArray[np.float64]
    notices: tuple[Notice, ...]
    description: bytes = b""

    @property
    def data_bytes(self) -> int:
        """Bytes that the values take."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def scaled(self) -> bool:
        """Whether the stored values are to be multiplied and shifted."""
        return (self.slope, self.inter) != (1.0, 0.0)


def header_size(start: bytes, path: Path) -> int:
    """348 for NIfTI-1, 540 for NIfTI-2, from the first four bytes in either byte order.

    Raises
    ------
    InputError
        E120 where they are neither.
    """
    for order in ("little", "big"):
        size = int.from_bytes(start[:4], order)
        if size in LAYOUTS:
            return size
    raise InputError(
        "E120", "this is no NIfTI image (sizeof_hdr is neither 348 nor 540)", "", _NOT_NIFTI_FIX, path=path
    )


@np.errstate(over="ignore")  # numbers beyond all bounds are refused by name
def parse_header(raw: bytes, path: Path) -> Header:
    """Read and check a whole header.

    Raises
    ------
    InputError
        E120 no NIfTI, E121 dimensions, E122 datatype, E123 bitpix, E124 vox_offset, E125 scaling, E126 too
        large.
    """
    size = header_size(raw, path)
    order: Literal["<", ">"] = "<" if int.from_bytes(raw[:4], "little") == size else ">"
    fields = np.frombuffer(raw, LAYOUTS[size].newbyteorder(order), count=1)[0]
    _check_magic(fields, size, path)
    notices: list[Notice] = []
    shape = _shape(fields, path)
    dtype = _dtype(fields, order, notices, path)
    _check_size(shape, dtype, path)
    slope, inter = _scaling(fields, dtype, path)
    pixdim, offset, sform = (np.array(fields[key], np.float64) for key in ("pixdim", "qoffset", "srow"))
    in_mm = _unit_in_mm(int(fields["xyzt_units"]), notices, path)
    pixdim[1:4] *= in_mm
    return Header(
        shape=shape,
        dtype=dtype,
        data_offset=_data_offset(fields, size, path),
        slope=slope,
        inter=inter,
        pixdim=pixdim,
        qform_code=int(fields["qform_code"]),
        sform_code=int(fields["sform_code"]),
        quaternion=np.array(fields["quatern"], np.float64),
        offset=offset * in_mm,
        sform=sform * in_mm,
        notices=tuple(notices),
        description=bytes(fields["descrip"]),
    )


def _check_magic(fields: Any, size: int, path: Path) -> None:
    magic = bytes(fields["magic"])
    if magic.startswith(_PAIR_MAGIC):
        raise InputError(
            "E120",
            "this is the header of a .hdr/.img pair",
            "a single .nii or .nii.gz file",
            "convert the pair to a single file",
            path=path,
        )
    tail = b"" if size == 348 else b"\0\r\n\x1a\n"
    if magic != (_MAGIC[size] + tail).rstrip(b"\0"):
        shown = magic[:3].decode("ascii", "replace")
        raise InputError(
            "E120",
            f"this is no NIfTI image (magic is {shown!r})",
            f"{_MAGIC[size].decode()!r} is needed",
            _NOT_NIFTI_FIX,
            path=path,
        )


def _shape(fields: Any, path: Path) -> tuple[int, ...]:
    dim = [int(n) for n in fields["dim"]]
    axes = dim[0]
    if not 1 <= axes <= 7:
        raise InputError("E121", f"dim[0] is {axes}", "3 or 4 axes are needed", _NOT_NIFTI_FIX, path=path)
    lengths = dim[1 : axes + 1]
    if min(lengths) < 1:
        raise InputError(
            "E121", f"the dimensions are {lengths}", "each must be at least 1", _NOT_NIFTI_FIX, path=path
        )
    if axes < 3 or any(n != 1 for n in lengths[4:]):
        raise InputError(
            "E121",
            f"the image has the dimensions {lengths}",
            "3 axes, or 4 with echoes last, are needed",
            "split or convert it",
            path=path,
        )
    return tuple(lengths[:4] if axes > 3 and lengths[3] > 1 else lengths[:3])


def _check_size(shape: tuple[int, ...], dtype: np.dtype[Any], path: Path) -> None:
    if max(shape) > LONGEST_AXIS or math.prod(shape) * dtype.itemsize > MOST_BYTES:
        raise InputError(
            "E126",
            f"the header claims {' × '.join(map(str, shape))} voxels",
            f"at most {LONGEST_AXIS} along an axis and {MOST_BYTES >> 30} GiB are read",
            _NOT_NIFTI_FIX,
            path=path,
        )


def _dtype(fields: Any, order: Literal["<", ">"], notices: list[Notice], path: Path) -> np.dtype[Any]:
    code, bits = int(fields["datatype"]), int(fields["bitpix"])
    if code not in DATATYPES:
        name = _REFUSED_DATATYPES.get(code, "not in the standard")
        raise InputError(
            "E122",
            f"datatype is {code} ({name})",
            "real or complex numbers of 8 to 64 bits are needed",
            _NOT_NIFTI_FIX,
            path=path,
        )
    dtype = np.dtype(DATATYPES[code]).newbyteorder(order)
    if bits == 0:
        notices.append(Notice("W107", "bitpix is not filled in; the datatype decides", path=str(path)))
    elif bits != dtype.itemsize * 8:
        raise InputError(
            "E123",
            f"datatype {code} has {dtype.itemsize * 8} bits but bitpix says {bits}",
            "",
            _NOT_NIFTI_FIX,
            path=path,
        )
    return dtype


def _data_offset(fields: Any, size: int, path: Path) -> int:
    offset, least = float(fields["vox_offset"]), size + 4
    if not (math.isfinite(offset) and offset == int(offset) and least <= offset <= LONGEST_AXIS**2):
        raise InputError(
            "E124",
            f"vox_offset is {offset:g}",
            f"the values start at byte {least} or after it",
            _NOT_NIFTI_FIX,
            path=path,
        )
    return int(offset)


def _scaling(fields: Any, dtype: np.dtype[Any], path: Path) -> tuple[float, float]:
    slope, inter = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or not math.isfinite(slope):
        return 1.0, 0.0
    if not math.isfinite(inter) or (inter != 0 and dtype.kind == "c"):
        raise InputError(
            "E125",
            f"scl_slope is {slope:g} but scl_inter is {inter:g}",
            "it can't be told what the values are",
            _NOT_NIFTI_FIX,
            path=path,
        )
    return slope, inter


def _unit_in_mm(code: int, notices: list[Notice], path: Path) -> float:
    name, factor = _UNITS_IN_MM.get(code & 7, ("millimetres", 1.0))
    if factor != 1.0:
        notices.append(Notice("W106", f"lengths are in {name}: converted to millimetres", path=str(path)))
    return factor
