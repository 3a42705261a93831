"""Which voxels of a fit keep their value, and whether the whole can be believed. Imports numpy, fit and errors.

Rules look at one voxel alone, or at counts over all: the size of the slabs that a fit goes through changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r2star.errors import InputError, Notice
from r2star.fit import Decay, Status

#: As in `fit_decay` where σ is known: below so many σ in every echo there is no signal to fit.
NOISE_FLOOR_SIGMAS = 3.0
#: A unit whose fitted voxels rise with echo time in more than this share has its echoes or times mixed up.
LARGEST_RISING_SHARE = 0.5
#: An echo beside a zero has clear signal from this share of the voxel's largest, and so many σ, on: a decay would
#: have to lose all of it, noise included, in one step.
CLEAR_SHARE, CLEAR_SIGMAS = 0.2, 10.0
#: Most of a head, at any field, decays at a rate (1/s) between these.
HEAD_RATES_PER_S = (3.0, 250.0)


def mark_noise(decay: Decay, slab: NDArray[np.float32], sigma: float | None) -> None:
    """Take the value from voxels in which no echo stands out of the noise; ``slab`` is (E, X, Y, n)."""
    if sigma is not None:
        dark = decay.has_value & (slab.max(axis=0) < NOISE_FLOOR_SIGMAS * sigma)
        _take_value(decay, dark, Status.BELOW_NOISE_FLOOR)


def mark_lost(
    decay: Decay, slab: NDArray[np.float32], echo_times_s: Sequence[float], sigma: float | None
) -> None:
    """Take the value from voxels in which an echo is exactly zero just before or after one of clear signal.

    So are slices that were lost on the way, and what a mask cut out of one echo: as a signal, the zero would pass for
    a fast decay. Values that come from the echoes before the zero alone are kept.
    """
    if slab.all():
        return
    clear = slab > np.maximum(CLEAR_SHARE * slab.max(axis=0), CLEAR_SIGMAS * (sigma or 0.0))
    lost = np.zeros(slab.shape[1:], bool)
    for one, other in pairwise(np.argsort(echo_times_s)):
        lost |= ((slab[one] == 0) & clear[other]) | ((slab[other] == 0) & clear[one])
    kept = decay.status == Status.ECHOES_DROPPED
    _take_value(decay, lost & decay.has_value & ~kept, Status.ECHO_LOST)


def _take_value(decay: Decay, where: NDArray[np.bool_], status: Status) -> None:
    decay.status[where] = status
    for values in (decay.r2star_per_s, decay.r2star_se_per_s, decay.s0, decay.residual):
        values[where] = np.nan


def count_odd_rates(decay: Decay) -> int:
    """Voxels with a value outside `HEAD_RATES_PER_S`."""
    low, high = HEAD_RATES_PER_S
    within = (decay.r2star_per_s >= low) & (decay.r2star_per_s <= high)
    return int(np.count_nonzero(decay.has_value & ~within))


def _n_fitted(counts: NDArray[np.int64]) -> int:
    return int(sum(counts[code] for code in Status if code.has_value))


def check_counts(counts: NDArray[np.int64], first: Path) -> None:
    """Judge by the number of voxels of each `Status`; ``first`` is the file to name.

    Raises
    ------
    InputError
        E303 where most of the signal rises with echo time, E312 where no voxel has a value.
    """
    fitted = _n_fitted(counts)
    if not fitted:
        codes = sorted((code for code in Status if counts[code]), key=lambda code: -counts[code])
        found, needed = (
            f"no voxel can be fitted ({', '.join(code.label for code in codes)})",
            "echoes that decay are needed",
        )
        raise InputError("E312", found, needed, "look at the images, and export the series again", path=first)
    if counts[Status.RISING] > LARGEST_RISING_SHARE * fitted:
        share = 100 * counts[Status.RISING] / fitted
        raise InputError(
            "E303",
            f"the signal rises with echo time in {share:.0f} % of the voxels",
            "it falls in tissue",
            "check that each echo has its own EchoTime",
            path=first,
        )


def fit_notices(counts: NDArray[np.int64], n_odd: int) -> list[Notice]:
    """Warn of echoes that were lost in some voxels (W306), and of rates that no head has (W307)."""
    notices = []
    if n_lost := int(counts[Status.ECHO_LOST]):
        found = f"in {n_lost} voxels an echo is exactly zero beside one of clear signal; they get no estimate"
        notices.append(Notice("W306", found, "give echoes that nothing was cut out of"))
    if n_odd > 0.5 * _n_fitted(counts):
        low, high = HEAD_RATES_PER_S
        share = 100 * n_odd / _n_fitted(counts)
        found = f"{share:.0f} % of the voxels have an R2* outside {low:g} to {high:g} 1/s, unlike any head"
        notices.append(Notice("W307", found, "check the echo times and the scaling of the echoes"))
    return notices
