"""What an acquisition and its fit are worth, in numbers with limits. Arrays only; imports numpy, scikit-image late.

`METRICS` is the table of measures: what each means, its unit, and the limits beyond which it is doubtful or a
failure. The report, the verdict and the second level read it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["pass", "doubtful", "fail"]
VERDICTS: tuple[Verdict, ...] = ("pass", "doubtful", "fail")


@dataclass(frozen=True)
class Metric:
    """A measure of quality: a name for readers, what it is, its unit, (doubtful, fail) limits and what to do.

    Where the first limit is the greater one, small values are bad. ``None`` limits are never judged. Limits are
    conventions, chosen wide: what is beyond them deserves a look, what is within them may still deserve one.
    """

    title: str
    description: str
    unit: str = ""
    limits: tuple[float, float] | None = None
    advice: str = ""

    def judge(self, value: float) -> Verdict | None:
        """The verdict on a value; None where it is not judged or not known.

        >>> METRICS["coverage"].judge(0.8), METRICS["at_bound_fraction"].judge(0.01)
        ('doubtful', 'pass')
        """
        if self.limits is None or not math.isfinite(value):
            return None
        doubtful, fail = self.limits
        sign = 1.0 if doubtful > fail else -1.0
        if sign * value < sign * fail:
            return "fail"
        return "doubtful" if sign * value < sign * doubtful else "pass"


_LOOK_AT_FIT = "look at the status map and the residuals; check echo times and reconstruction"
_LOOK_AT_REGIONS = "look at the contours on the R2* map; leave the region out if they miss it"

#: Measures of one unit, in the order of its table. ``part`` of a row is ``brain``, a region or a registration.
METRICS: Mapping[str, Metric] = {
    "snr_first_echo": Metric(
        "SNR, first echo", "Median over the brain of the first echo over the noise's sigma", "",
        (20.0, 5.0), "a noisy acquisition: expect wide standard errors; check coil and bandwidth",
    ),
    "snr_last_echo": Metric(
        "SNR, last echo", "Median over the brain of the last echo over the noise's sigma", "",
        (5.0, 2.0), "the last echo is near the noise: fit with --fit rician, or acquire shorter echoes",
    ),
    "fit_residual_fraction": Metric(
        "Fit residual", "Median over the brain of sqrt(RSS/(E-2)) of the fit over S0", "",
        (0.05, 0.15), "one exponential describes the signal badly: look for motion, ghosts and field gradients",
    ),
    "r2star_stderr_per_s": Metric(
        "Standard error of R2*", "Median over the brain of the standard error of R2* of a voxel", "1/s",
        (5.0, 15.0), "voxel values are uncertain; regional medians are less so",
    ),
    "at_bound_fraction": Metric(
        "At the bound", "Fraction of the brain's voxels whose optimum lies outside the range of rates", "",
        (0.02, 0.10), _LOOK_AT_FIT,
    ),
    "rising_fraction": Metric(
        "Rising signal", "Fraction of the brain's voxels whose signal does not fall with echo time", "",
        (0.02, 0.20), _LOOK_AT_FIT,
    ),
    "no_value_fraction": Metric(
        "Without a value", "Fraction of the brain's voxels that have no R2*", "", (0.05, 0.30), _LOOK_AT_FIT,
    ),
    "echo_shift_mm": Metric(
        "Shift between echoes",
        "Largest shift of the brain from one echo to the next, by phase correlation", "mm",
        (0.5, 2.0), "the head moved, or readouts of both directions are not aligned: look at the echoes",
    ),
    "gradient_bias_per_s": Metric(
        "Field gradient bias", "Median over the brain of what field gradients add to R2*", "1/s",
        (1.0, 5.0), "run with --field-gradient correct, or compare groups only within one protocol",
    ),
    "gradient_bias_p95_per_s": Metric(
        "Field gradient bias, 95th percentile",
        "95th percentile over the brain of what field gradients add to R2*", "1/s",
    ),
    "brain_volume_ml": Metric("Brain volume", "Volume of the brain mask inside the field of view", "mL"),
    "coverage": Metric(
        "Coverage", "Fraction of a region that lies inside the field of view", "", (0.9, 0.5),
        "the field of view cuts the region: its median stands for the part that was seen",
    ),
    "volume_ratio": Metric(
        "Volume against the atlas",
        "Volume of a region over its volume in the atlas, relative to the median of all regions", "",
        None, _LOOK_AT_REGIONS,
    ),
    "volume_asymmetry": Metric(
        "Volume asymmetry", "ln(left volume / right volume), less that of the atlas", "", None, _LOOK_AT_REGIONS,
    ),
    "r2star_asymmetry": Metric(
        "R2* asymmetry", "(left - right) / mean of the median R2* of both sides", "", None, _LOOK_AT_REGIONS,
    ),
}  # fmt: skip
#: |asymmetry| and ratios have limits on both sides.
TWO_SIDED: Mapping[str, tuple[float, float]] = {
    "volume_asymmetry": (0.4, 0.9),
    "r2star_asymmetry": (0.25, 0.6),
}
RATIO_LIMITS = ((0.5, 0.3), (2.0, 3.0))


class Measured(NamedTuple):
    """One measure of one part: NaN where it can't be told. ``limits`` and ``verdict`` None where not judged."""

    metric: str
    part: str
    hemisphere: str
    value: float
    verdict: Verdict | None


