"""Reading images in one call: one, several at a time, or a grid alone. Imports numpy and the reader."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from r2star.images.grid import Grid, Image
from r2star.images.orientation import Xform
from r2star.images.reader import ImageReader


def open_image(
    path: str | Path,
    *,
    dtype: DTypeLike = np.float32,
    xform: Xform | None = None,
    assume_orientation: bool = False,
    modulus: bool = False,
) -> ImageReader:
    """Open an image to read it slab by slab, as a context manager; see `ImageReader`."""
    return ImageReader(path, dtype=dtype, xform=xform, assume_orientation=assume_orientation, modulus=modulus)


def read_image(
    path: str | Path,
    *,
    dtype: DTypeLike = np.float32,
    xform: Xform | None = None,
    assume_orientation: bool = False,
    modulus: bool = False,
) -> Image:
    """Read an image to the last byte of its file: scaled, checked, in its storage order, x fastest in memory.

    Parameters and errors are those of `ImageReader`.
    """
    with open_image(
        path, dtype=dtype, xform=xform, assume_orientation=assume_orientation, modulus=modulus
    ) as reader:
        data = reader.read()
    return Image(data, reader.grid, reader.notices, reader.sha256, reader.header.description)


def read_images(
    paths: Sequence[str | Path],
    *,
    dtype: DTypeLike = np.float32,
    n_threads: int = 2,
    xform: Xform | None = None,
    assume_orientation: bool = False,
    modulus: bool = False,
) -> tuple[Image, ...]:
    """Read several images, ``n_threads`` at a time, in the order of ``paths``; see `read_image`."""
    read = partial(
        read_image, dtype=dtype, xform=xform, assume_orientation=assume_orientation, modulus=modulus
    )
    with ThreadPoolExecutor(max_workers=max(1, n_threads)) as pool:
        return tuple(pool.map(read, paths))


def read_grid(path: str | Path, *, xform: Xform | None = None, assume_orientation: bool = False) -> Grid:
    """The grid of an image from its header alone: for planning, as the file is not verified to its end.

    Raises
    ------
    InputError
        E1xx, as in `ImageReader`.
    """
    # the type only says that complex values, which have a grid too, are no reason to refuse
    reader = open_image(path, dtype=np.complex64, xform=xform, assume_orientation=assume_orientation)
    reader.close(verify=False)
    return reader.grid
