"""What a participant's page shows of each unit: plain values, tables as text and small volumes. May import regions.

`r2star.steps.report` fills these from files; the sections read them and touch no file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from r2star.regions.quality import Verdict, worst

Row = Mapping[str, str]


@dataclass(frozen=True)
class Region:
    """A region of one side: its name, side and label in `Volumes.labels`."""

    name: str
    hemisphere: str
    index: int


@dataclass(frozen=True)
class Volumes:
    """Maps (X, Y, Z), RAS+, cropped to the brain; NaN (labels: 0) outside it, so that no face is shown.

    ``maps`` has ``r2star`` and, where there are any, ``stderr``, ``residual`` (over S0), ``status``, ``megre``,
    ``t1w``, ``template``, ``b0``, ``gradient`` and ``bias``.
    """

    maps: Mapping[str, NDArray[Any]]
    labels: NDArray[Any]
    brain: NDArray[Any]
    affine: NDArray[Any]
    voxel_size_mm: tuple[float, float, float]


@dataclass(frozen=True)
class NormRange:
    """The range in which R2* of healthy adults lies, 1/s, and where it is from."""

    low_per_s: float
    high_per_s: float
    source: str


@dataclass(frozen=True)
class UnitFacts:
    """Everything that is shown of one unit; a failed one has an ``error`` and little else."""

    label: str
    entities: Mapping[str, str]
    state: str
    version: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    notices: Sequence[Row] = ()
    error: Row | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    acquisition: Mapping[str, Any] = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=dict)
    quality: Sequence[Row] = ()
    region_rows: Sequence[Row] = ()
    decay: Sequence[Row] = ()
    regions: Sequence[Region] = ()
    atlas: Mapping[str, str] = field(default_factory=dict)
    voxel_rule: str = ""
    norms: Mapping[str, NormRange] = field(default_factory=dict)
    field_facts: Mapping[str, Any] = field(default_factory=dict)
    volumes: Volumes | None = None
    max_viewer_voxels: int = 6_000_000

    @property
    def has_t1w(self) -> bool:
        """Whether a T1w took part."""
        return any(name.endswith(("_T1w.nii", "_T1w.nii.gz")) for name in self.inputs)

    @property
    def has_reference(self) -> bool:
        """Whether the MEGRE of another session placed the regions."""
        echoes = [name.rpartition("/")[2] for name in self.inputs if "_MEGRE.nii" in name]
        sessions = {pair for name in echoes for pair in name.split("_") if pair.startswith("ses-")}
        return bool(sessions - {f"ses-{self.entities.get('ses')}"})

    @property
    def has_phase(self) -> bool:
        """Whether the field was mapped."""
        return any(name.endswith("desc-B0_fieldmap.nii.gz") for name in self.outputs)

    @property
    def echo_times_s(self) -> tuple[float, ...]:
        """Echo times in s, ascending."""
        return tuple(self.acquisition.get("EchoTime", ()))

    @property
    def verdict(self) -> Verdict:
        """Fail without a result; else the worst verdict of the measures."""
        if self.error is not None:
            return "fail"
        return worst(row["verdict"] for row in self.quality if row["verdict"] in ("pass", "doubtful", "fail"))  # type: ignore[misc]


def number(cell: str) -> float:
    """A cell as a number; NaN for ``n/a``.

    >>> number("2.5"), number("n/a")
    (2.5, nan)
    """
    try:
        return float(cell)
    except ValueError:
        return math.nan


def in_prose(name: str) -> str:
    """A region's name for readers.

    >>> in_prose("red_nucleus")
    'Red nucleus'
    """
    return name.replace("_", " ").capitalize()


def plain(value: float, digits: int = 3) -> str:
    """A number with ``digits`` significant digits and no exponent; ``n/a`` where there is none.

    >>> plain(1943.2), plain(0.06834), plain(59.23), plain(math.nan)
    ('1943', '0.0683', '59.2', 'n/a')
    """
    if not math.isfinite(value):
        return "n/a"
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(places, 6)}f}"
