"""How much memory and time a batch job should ask for: by the size of its images, and by what earlier units took.

Imports the standard library and its sibling records only.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2star.runs.records import Marker

_GIB = 1024.0**3
#: Of the main process and of starting workers, beside the steps themselves.
BASE_MEMORY_GIB, BASE_SECONDS = 0.7, 60.0
#: A unit for which nothing was measured yet: a registration at 1 mm, or none; then by the size of the echoes.
REGISTRATION_MEMORY_GIB, REGISTRATION_SECONDS = 2.0, 600.0
FIT_MEMORY_GIB, FIT_SECONDS = 0.5, 60.0
MEMORY_PER_GIB_OF_ECHOES, SECONDS_PER_GIB_OF_ECHOES = 8.0, 240.0
#: Room above the highest that was measured.
MEMORY_ROOM, TIME_ROOM = 1.3, 2.0
LEAST_MINUTES = 10


@dataclass(frozen=True)
class Needs:
    """What one job of one participant should ask for."""

    memory_mib: int
    minutes: int


@dataclass(frozen=True)
class UnitNeeds:
    """Seconds of a unit, and the memory of its largest step."""

    seconds: float
    memory_gib: float
    echoes_gib: float


def unpacked_gib(paths: Iterable[Path]) -> float:
    """Size of a unit's images once unpacked, GiB, from the last four bytes of gzip files.

    Images of a unit are alike, so it is their number times their median: one that is cut off says anything.
    Unreadable files count nothing.
    """
    sizes = []
    for path in paths:
        with contextlib.suppress(OSError):
            sizes.append(_unpacked_bytes(path))
    return len(sizes) * statistics.median_low(sizes) / _GIB if sizes else 0.0


def _unpacked_bytes(path: Path) -> int:
    size = path.stat().st_size
    if path.suffix != ".gz" or size < 18:
        return size
    with path.open("rb") as file:
        file.seek(-4, 2)
        return max(size, int(struct.unpack("<I", file.read(4))[0]))


def guess_unit(echoes_gib: float, *, fit_only: bool) -> UnitNeeds:
    """What a unit needs as long as nothing was measured."""
    memory = FIT_MEMORY_GIB if fit_only else REGISTRATION_MEMORY_GIB
    seconds = FIT_SECONDS if fit_only else REGISTRATION_SECONDS
    return UnitNeeds(
        seconds + SECONDS_PER_GIB_OF_ECHOES * echoes_gib,
        memory + MEMORY_PER_GIB_OF_ECHOES * echoes_gib,
        echoes_gib,
    )


def measured_unit(measured: Sequence[UnitNeeds], echoes_gib: float) -> UnitNeeds:
    """What a unit needs by the most that earlier units took, in proportion where it is larger than all of them."""
    largest = max(one.echoes_gib for one in measured)
    factor = max(1.0, echoes_gib / largest) if largest > 0 else 1.0
    seconds = TIME_ROOM * factor * max(one.seconds for one in measured)
    return UnitNeeds(seconds, MEMORY_ROOM * factor * max(one.memory_gib for one in measured), echoes_gib)


def of_marker(marker: Marker, echoes_gib: float) -> UnitNeeds | None:
    """What a complete unit took, as its marker tells; None where it does not."""
    seconds, memory = marker.timing.get("total_s", 0.0), marker.timing.get("peak_memory_gib", 0.0)
    return UnitNeeds(seconds, memory, echoes_gib) if seconds > 0 and memory > 0 else None


def job_needs(participants: Iterable[Sequence[UnitNeeds]], n_processors: int) -> Needs:
    """What the most demanding participant's job needs: its units in turn, as many in memory as run at a time."""
    memory, seconds = 0.0, 0.0
    for units in participants:
        at_once = sorted((one.memory_gib for one in units), reverse=True)[:n_processors]
        memory = max(memory, BASE_MEMORY_GIB + sum(at_once))
        seconds = max(seconds, BASE_SECONDS + sum(one.seconds for one in units))
    return Needs(256 * math.ceil(4 * memory), max(LEAST_MINUTES, math.ceil(seconds / 60)))
