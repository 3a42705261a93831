"""Units of phase images: recognised from the sidecar and the range of values, refused when in doubt.

Scanners and converters store phase in radians, as −4096..4094 or 0..4095, in thousandths of a radian, or with
any other scale. Whatever the scale is, a wrapped phase fills its range to both ends, and that is what is
looked for. Arrays only; imports numpy and r2star.errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.errors import InputError

#: How far a range may fall short of a named unit's range, and exceed it, relative to its width.
_SHORT, _LONG = 0.03, 0.002
#: An unnamed scale is believed only if each outer 1/50 of the range holds at least this part of the values.
_EDGE_BINS, _EDGE_SHARE = 50, 0.002
#: The histogram looks at about so many values, evenly spread.
_ENOUGH_VALUES = 200_000


@dataclass(frozen=True)
class PhaseRange:
    """Least and greatest of the finite values of one echo, and a histogram of 50 bins in between."""

    minimum: float
    maximum: float
    histogram: tuple[int, ...]


@dataclass(frozen=True)
class PhaseUnit:
    """How stored values become radians: (value − zero) · radians_per_unit; and why this was decided."""

    name: str
    zero: float
    radians_per_unit: float
    minimum: float
    maximum: float
    reason: str

    def to_radians(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Phase in radians, of any shape, not re-wrapped; NaN and infinities become NaN.

        >>> unit = PhaseUnit("−4096..4094", 0.0, math.pi / 4096, -4096, 4094, "range")
        >>> unit.to_radians(np.array([-4096.0, 0.0, 2048.0])).round(3).tolist()
        [-3.1419999599456787, 0.0, 1.5709999799728394]
        """
        radians = np.subtract(values, self.zero, dtype=np.float32)
        radians *= np.float32(self.radians_per_unit)
        radians[np.isinf(radians)] = np.nan
        return radians

    def as_dict(self) -> dict[str, str | float]:
        """The decision as plain values, for a sidecar."""
        return asdict(self)


