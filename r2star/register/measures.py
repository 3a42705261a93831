"""What a registration is worth, in numbers, and the verdict on them. Numpy and scipy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from r2star.images import Image
from r2star.register.align import coarse_copy, mutual_information, sample_at, world_points
from r2star.register.transforms import Link, map_points

Verdict = Literal["pass", "doubtful", "fail"]
Measures = dict[str, float]

#: Below this share of bright tissue there is none: noise, or a part of the head that was blanked.
DARK_SHARE = 0.15


@dataclass(frozen=True)
class Thresholds:
    """Limits (doubtful, fail) of each measure; the first is passed before the second as things get worse.

    They were set on deliberately broken registrations beside good ones: ``benchmarks/bench_registration.py``.
    A measure that is absent is not judged; one that is not finite fails.
    """

    box_similarity: tuple[float, float] = (0.45, 0.30)
    brain_similarity: tuple[float, float] = (0.35, 0.22)
    head_overlap: tuple[float, float] = (0.85, 0.70)
    jacobian_min: tuple[float, float] = (0.1, 0.0)
    jacobian_max: tuple[float, float] = (6.0, 12.0)
    affine_scale_min: tuple[float, float] = (0.75, 0.6)
    affine_scale_max: tuple[float, float] = (1.35, 1.6)
    volume_ratio_min: tuple[float, float] = (0.5, 0.3)
    volume_ratio_max: tuple[float, float] = (2.0, 3.0)
    asymmetry_max: tuple[float, float] = (0.35, 0.7)
    peak_contrast: tuple[float, float] = (0.1, 0.03)
    mirror_contrast: tuple[float, float] = (0.15, 0.05)
    warp_gain: tuple[float, float] = (0.15, 0.3)
    side_balance: tuple[float, float] = (0.6, 0.3)
    half_balance: tuple[float, float] = (0.6, 0.3)
    contrast: tuple[float, float] = (0.15, 0.0)


T1W_TO_TEMPLATE = Thresholds()
#: Another contrast than the template's, often at 2 to 4 mm: similarities are lower when all is
#: well, a few voxels more or less make small regions uneven, and either tissue may be the brighter one.
#: In the brain 0.23 and more were good, and 0.16 to 0.21 a sphere and heads misplaced as half of them was blanked.
MEGRE_TO_TEMPLATE = Thresholds(
    box_similarity=(0.2, 0.14), brain_similarity=(0.25, 0.22), asymmetry_max=(0.5, 0.9), contrast=(-1.0, -1.1)
)


def judge_registration(measures: Mapping[str, float], thresholds: Thresholds | None = None) -> Verdict:
    """The worst verdict over all measures.

    >>> judge_registration({"box_similarity": 0.7, "jacobian_min": 0.4})
    'pass'
    >>> judge_registration({"box_similarity": 0.7, "jacobian_min": -0.4})
    'fail'
    >>> judge_registration({"box_similarity": float("nan")})
    'fail'
    """
    order: tuple[Verdict, ...] = ("pass", "doubtful", "fail")
    return max((verdict for _, _, verdict in explain(measures, thresholds)), key=order.index, default="pass")


def explain(
    measures: Mapping[str, float], thresholds: Thresholds | None = None
) -> list[tuple[str, float, Verdict]]:
    """Each judged measure with its value and its own verdict, for the report."""
    limits = thresholds or Thresholds()
    judged = []
    for field in fields(limits):
        if field.name in measures:
            doubtful, fail = getattr(limits, field.name)
            judged.append((field.name, measures[field.name], _verdict(measures[field.name], doubtful, fail)))
    return judged


def _verdict(value: float, doubtful: float, fail: float) -> Verdict:
    if not np.isfinite(value):
        return "fail"
    sign = 1.0 if doubtful > fail else -1.0  # falling measures are bad below their limits, rising ones above
    if sign * value < sign * fail:
        return "fail"
    return "doubtful" if sign * value < sign * doubtful else "pass"


def local_correlation(
    one: NDArray[np.generic],
    other: NDArray[np.generic],
    where: NDArray[np.bool_],
    radius: int = 3,
    *,
    signed: bool = False,
) -> float:
    """Mean squared local correlation of two images (X, Y, Z) over ``where``, in cubes of 2·radius + 1; 0 to 1.

    ``signed``: the mean of the correlation itself, −1 to 1, below 0 where bright tissue of one is dark in the other.
    """
    from scipy.ndimage import uniform_filter

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(uniform_filter(values, 2 * radius + 1, mode="nearest"))

    a = np.asarray(one, np.float64) / max(float(np.asarray(one, np.float64).std()), 1e-12)
    b = np.asarray(other, np.float64) / max(float(np.asarray(other, np.float64).std()), 1e-12)
    mean_a, mean_b = mean(a), mean(b)
    covariance = mean(a * b) - mean_a * mean_b
    product = (mean(a * a) - mean_a**2) * (mean(b * b) - mean_b**2)
    textured = where & (product > 1e-8)
    if not where.any():
        return float("nan")
    correlation = np.clip(covariance[textured] / np.sqrt(product[textured]), -1.0, 1.0)
    return float((correlation if signed else correlation**2).sum() / where.sum())


def balance_measures(image: Image, mask: Image, chain: Sequence[Link]) -> Measures:
    """How evenly an image shows the brain: the share it shows of a poorer half over that of the other; 1 where alike.

    ``mask`` is the fixed image's brain. ``side_balance`` compares left with right, where what lies outside the view is
    not shown. ``half_balance`` is the lesser of front with back and top with bottom of what lies inside the view, as a
    slab is no fault. Not shown is what is below ``DARK_SHARE`` of the least that the bright quarter of the brain has.
    """
    inside = coarse_copy(mask, 3.0)
    points = world_points(inside.grid, np.argwhere(np.asarray(inside.data) > 0.5).astype(np.float64))
    values = sample_at(coarse_copy(image, 3.0), map_points(chain, points))
    seen = np.isfinite(values)
    if not seen.any():
        return {"side_balance": 0.0, "half_balance": 0.0}
    shown = values > DARK_SHARE * np.nanpercentile(values, 75)

    def poorer(first: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
        shares = [float(shown[half].mean()) if half.any() else 0.0 for half in (first, other)]
        return min(shares) / max(shares) if max(shares) > 0 else 0.0

    left = points[:, 0] < points[:, 0].mean()
    below = [points[:, axis] < points[seen, axis].mean() for axis in (1, 2)]
    return {
        "side_balance": poorer(left, ~left),
        "half_balance": min(poorer(seen & half, seen & ~half) for half in below),
    }


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Dice overlap 2·|A ∩ B| / (|A| + |B|); NaN where both are empty.

    >>> overlap(np.array([True, True]), np.array([True, False]))  # doctest: +ELLIPSIS
    0.666...
    """
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else float("nan")


