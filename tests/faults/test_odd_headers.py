"""Battery, parts A to C once more: what other programs, copies and cut-down converters leave in files and headers."""

from __future__ import annotations

import bz2
import gzip
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import battery as b
import nibabel as nib
import numpy as np
from battery import fine, refused, warned
from test_files_and_headers import (
    DATATYPE,
    DIM,
    MAGIC,
    SLOPE,
    VOX_OFFSET,
    as_type,
    dims,
    field,
    link_to,
    replace_by,
)
from test_geometry import PIXDIM, QFORM_CODE, SROW, XYZT, codes, moved, placed

EXTENSION_FLAG, QUATERNION, QOFFSET = 348, 256, 268
EXTENSION = struct.pack("<ii", 16, 6) + b"comments"


def packed_by(pack: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """The second echo's bytes in another wrapping."""
    return lambda folder: b.image(folder, 2).write_bytes(pack(bytes(b.content_of(folder, 2))))


def gzipped_with_name(content: bytes) -> bytes:
    body = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = body.compress(content) + body.flush()
    end = struct.pack("<II", zlib.crc32(content), len(content))
    return b"\x1f\x8b\x08\x08\0\0\0\0\0\x03image.nii\0" + packed + end


def wrong_length(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)[:-4] + struct.pack("<I", len(content) + 1)


def extended(offset: int, extension: bytes = EXTENSION) -> Callable[[Path], None]:
    """The second echo with an extension between header and values, which start at ``offset`` by its header."""

    def spoil(folder: Path) -> None:
        content = b.content_of(folder, 2)
        content[EXTENSION_FLAG] = 1
        struct.pack_into("<f", content, VOX_OFFSET, offset)
        b.pack(folder, 2, bytes(content[:352]) + extension + bytes(content[352:]))

    return spoil


def as_pair(folder: Path) -> None:
    """The last echo as two files, as older programs write it."""
    image = nib.load(b.image(folder, 4))
    nib.save(nib.Nifti1Pair(np.asarray(image.dataobj), image.affine), b.image(folder, 4, ".img"))
    b.image(folder, 4).unlink()


def other_ending(folder: Path) -> None:
    b.image(folder, 4).rename(b.image(folder, 4, ".NII.GZ"))


def linked_twice(folder: Path) -> None:
    b.image(folder, 3).unlink()
    b.image(folder, 3).hardlink_to(b.image(folder, 2))


def pipe(suffix: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        b.image(folder, 2, suffix).unlink()
        os.mkfifo(b.image(folder, 2, suffix))

    return spoil


def big_endian_nifti2(folder: Path, number: int, values: np.ndarray) -> None:
    header = nib.Nifti2Image(values, b.AFFINE).header.as_byteswapped(">")
    nib.save(nib.Nifti2Image(values, b.AFFINE, header), b.image(folder, number))


def negative_slope(folder: Path, number: int, values: np.ndarray) -> None:
    stored = (values / -4).astype("<i2")
    header = nib.Nifti1Image(stored, b.AFFINE).header
    header["scl_slope"], header["scl_inter"], header["vox_offset"] = -4, 0, 352
    b.pack(folder, number, header.binaryblock + bytes(4) + stored.tobytes(order="F"))


def in_units(code: int, mm: float) -> Callable[[Path], None]:
    """The same head with its lengths in another unit of so many mm, which the header names."""

    def change(folder: Path, number: int, values: np.ndarray) -> None:
        b.rewrite(folder, number, values, np.diag([1 / mm, 1 / mm, 1 / mm, 1]) @ b.AFFINE)
        b.poke(folder, number, XYZT, "B", code)

    return b.each_echo(change)


def all_echoes(offset: int, form: str, *values: float) -> Callable[[Path], None]:
    return lambda folder: b.poke_all(folder, offset, form, *values)


def by_qform(offset: int, form: str, *values: float) -> Callable[[Path], None]:
    """A field of the qform spoilt where there is no sform."""

    def spoil(folder: Path) -> None:
        b.poke_all(folder, QFORM_CODE, "2h", 1, 0)
        b.poke_all(folder, offset, form, *values)

    return spoil


def third_echo(affine: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: b.rewrite(folder, 3, b.signal()[..., 2], affine)


def bent(row: int, column: int, value: float) -> np.ndarray:
    affine = b.AFFINE.copy()
    affine[row, column] = value
    return affine


def parallel_axes(folder: Path) -> None:
    for row in range(3):
        b.poke_all(folder, SROW + 16 * row, "2f", b.AFFINE[row, 0], b.AFFINE[row, 0])
    b.poke_all(folder, QFORM_CODE, "h", 0)


ROWS = [
    fine("A06", "a file name in the gzip header", packed_by(gzipped_with_name)),
    refused("A06b", "the length in the trailer", packed_by(wrong_length), "E108", "echo-2", "copy the file again"),
    refused("A06c", "bzip2", packed_by(bz2.compress), "E106", "echo-2", "not gzipped"),
    refused("A06d", "gzipped twice", packed_by(lambda raw: gzip.compress(gzip.compress(raw))), "E106", "echo-2",
            "gzipped twice", "unpack it once"),
    refused("A06e", "300 MB of zeros behind the image", packed_by(lambda raw: gzip.compress(raw + bytes(3 * 10**8), 1)),
            "E112", "echo-2"),
    refused("A09", "DICOM", replace_by(bytes(128) + b"DICM" + bytes(4000)), "E106", "echo-2"),
    refused("A09b", "a pipe", pipe(".nii.gz"), "E220", "echo-2", "regular file"),
    refused("A09c", "a pipe for a sidecar", pipe(".json"), "E220", "echo-2_MEGRE.json", "regular file"),
    refused("A09d", "a link to an endless device", link_to("/dev/zero"), "E220", "echo-2", "regular file"),
    warned("A09e", "one echo as .hdr and .img", as_pair, "W210", None),
    warned("A09f", "one echo named .NII.GZ", other_ending, "W210", None),
    refused("A09g", "two names of one file", linked_twice, "E310", "echo-3", "echo-2"),
    refused("B02b", "ANALYZE", field(MAGIC, "4s", b"\0\0\0\0"), "E120", "echo-2"),
    fine("B04b", "NIfTI-2, big-endian", b.each_echo(big_endian_nifti2)),
    refused("B05f", "dim[4] = 0", dims((4, 6, 5, 4, 0)), "E121", "echo-2"),
    refused("B05g", "a vector a voxel", dims((5, 6, 5, 1, 1, 4)), "E121", "echo-2"),
    fine("B05h", "nonsense behind the axes that count", field(DIM, "8h", 3, 6, 5, 4, -7, 0, 999, 0)),
    refused("B08b", "two axes exchanged", dims((3, 5, 6, 4)), "E306", "", "5×6×4", "6×5×4"),
    fine("B09f", "int64", as_type("i4")),
    refused("B09g", "transparent colours", field(DATATYPE, "2h", 2304, 32), "E122", "echo-2", "2304"),
    fine("B12", "an extension", extended(368)),
    refused("B12b", "an extension that vox_offset passes over", extended(352), "E124", "echo-2", "extension"),
    refused("B12c", "an extension longer than its place", extended(360), "E124", "echo-2", "extension"),
    fine("B12d", "an extension announced, and none", field(EXTENSION_FLAG, "B", 1)),
    fine("B12e", "an extension of no length", extended(368, bytes(16))),
    fine("B12f", "an extension that claims 2 GB", extended(368, struct.pack("<ii", 2**31 - 1, 6) + bytes(8))),
    refused("B12g", "vox_offset with a fraction", field(VOX_OFFSET, "f", 352.5), "E124", "echo-2", "352.5"),
    refused("B12h", "negative vox_offset", field(VOX_OFFSET, "f", -352), "E124", "echo-2"),
    fine("B13c", "negative values by a negative slope", b.each_echo(negative_slope)),
    refused("B13d", "a slope of -1", field(SLOPE, "2f", -1, 0), "E301", "echo-2", "positive"),
    fine("B14d", "an infinite slope", field(SLOPE, "2f", np.inf, 0)),
    refused("B16", "a slope of 1e30", all_echoes(SLOPE, "2f", 1e30, 0), "E311", "echo-1", "scl_slope"),
    refused("B16b", "a slope of 1e-30", all_echoes(SLOPE, "2f", 1e-30, 0), "E311", "echo-1", "scl_slope"),
    refused("B16c", "an intercept of 1e30", field(SLOPE, "2f", 1, 1e30), "E311", "echo-2", "scl_inter"),
    warned("B16d", "the slope of one echo lost", field(SLOPE, "2f", 0.1, 0), "W303", None),
    fine("B18", "nonsense in fields that nothing reads", field(124, "2f", np.nan, -1)),
    warned("B22", "lengths in metres", in_units(1, 1000.0), "W106", 0.0),
    warned("B22b", "lengths in micrometres", in_units(3, 0.001), "W106", 0.0),
    refused("B22c", "mm that the header calls metres", all_echoes(XYZT, "B", 1), "E134", "echo-1", "2000 × 2000"),
    refused("B22d", "mm that the header calls micrometres", all_echoes(XYZT, "B", 3), "E134", "echo-1"),
    fine("B22e", "no unit of length", all_echoes(XYZT, "B", 0)),
    refused("C06b", "a negative code", codes(-1, 1), "E136", "echo-1", "-1"),
    refused("C09c", "an infinite sform", field(SROW + 12, "f", np.inf), "E133", "echo-2"),
    refused("C09d", "two axes in one direction", parallel_axes, "E133", "echo-1"),
    refused("C09e", "a head 1000 km away", placed(moved(1e9)), "E133", "echo-1"),
    refused("C10", "a quaternion longer than 1", by_qform(QUATERNION, "3f", 0.9, 0.9, 0.9), "E135", "echo-1"),
    refused("C10b", "a NaN in the quaternion", by_qform(QUATERNION, "3f", np.nan, 0, 0), "E135", "echo-1"),
    fine("C10c", "a NaN in a quaternion that does not count", all_echoes(QUATERNION, "3f", np.nan, 0, 0)),
    refused("C10d", "a qform with voxels of no size", by_qform(PIXDIM + 4, "3f", 0, 2, 3), "E135", "echo-1"),
    refused("C11d", "voxels of 0.04 mm", placed(np.diag([0.04, 0.04, 0.04, 1])), "E134", "echo-1"),
    fine("C11e", "thick slices", placed(np.diag([0.3, 0.3, 15, 1])), None),
    refused("C16b", "one echo 0.05 mm off", third_echo(moved(0.05)), "E307", "echo-3"),
    refused("C16c", "one echo of other voxels", third_echo(bent(0, 0, 2.02)), "E307", "echo-3"),
    fine("C16d", "one echo off by rounding", third_echo(moved(0.005))),
    refused("C18", "one echo without orientation", lambda f: b.poke(f, 3, QFORM_CODE, "2h", 0, 0), "E130", "echo-3"),
    refused("C18b", "one echo with another offset by its qform", lambda f: (
        b.poke(f, 3, QFORM_CODE, "2h", 1, 0), b.poke(f, 3, QOFFSET, "f", -90)), "E307", "echo-3"),
]  # fmt: skip


test_row, test_the_others_are_untouched_and_the_exit_code_says_1, test_row_alone = b.tests_of(
    ROWS, alone=("B12b",)
)