def measured(metric: str, value: float, part: str = "brain", hemisphere: str = "") -> Measured:
    """A measure with its verdict.

    >>> measured("volume_asymmetry", -0.5, "putamen").verdict
    'doubtful'
    """
    if metric in TWO_SIDED:
        return Measured(
            metric, part, hemisphere, value, Metric("", "", limits=TWO_SIDED[metric]).judge(abs(value))
        )
    if metric == "volume_ratio":
        both = [verdict for limits in RATIO_LIMITS if (verdict := Metric("", "", limits=limits).judge(value))]
        return Measured(metric, part, hemisphere, value, worst(both) if both else None)
    return Measured(metric, part, hemisphere, value, METRICS[metric].judge(value))


def worst(verdicts: Iterable[Verdict | None]) -> Verdict:
    """The worst of several verdicts.

    >>> worst(["pass", None, "doubtful"])
    'doubtful'
    """
    return max((one for one in verdicts if one), key=VERDICTS.index, default="pass")


def percentile_of(values: NDArray[Any] | None, where: NDArray[np.bool_], percentile: float = 50.0) -> float:
    """A percentile of the finite values inside a mask; NaN where there are none."""
    if values is None:
        return math.nan
    inside = np.asarray(values)[where]
    inside = inside[np.isfinite(inside)]
    return float(np.percentile(inside, percentile)) if inside.size else math.nan


def share_of(flags: NDArray[np.bool_], where: NDArray[np.bool_]) -> float:
    """The fraction of a mask that is set; NaN for an empty mask."""
    return float(flags[where].mean()) if where.any() else math.nan


def echo_shift(
    one: NDArray[np.floating], other: NDArray[np.floating], voxel_size_mm: Sequence[float], upsample: int = 20
) -> float:
    """Length in mm of the shift between two images (X, Y, Z) of one head, by phase correlation.

    What varies slowly is taken out first (Laplacian of Gaussian, one voxel), and the edges of the images are faded
    out: else the fade, which does not move, would pull the shift towards 0. Values that are not finite count as 0.
    Guizar-Sicairos et al. 2008, doi:10.1364/OL.33.000156, as scikit-image has it.
    """
    from scipy.ndimage import gaussian_laplace
    from skimage.registration import phase_cross_correlation

    window = np.ones((1,) * one.ndim, np.float32)
    for axis, size in enumerate(one.shape):
        shape = [1] * one.ndim
        shape[axis] = size
        window = window * np.hanning(size + 2)[1:-1].reshape(shape).astype(np.float32)
    pair = [
        gaussian_laplace(np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0), 1.0) * window
        for image in (one, other)
    ]
    shift, _, _ = phase_cross_correlation(*pair, upsample_factor=upsample, normalization=None)
    return float(np.linalg.norm(np.asarray(shift) * np.asarray(voxel_size_mm)))


def volume_measures(
    volumes_mm3: Mapping[tuple[str, str], float], atlas_mm3: Mapping[tuple[str, str], float]
) -> list[Measured]:
    """Volume of each region and side against the atlas, and left against right beyond the atlas' own difference."""
    ratios = {key: volumes_mm3.get(key, 0.0) / size for key, size in atlas_mm3.items() if size > 0}
    common = float(np.median(list(ratios.values()))) if ratios else math.nan
    found = [
        measured("volume_ratio", ratio / common if common > 0 else math.nan, region, side)
        for (region, side), ratio in ratios.items()
    ]
    for region in dict.fromkeys(name for name, _ in ratios):
        left, right = ratios.get((region, "L"), 0.0), ratios.get((region, "R"), 0.0)
        if (region, "L") in ratios and (region, "R") in ratios:
            value = math.log(left / right) if left > 0 and right > 0 else math.nan
            found.append(measured("volume_asymmetry", value, region))
    return found
