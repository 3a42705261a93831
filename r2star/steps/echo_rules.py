"""What the images of echoes must be, alone and to each other: one grid, unlike values, a signal that falls.

Arrays and grids in; `r2star.steps.inputs` reads the files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.errors import InputError, Notice
from r2star.images import Grid

#: Echoes of one unit lie on one grid to within this distance at the corners, mm.
ECHO_GRID_TOLERANCE_MM = 0.01
#: Voxels brighter than this share of the brightest (98th percentile of the first echo) are tissue.
TISSUE_SHARE = 0.2
#: The largest value of an echo; beyond, squares and sums overflow or vanish in float32.
MAGNITUDE_RANGE = (1e-12, 1e12)
#: From one echo to the next at most this share of tissue voxels may rise: noise alone lifts half of them.
LARGEST_RISING_SHARE = 0.6
#: Echoes lie on one decay where each is within this of a straight ln S, in the median of the tissue. A real head at
#: 3 echoes is within 0.003; odd and even echoes of a bipolar train differ by some hundredths.
LARGEST_DEVIATION = 0.055
#: A voxel tells the decay where its faintest echo has this share of the brightest, and so many σ.
FAINTEST_SHARE, FAINTEST_SIGMAS = 0.1, 5.0
FEWEST_VOXELS = 50
#: dcm2niix leaves the echo time (ms) in the header's text, with two digits.
_TOLD_TIME = re.compile(rb"(?:^|[;/\s])TE=(\d{1,3}(?:\.\d{1,4})?)(?:ms)?(?=[;/\s\0]|$)")
LARGEST_TIME_DEVIATION = 0.06


def check_one_grid(paths: Sequence[Path], grids: Sequence[Grid]) -> None:
    """Refuse images of different shapes (E306) or places (E307)."""
    shapes = {grid.shape for grid in grids}
    if len(shapes) > 1:
        listed = ", ".join(
            f"{path.name} {'×'.join(map(str, grid.shape))}" for path, grid in zip(paths, grids)
        )
        raise InputError(
            "E306",
            f"the echoes have different shapes: {listed}",
            "one shape is needed",
            "export the series again",
            path=paths[0],
        )
    for path, grid in zip(paths, grids):
        if not grid.same_as(grids[0], tol_mm=ECHO_GRID_TOLERANCE_MM):
            raise InputError(
                "E307",
                f"the echo lies elsewhere in space than {paths[0].name}",
                f"corners within {ECHO_GRID_TOLERANCE_MM} mm are needed",
                "export the series again",
                path=path,
            )


def check_distinct(paths: Sequence[Path], samples: Sequence[NDArray[np.float32]]) -> None:
    """Refuse an image that stands for two echoes (E310): measured twice, no two images are equal."""
    for number, sample in enumerate(samples):
        for path, earlier in zip(paths[:number], samples[:number]):
            if np.array_equal(sample, earlier, equal_nan=True):
                raise InputError(
                    "E310",
                    f"the echo holds the same values as {path.name}",
                    "each echo is an image of its own",
                    "export the series again",
                    path=paths[number],
                )


def check_falling(paths: Sequence[Path], samples: Sequence[NDArray[np.float32]]) -> list[Notice]:
    """Warn (W303) where the signal rises from one echo to the next: files and echo times may be mixed up."""
    if not samples:
        return []
    first = samples[0][np.isfinite(samples[0])]
    tissue = samples[0] > TISSUE_SHARE * np.percentile(first, 98)
    notices = []
    for before, after, earlier, later in zip(samples, samples[1:], paths, paths[1:]):
        share = float(np.mean(after[tissue] > before[tissue])) if tissue.any() else 0.0
        if share > LARGEST_RISING_SHARE:
            found = f"the signal rises from {earlier.name} to this echo in {share:.0%} of the voxels"
            notices.append(Notice("W303", found, "check which echo time belongs to which file", str(later)))
    return notices


def filled_slices(data: NDArray[Any]) -> frozenset[int]:
    """Slices along z that hold one value, which is not 0."""
    filled = (data.min(axis=(0, 1)) == data.max(axis=(0, 1))) & (data[0, 0] != 0)
    return frozenset(np.flatnonzero(filled).tolist())


def check_filled(paths: Sequence[Path], filled: Sequence[frozenset[int]]) -> None:
    """Refuse an echo of which slices were lost and filled with a constant (E313); as zeros they are told (W306)."""
    for path, own in zip(paths, filled):
        lost = sorted(own - frozenset.intersection(*filled))
        if lost:
            listed = ", ".join(str(number + 1) for number in lost[:10])
            raise InputError(
                "E313",
                f"slice {listed} of this echo holds one value, other echoes hold signal there",
                "echoes of which no slice was lost are needed",
                "export the series again",
                path=path,
            )


def check_own_scales(paths: Sequence[Path], largest: Sequence[float]) -> list[Notice]:
    """Warn (W308) where the largest value of all echoes is one: each was scaled by itself, or all are cut off.

    The brightest voxel decays too. Scaled to one largest value each, the echoes would decay too slowly.
    """
    if len(largest) < 3 or len(set(largest)) > 1:
        return []
    found = f"the largest value of every echo is {largest[0]:g}, as if each had been scaled by itself"
    return [Notice("W308", found, "export the series again with one scale for all echoes", paths[0].name)]


def check_one_decay(
    paths: Sequence[Path],
    samples: Sequence[NDArray[np.float32]],
    echo_times_s: Sequence[float],
    sigma: float | None,
) -> list[Notice]:
    """Warn (W309) where the echoes do not lie on one decay: one has a scale, or an echo time, of its own.

    Whatever the tissue, ln S is nearly straight; a factor that one echo has of its own is in all voxels alike, and the
    median over them is free of noise. Three echoes and more can tell.
    """
    if len(samples) < 3:
        return []
    signal = np.stack(samples, -1)
    with np.errstate(invalid="ignore"):
        brightest, faintest = signal.max(-1), signal.min(-1)
        first = signal[np.isfinite(signal[:, 0]), 0]
        clear = (faintest > FAINTEST_SHARE * brightest) & (faintest > FAINTEST_SIGMAS * (sigma or 0.0))
        clear &= (signal[:, 0] > TISSUE_SHARE * np.percentile(first, 98)) & np.isfinite(brightest)
    if np.count_nonzero(clear) < FEWEST_VOXELS:
        return []
    design = np.stack([np.ones(len(paths)), -np.array(echo_times_s)], -1)
    logarithms = np.log(signal[clear].astype(np.float64))
    deviations = np.median(logarithms - logarithms @ (design @ np.linalg.pinv(design)).T, axis=0)
    worst = int(np.argmax(np.abs(deviations)))
    if abs(deviations[worst]) <= LARGEST_DEVIATION:
        return []
    share = f"{abs(deviations[worst]):.0%} or more {'above' if deviations[worst] > 0 else 'below'}"
    found = f"half of the tissue lies {share} the decay through all echoes"
    fix = "check the scaling and the echo time of each echo"
    return [Notice("W309", found, fix, paths[worst].name)]


def check_told_times(
    paths: Sequence[Path], descriptions: Sequence[bytes], echo_times_s: Sequence[float]
) -> list[Notice]:
    """Warn (W310) where headers tell other echo times than the sidecars.

    Headers that were copied from one echo to all tell nothing: each must have a time of its own.
    """
    found = [_TOLD_TIME.search(text) for text in descriptions]
    told_s = [float(one[1]) / 1000 for one in found if one]
    if len(set(told_s)) < len(paths):
        return []
    for path, told, time in zip(paths, told_s, echo_times_s):
        if abs(told - time) > LARGEST_TIME_DEVIATION * time:
            times = f"{1000 * told:g} ms, the sidecar {1000 * time:g} ms"
            meaning = f"the image's header tells an echo time of {times}"
            return [Notice("W310", meaning, "check EchoTime in the sidecars", path.name)]
    return []


def check_magnitude(path: Path, data: NDArray[Any]) -> list[Notice]:
    """Empty echoes are refused; voxels that are no magnitude are counted."""
    finite = np.isfinite(data)
    largest = float(np.max(data, where=finite, initial=0.0))
    if largest <= 0:
        raise InputError(
            "E301",
            "no voxel of this echo is positive and finite",
            "a magnitude image is needed",
            "export the echo again",
            path=path,
        )
    if not MAGNITUDE_RANGE[0] <= largest <= MAGNITUDE_RANGE[1]:
        low, high = MAGNITUDE_RANGE
        raise InputError(
            "E311",
            f"the largest value is {largest:.3g}",
            f"one between {low:g} and {high:g} is needed, where 32-bit arithmetic is safe",
            "check scl_slope and scl_inter in the header, or scale all echoes alike",
            path=path,
        )
    notices = []
    if n_bad := int(finite.size - np.count_nonzero(finite)):
        notices.append(
            Notice("W301", f"{n_bad} voxels are NaN or infinite; they get no estimate", path=path.name)
        )
    if n_negative := int(np.count_nonzero(data < 0.0)):
        notices.append(
            Notice(
                "W302",
                f"{n_negative} voxels are negative, as after filtering; they get no estimate",
                "give the unfiltered magnitude",
                path.name,
            )
        )
    return notices