def measure_phase_range(values: NDArray[np.floating[Any]]) -> PhaseRange:
    """Range and spread of the stored values of one echo; zeros, which fill blanked background, don't count.

    Raises `InputError` E362 where all values are the same.
    """
    flat = values.ravel(order="K")
    some = flat[:: max(1, flat.size // _ENOUGH_VALUES)]
    low, high = float(flat.min()), float(flat.max())
    if not np.isfinite(low + high) or low == 0 or high == 0:
        flat = flat[np.isfinite(flat) & (flat != 0)]
        low, high = (float(flat.min()), float(flat.max())) if flat.size else (0.0, 0.0)
    if low == high:
        raise InputError("E362", "the phase image is constant", "phase of each voxel",
                         "export the phase again, or remove it: magnitude alone runs too")  # fmt: skip
    some = some[np.isfinite(some) & (some != 0)]
    counts, _ = np.histogram(some, bins=_EDGE_BINS, range=(low, high))
    return PhaseRange(low, high, tuple(int(count) for count in counts))


def recognise_phase_unit(ranges: Sequence[PhaseRange], declared: str | None = None) -> PhaseUnit:
    """Decide the unit of the phase of all echoes together.

    ``declared`` is the sidecar's ``Units``: ``"rad"`` is taken at its word if the values allow it;
    ``"arbitrary"`` or nothing leaves it to the range. Raises `InputError`: E360 where word and values
    contradict, E361 where the range fits no unit, E363 where one echo has another scale than the others.

    >>> wrapped = PhaseRange(-4096.0, 4094.0, (20,) * 50)
    >>> recognise_phase_unit([wrapped, wrapped]).name
    '-4096..4094'
    """
    low, high = min(one.minimum for one in ranges), max(one.maximum for one in ranges)
    for number, one in enumerate(ranges, start=1):
        if one.maximum - one.minimum < 0.25 * (high - low):
            spans = f"{one.minimum:.4g}..{one.maximum:.4g}, all together {low:.4g}..{high:.4g}"
            raise _doubt("E363", f"the phase of echo {number} spans {spans}", "one scale for all echoes")
    if (declared or "").strip().lower() in {"rad", "radian", "radians"}:
        return _declared_radians(low, high)
    for name, fits, zero, per_unit in _NAMED:
        if fits(low, high):
            return PhaseUnit(name, zero, per_unit, low, high, f"range {low:.6g}..{high:.6g}")
    return _by_full_range(ranges, low, high)


def _declared_radians(low: float, high: float) -> PhaseUnit:
    if not (
        low >= -math.pi * (1 + _LONG)
        and high <= 2 * math.pi * (1 + _LONG)
        and high - low <= 2 * math.pi * (1 + _LONG)
    ):
        raise _doubt(
            "E360", f"Units says rad but the values span {low:.6g}..{high:.6g}", "at most 2π of wrapped phase"
        )
    return PhaseUnit("radians", 0.0, 1.0, low, high, "Units of the sidecar")


def _spans(first: float, last: float) -> Callable[[float, float], bool]:
    """Whether a range fills first..last."""
    width = last - first
    return lambda low, high: (
        -_LONG * width <= low - first <= _SHORT * width and -_LONG * width <= last - high <= _SHORT * width
    )


#: name, test of the range, stored value of phase 0, radians per unit
_NAMED: tuple[tuple[str, Callable[[float, float], bool], float, float], ...] = (
    ("radians", _spans(-math.pi, math.pi), 0.0, 1.0),
    ("radians", _spans(0.0, 2 * math.pi), 0.0, 1.0),
    ("-4096..4094", _spans(-4096, 4094), 0.0, math.pi / 4096),
    ("0..4095", _spans(0, 4095), 2048.0, math.pi / 2048),
    ("milliradians", _spans(-1000 * math.pi, 1000 * math.pi), 0.0, 1e-3),
)


def _by_full_range(ranges: Sequence[PhaseRange], low: float, high: float) -> PhaseUnit:
    """An unnamed scale: symmetric about 0 or from 0, with values up to both ends, as wrapping leaves it."""
    width = high - low
    symmetric, from_zero = abs(low + high) <= 0.01 * width, 0 <= low <= 0.01 * width
    if not (symmetric or from_zero) or not _filled_to_both_ends(ranges, low, high):
        raise _doubt("E361", f"the phase spans {low:.6g}..{high:.6g}",
                     "radians, −4096..4094, 0..4095, or a range about 0 that is filled")  # fmt: skip
    if from_zero:
        low, width = 0.0, high  # stored zeros did not count
    reason = f"range {low:.6g}..{high:.6g} filled to both ends, taken as 2π"
    zero = 0.0 if symmetric else high / 2
    return PhaseUnit("scaled", zero, 2 * math.pi / width, low, high, reason)


def _filled_to_both_ends(ranges: Sequence[PhaseRange], low: float, high: float) -> bool:
    """Whether some echo that spans the whole range has its share of values in both outermost bins."""
    whole = [one for one in ranges if one.maximum - one.minimum > 0.98 * (high - low)]
    return any(min(one.histogram[0], one.histogram[-1]) >= _EDGE_SHARE * sum(one.histogram) for one in whole)


def _doubt(code: str, found: str, needed: str) -> InputError:
    fix = 'rescale the phase to radians and put "Units": "rad" into its sidecar, or use --field-gradient off'
    return InputError(code, found, needed, fix)


def complex_to_polar(
    real: NDArray[np.floating[Any]], imaginary: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Magnitude and phase (radians, −π..π) of real and imaginary images of any one shape; NaN stays NaN.

    >>> complex_to_polar(np.array([0.0]), np.array([-2.0]))
    (array([2.], dtype=float32), array([-1.5707964], dtype=float32))
    """
    return np.hypot(real, imaginary).astype(np.float32), np.arctan2(imaginary, real).astype(np.float32)
