"""Images for the tests, written by nibabel and then bent field by field: r2star writes none of them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

HEADERS = {1: nib.Nifti1Header, 2: nib.Nifti2Header}

OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.2, -0.3, 0.5) @ np.diag([0.9, 1.1, 1.5]), [-40.0, 25.0, 12.5]
)


def nifti_bytes(
    data: np.ndarray[Any, Any],
    affine: np.ndarray[Any, Any] = OBLIQUE,
    *,
    version: int = 1,
    endianness: str = "<",
    **fields: Any,
) -> bytes:
    """A NIfTI file as bytes, sform and qform agreed, then ``fields`` overwritten with no check at all."""
    header = HEADERS[version](endianness=endianness)
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    header.set_sform(affine, 1)
    header.set_qform(affine, 1)
    header["magic"] = header.single_magic
    header["vox_offset"] = header.single_vox_offset
    for name, value in fields.items():
        header.structarr[name] = value
    stored = np.asarray(data).astype(data.dtype.newbyteorder(endianness))
    return header.binaryblock + b"\0\0\0\0" + stored.tobytes(order="F")


@pytest.fixture(scope="session")
def nifti() -> Callable[..., bytes]:
    return nifti_bytes


@pytest.fixture(scope="session")
def oblique() -> np.ndarray[Any, Any]:
    return OBLIQUE.copy()


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """Write bytes under a name, gzipped where the name says so."""

    def write(content: bytes, name: str = "image.nii.gz", *, packed: bool | None = None) -> Path:
        path = tmp_path / name
        packed = name.endswith(".gz") if packed is None else packed
        path.write_bytes(gzip.compress(content, 6, mtime=0) if packed else content)
        return path

    return write


@pytest.fixture(scope="session")
def values() -> np.ndarray[Any, Any]:
    """Noise with structure, int16, all axes different."""
    rng = np.random.default_rng(7)
    x, y, z = np.ogrid[:23, :17, :12]
    return (400 + 50 * np.sin(x / 4) * np.cos(y / 3) + 3 * z + rng.normal(0, 9, (23, 17, 12))).astype(
        np.int16
    )
