"""What the echoes of one unit share, and what each has alone. May import errors and its siblings.

Each check raises an error that names the file and what to mend, or adds a warning.
"""

from __future__ import annotations

import gzip
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from r2star.bids.entities import BidsName, natural_key
from r2star.bids.metadata import require_regular_file
from r2star.bids.units import EchoFile, Part
from r2star.errors import InputError, Notice

#: R2* can't be measured if the last echo (s) is earlier; such a value was divided by 1000 once too often.
SHORTEST_LAST_ECHO_TIME_S = 0.0005
#: No gradient echo is earlier than this (s).
SHORTEST_ECHO_TIME_S = 2e-5
#: Echo times (s) that differ by less are equal.
SAME_ECHO_TIME_S = 1e-5
#: Times between echoes differ, but none is so many times the longest of the others: a point has slipped.
LARGEST_STEP_RATIO = 8.0


@dataclass(frozen=True)
class FoundImage:
    """An image file with its name taken apart, the folder levels above it, and how messages show it."""

    path: Path
    name: BidsName
    levels: tuple[Path, ...]
    shown: str


class NoDataError(InputError):
    """There is nothing to work on: no echoes, a single one, or phase alone."""


def one_image_an_echo(images: Sequence[FoundImage], notices: list[Notice]) -> list[FoundImage]:
    """Refuse two images that claim one echo; keep one of ``x.nii`` and ``x.nii.gz`` if they are equal."""
    groups: dict[tuple[str, int], list[FoundImage]] = defaultdict(list)
    for image in images:
        groups[image.name.entities.get("part", "mag"), _echo_number(image)].append(image)
    chosen = []
    for (part, number), group in sorted(groups.items()):
        group.sort(key=lambda image: natural_key(image.shown))
        stems = {image.shown.removesuffix(image.name.extension) for image in group}
        if len(stems) > 1:
            names = " and ".join(image.path.name for image in group)
            raise InputError(
                "E205",
                f"echo {number} ({part}) is there more than once: {names}",
                "one file an echo is needed",
                "delete or rename the copies",
                path=group[0].shown,
            )
        chosen.append(one_of_equal(group, notices))
    return chosen


def one_of_equal(group: Sequence[FoundImage], notices: list[Notice]) -> FoundImage:
    """Choose between ``x.nii`` and ``x.nii.gz``: the latter, with a warning, if both hold the same bytes."""
    if len(group) == 1:
        return group[0]
    for image in group:
        require_regular_file(image.path, image.shown)
    packed = max(group, key=lambda image: image.name.extension)
    plain = min(group, key=lambda image: image.name.extension)
    if not _same_content(plain.path, packed.path):
        raise InputError(
            "E212",
            f"{plain.path.name} and {packed.path.name} are both there and differ",
            "one is needed",
            "delete the wrong one",
            path=packed.shown,
        )
    notices.append(
        Notice("W204", f"{plain.path.name} is there as well, with equal content", "delete it", packed.shown)
    )
    return packed


def _same_content(plain: Path, packed: Path, chunk: int = 1 << 20) -> bool:
    try:
        with plain.open("rb") as raw, gzip.open(packed) as stream:
            while True:
                first, second = raw.read(chunk), stream.read(chunk)
                if first != second:
                    return False
                if not first:
                    return True
    except (OSError, EOFError, zlib.error):
        return False


def _echo_number(image: FoundImage) -> int:
    echo = image.name.entities.get("echo", "")
    if not echo:
        raise InputError(
            "E214",
            "the name has no echo- entity, so it may hold several echoes",
            "one 3D file an echo is needed",
            "split it into one file and sidecar an echo, such as sub-01_echo-1_MEGRE.nii.gz",
            path=image.shown,
        )
    if not (echo.isascii() and echo.isdecimal()):
        raise InputError(
            "E214",
            f"echo-{echo} is no number",
            "echo-1, echo-2, … are needed",
            "rename the file",
            path=image.shown,
        )
    return int(echo)


