"""Reading a label image: whole numbers only. May import images and errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from r2star.atlas.schema import MAX_LABEL
from r2star.errors import UsageError
from r2star.images import Image, read_image

ROUNDING = 1e-3  # some programs write labels through floating point: 3.0000458 is label 3


def read_labels(path: Path) -> Image:
    """Read a label image as uint16 of shape (X, Y, Z); within 0.001 of a whole number it is that.

    Raises
    ------
    UsageError
        The image is not 3D, or holds values that are no whole numbers 0–65535 (E457): an interpolated or a
        probability image was given.
    """
    image = read_image(path, dtype=np.float64)
    if image.data.ndim != 3:
        raise UsageError(
            "E457", f"the label image has shape {image.data.shape}", "three dimensions", path=path
        )
    values = np.nan_to_num(image.data, nan=0.0)
    whole = np.rint(values)
    if np.abs(values - whole).max() >= ROUNDING or whole.min() < 0 or whole.max() > MAX_LABEL:
        raise UsageError(
            "E457", "the label image holds values that are no labels", f"whole numbers 0–{MAX_LABEL}",
            "give a segmentation, not an interpolated or probability image", path=path,
        )  # fmt: skip
    return replace(image, data=whole.astype(np.uint16))
