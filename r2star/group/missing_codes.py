"""Numbers that stand for "not known" in many tables, such as -999. Imports numpy."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_CODE = re.compile(r"-[789](?:\.0*)?|-?(?:9{2,}|8{2,}|7{2,})(?:\.0*)?")


def find_missing_codes(texts: Sequence[str], values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the numbers look like a code for a missing value.

    They are written as one (-9, 99, 999, -88, …), and lie apart: below zero where no other number does, or farther
    beyond the others than these spread. ``values`` are what ``texts`` say; NaN takes no part.

    >>> find_missing_codes(["31", "-9", "62", "n/a"], np.array([31, -9, 62, np.nan])).tolist()
    [False, True, False, False]
    >>> find_missing_codes(["31", "99", "62"], np.array([31.0, 99, 62])).tolist()
    [False, True, False]
    >>> find_missing_codes(["-1.5", "-9", "62"], np.array([-1.5, -9, 62])).tolist()
    [False, False, False]
    """
    written = np.array([_CODE.fullmatch(text) is not None for text in texts], bool) & np.isfinite(values)
    others = values[np.isfinite(values) & ~written]
    if not others.size:
        return np.zeros(values.shape, bool)
    low, high = float(others.min()), float(others.max())
    with np.errstate(invalid="ignore"):
        beyond = np.maximum(values - high, low - values) > high - low
        negative = (values < 0) & (low >= 0)
    return written & (beyond | negative)