def require_magnitude(images: Sequence[FoundImage]) -> None:
    """Require two echoes of magnitude, or of real and imaginary part, by the names alone."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for image in images:
        numbers[image.name.entities.get("part", "mag")].append(int(image.name.entities["echo"]))
    if not numbers["mag"] and numbers["real"] != numbers["imag"]:
        found = "no magnitude, and the real and imaginary parts have other echoes"
        raise NoDataError(
            "E208", found, "both parts of each echo are needed", "add what is missing", path=images[0].shown
        )
    primary = numbers["mag"] or numbers["real"]
    if not primary:
        raise NoDataError(
            "E208", "phase alone", "magnitude is needed", "add the part-mag images", path=images[0].shown
        )
    if len(primary) < 2:
        raise NoDataError(
            "E207", "one echo only", "two or more are needed", "add the other echoes", path=images[0].shown
        )


def check_times(echoes: Sequence[EchoFile], shown: Mapping[Path, str]) -> None:
    """Refuse equal echo times, and times that are too early to be in seconds."""
    if echoes and echoes[-1].echo_time_s < SHORTEST_LAST_ECHO_TIME_S:
        raise InputError(
            "E222",
            f"the last EchoTime is {echoes[-1].echo_time_s!r} s",
            "seconds are needed",
            "correct EchoTime in the sidecars",
            path=shown[echoes[-1].path],
        )
    for echo in echoes:
        if echo.echo_time_s < SHORTEST_ECHO_TIME_S:
            raise InputError(
                "E222",
                f"EchoTime is {echo.echo_time_s!r} s",
                "no gradient echo is that early: seconds are needed",
                "correct EchoTime in the sidecar",
                path=shown[echo.path],
            )
    for first, second in pairwise(echoes):
        if second.echo_time_s - first.echo_time_s < SAME_ECHO_TIME_S:
            raise InputError(
                "E206",
                f"EchoTime {second.echo_time_s!r} s equals that of echo {first.echo}",
                "each echo has its own",
                "correct EchoTime in the sidecars",
                path=shown[second.path],
            )


def match_parts(echoes: dict[Part, list[EchoFile]], shown: Mapping[Path, str], notices: list[Notice]) -> None:
    """Require one echo time for all parts of an echo; leave out a part that lacks echoes."""
    primary = echoes["mag"] or echoes["real"]
    name, times = primary[0].part, {echo.echo: echo.echo_time_s for echo in primary}
    for part in ("phase", "real", "imag"):
        for echo in echoes[part]:
            expected = times.get(echo.echo, echo.echo_time_s)
            if abs(expected - echo.echo_time_s) > SAME_ECHO_TIME_S:
                found = f"EchoTime is {echo.echo_time_s!r} s, but {expected!r} s in part {name}"
                fix = "correct EchoTime in the sidecars"
                raise InputError("E209", found, "one time an echo is needed", fix, path=shown[echo.path])
        if echoes[part] and {echo.echo for echo in echoes[part]} != times.keys():
            echoes[part].clear()
            notices.append(Notice("W209", f"part {part} has other echoes than part {name}: not used"))


def refuse_spin_echo(metadata: Mapping[str, Any], shown: str) -> None:
    """Refuse a sequence of spin echoes: what decays there is R2, not R2*."""
    told = metadata.get("ScanningSequence")
    words = told.replace("\\", "_").split("_") if isinstance(told, str) else told
    if isinstance(words, list) and "SE" in words and "GR" not in words:
        raise InputError(
            "E224",
            "ScanningSequence says spin echo",
            "gradient echoes are needed: spin echoes give R2",
            "name the images MESE, or correct the sidecar",
            path=shown,
        )


def other_echo(number: int, metadata: Mapping[str, Any], shown: str) -> list[Notice]:
    """A warning where the converter counted another echo than the file's name: files may be mixed up."""
    told = metadata.get("EchoNumber")
    if isinstance(told, bool) or not isinstance(told, int | float) or told == number:
        return []
    found = f"EchoNumber is {told!r}, the name says echo-{number}"
    return [Notice("W218", found, "check which file belongs to which sidecar", shown)]


def check_repetition(
    echoes: Sequence[EchoFile],
    metadata: Mapping[Path, Mapping[str, Any]],
    shown: Mapping[Path, str],
    notices: list[Notice],
) -> None:
    """Warn of an echo that comes after its own repetition: one of both times has a wrong unit."""
    last = echoes[-1]
    told = metadata[last.path]
    key = next((key for key in ("RepetitionTimeExcitation", "RepetitionTime") if key in told), "")
    repetition_s = told.get(key)
    if isinstance(repetition_s, int | float) and 0 < repetition_s < last.echo_time_s:
        found = f"EchoTime is {last.echo_time_s!r} s, later than {key}, {repetition_s!r} s"
        notices.append(Notice("W212", found, "check the unit of both in the sidecars", shown[last.path]))


def check_spacing(echoes: Sequence[EchoFile], shown: Mapping[Path, str], notices: list[Notice]) -> None:
    """Warn of a last echo that comes far later than the others lead one to expect."""
    times = [echo.echo_time_s for echo in echoes]
    steps = [after - before for before, after in pairwise(times)]
    if len(steps) >= 2 and steps[-1] > LARGEST_STEP_RATIO * max(*steps[:-1], times[0]):
        found = f"EchoTime is {times[-1]!r} s, the echo before it comes at {times[-2]!r} s"
        notices.append(Notice("W216", found, "check EchoTime in the sidecar", shown[echoes[-1].path]))


def check_numbering(echoes: Sequence[EchoFile], notices: list[Notice]) -> None:
    """Warn of gaps in the numbering: an echo was lost on the way."""
    numbers = {echo.echo for echo in echoes}
    first = min(1, *numbers)
    missing = [str(number) for number in range(first, min(max(numbers), 100)) if number not in numbers]
    if missing:
        notices.append(
            Notice("W203", f"echo {', '.join(missing)} of {max(numbers)} is missing; {len(numbers)} are used")
        )