def scale_measures(matrix: NDArray[np.float64]) -> Measures:
    """Smallest and largest stretch of an affine (singular values); negative where it mirrors."""
    stretches = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    sign = float(np.sign(np.linalg.det(matrix[:3, :3])))
    return {"affine_scale_min": sign * float(stretches.min()), "affine_scale_max": float(stretches.max())}


def volume_measures(
    volumes_mm3: Mapping[tuple[str, str], float], atlas_mm3: Mapping[tuple[str, str], float]
) -> Measures:
    """Region volumes (name, hemisphere) against the atlas', relative to their common ratio, and left against right.

    The common ratio (head size) is the median over regions. ``asymmetry_max`` is the largest |ln(L/R)|
    beyond the atlas' own.
    """
    ratios = {key: volumes_mm3.get(key, 0.0) / size for key, size in atlas_mm3.items() if size > 0}
    if not ratios:
        return {}
    common = float(np.median(list(ratios.values())))
    if common <= 0:
        return {"volume_ratio_common": 0.0, "volume_ratio_min": 0.0}
    relative = {key: ratio / common for key, ratio in ratios.items()}
    result = {
        "volume_ratio_common": common,
        "volume_ratio_min": min(relative.values()),
        "volume_ratio_max": max(relative.values()),
    }
    names = {name for name, side in ratios if side == "L" and (name, "R") in ratios}
    pairs = [(relative[name, "L"], relative[name, "R"]) for name in names]
    if pairs:
        result["asymmetry_max"] = max(abs(float(np.log((a + 1e-6) / (b + 1e-6)))) for a, b in pairs)
    return result


def rigid_measures(
    fixed: Image, moving: Image, mask: Image, chain: Sequence[Link], shift_mm: float = 8.0
) -> Measures:
    """Of two contrasts of one head: mutual information inside the mask, its fall when moved aside, and the share seen.

    ``peak_contrast`` is 1 − (largest mutual information at six displaced places) / (the one found): a registration
    that sits on no peak has about 0 or less.
    """
    low, inside = coarse_copy(fixed, 3.0), coarse_copy(mask, 3.0)
    picked = np.asarray(inside.data) > 0.5
    points = world_points(low.grid, np.argwhere(picked).astype(np.float64))
    values = np.asarray(low.data, np.float64)[picked]
    other = coarse_copy(moving, 3.0)
    there = map_points(chain, points)
    seen = sample_at(other, there)
    found = mutual_information(values, seen)
    steps = np.concatenate([np.eye(3), -np.eye(3)]) * shift_mm
    aside = max(mutual_information(values, sample_at(other, there + step)) for step in steps)
    return {
        "mutual_information": found,
        "peak_contrast": 1 - aside / found if found > 0 else 0.0,
        "coverage": float(np.isfinite(seen).mean()) if seen.size else 0.0,
    }
