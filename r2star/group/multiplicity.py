"""Adjusting p values for how many were looked at. Arrays in, arrays out; may import numpy only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def adjust_holm(p: Array) -> Array:
    """Holm's step-down: max over smaller ones of (m − rank)·p; the chance of any false claim. NaN stays NaN.

    Holm 1979, Scand J Statist 6:65.

    >>> [float(q) for q in adjust_holm(np.array([0.01, 0.04, 0.03]))]
    [0.03, 0.06, 0.06]
    """
    known, order = _ordered(p)
    m = order.size
    return _restored(p, known, order, np.maximum.accumulate((m - np.arange(m)) * p[known][order]))


def adjust_bh(p: Array) -> Array:
    """Benjamini–Hochberg's step-up: min over larger ones of m·p/rank; the share of false claims.

    Benjamini & Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x.

    >>> [round(float(q), 6) for q in adjust_bh(np.array([0.01, 0.04, 0.03]))]
    [0.03, 0.04, 0.04]
    """
    known, order = _ordered(p)
    m = order.size
    stepped = m * p[known][order] / (np.arange(m) + 1)
    return _restored(p, known, order, np.minimum.accumulate(stepped[::-1])[::-1])


def adjust_none(p: Array) -> Array:
    """Leave p values as they are."""
    return np.asarray(p, dtype=float).copy()


#: The adjustments that a model file may name.
ADJUSTMENTS: dict[str, Callable[[Array], Array]] = {"holm": adjust_holm, "bh": adjust_bh, "none": adjust_none}


def _ordered(p: Array) -> tuple[Array, Array]:
    known = np.flatnonzero(np.isfinite(p))
    return known, np.argsort(p[known], kind="stable")


def _restored(p: Array, known: Array, order: Array, adjusted: Array) -> Array:
    out = np.full(np.shape(p), np.nan)
    out[known[order]] = np.minimum(adjusted, 1.0)
    return out
