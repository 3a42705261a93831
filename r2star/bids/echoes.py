"""The echoes of one unit: read from names and sidecars, checked, sorted by echo time.

May import errors and its siblings. What the images hold is checked where they are read.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from r2star.bids.echo_checks import (
    SAME_ECHO_TIME_S,
    FoundImage,
    check_numbering,
    check_repetition,
    check_spacing,
    check_times,
    match_parts,
    one_image_an_echo,
    other_echo,
    refuse_spin_echo,
    require_magnitude,
)
from r2star.bids.metadata import SidecarTree, allowed_metadata, require_regular_file
from r2star.bids.one_acquisition import check_one_scale, check_series, check_shared, image_type_words
from r2star.bids.units import EchoFile, Part
from r2star.errors import InputError, Notice

#: An echo time (s) from here on is taken for milliseconds: refused, never converted.
LONGEST_ECHO_TIME_S = 0.5
FIELD_RANGE_TESLA = (0.01, 25.0)
PROTON_MHZ_PER_TESLA = 42.577
#: Scanners of "3 T" have 2.89 T; anything farther off is another field, or another nucleus.
LARGEST_FREQUENCY_DEVIATION = 0.15

_PARTS: tuple[Part, ...] = get_args(Part)
#: Words of ImageType that tell what an image without ``part-`` holds.
_IMAGE_TYPE_PARTS: Mapping[str, Part] = {
    "M": "mag", "MAGNITUDE": "mag", "M_FFE": "mag", "P": "phase", "PHASE": "phase", "PHASE MAP": "phase",
    "R": "real", "REAL": "real", "I": "imag", "IMAGINARY": "imag",
}  # fmt: skip
#: Scanners call so what they made of images: T2_STAR MAP, R2_STAR, projections, means, weighted images, field maps,
#: water and fat.
_MADE_OF_IMAGES = re.compile(
    r"\b[TR][12].*MAP\b|^R[12][ _]?(?:STAR|\*)"
    r"|^(?:MNIP|MIN_IP|MAX_IP|MIP|MEAN|SWI|ADC|QSM|B0|B0[ _]MAP|FIELD[ _]?MAP|WATER|FAT|W|F|FF)$",
    re.IGNORECASE,
)
#: Where images are derived, this is no weighting but a map; of original ones it tells the contrast.
_MAP_IF_DERIVED = re.compile(r"^T[12][ _]?(?:STAR|\*)", re.IGNORECASE)
_PHASE_UNITS = ("rad", "radian", "radians")


def read_echoes(
    images: Sequence[FoundImage], sidecars: SidecarTree
) -> tuple[dict[Part, list[EchoFile]], list[Notice]]:
    """Make the echoes of one unit from its images, each part sorted by echo time.

    Raises
    ------
    InputError
        Naming the file and key that can't be used.
    NoDataError
        Where the unit has fewer than two echoes of magnitude (or of real and imaginary part).
    """
    notices: list[Notice] = []
    chosen = one_image_an_echo(images, notices)
    require_magnitude(chosen)
    echoes: dict[Part, list[EchoFile]] = {part: [] for part in _PARTS}
    metadata: dict[Path, dict[str, Any]] = {}
    for image in chosen:
        require_regular_file(image.path, image.shown)
        inherited, paths, warned = sidecars.inherited(image.name, image.levels)
        notices.extend(warned)
        part = _part(image, sidecars.own(image.path, image.name.extension))
        echo_time_s = _echo_time_s(image, inherited, notices)
        number = int(image.name.entities["echo"])
        refuse_spin_echo(inherited, image.shown)
        notices.extend(other_echo(number, inherited, image.shown))
        notices.extend(sidecars.shared_echo_time(paths, image.shown))
        metadata[image.path] = inherited
        echoes[part].append(
            EchoFile(image.path, number, echo_time_s, part, allowed_metadata(inherited), paths)
        )
    shown = {image.path: image.shown for image in chosen}
    for files in echoes.values():
        files.sort(key=operator.attrgetter("echo_time_s"))
        check_times(files, shown)
    match_parts(echoes, shown, notices)
    primary = echoes["mag"] or echoes["real"]
    check_shared(primary, metadata, shown)
    check_one_scale(primary, metadata, shown)
    check_series(primary, metadata, shown, notices)
    check_repetition(primary, metadata, shown, notices)
    check_spacing(primary, shown, notices)
    check_numbering(primary, notices)
    return echoes, _without_repeats(notices)


def field_strength_tesla(echoes: Iterable[EchoFile], root: Path) -> tuple[float | None, list[Notice]]:
    """Field strength that the sidecars tell, or None with a warning; refuses an implausible value."""
    for echo in echoes:
        value = echo.sidecar.get("MagneticFieldStrength")
        if value is None:
            continue
        low, high = FIELD_RANGE_TESLA
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            shown = echo.path.relative_to(root).as_posix()
            raise InputError(
                "E216",
                f"MagneticFieldStrength is {value!r}",
                "a number in tesla is needed",
                "write the field in tesla, such as 3, into the sidecar",
                path=shown,
            )
        return float(value), _other_frequency(echo, float(value))
    fix = "add MagneticFieldStrength (tesla) to the sidecars"
    return None, [Notice("W202", "MagneticFieldStrength is missing", fix)]


def _other_frequency(echo: EchoFile, field_tesla: float) -> list[Notice]:
    """A warning where protons don't precess at the sidecar's frequency in the sidecar's field."""
    frequency_mhz = echo.sidecar.get("ImagingFrequency")
    if isinstance(frequency_mhz, bool) or not isinstance(frequency_mhz, int | float):
        return []
    expected_mhz = PROTON_MHZ_PER_TESLA * field_tesla
    if abs(frequency_mhz - expected_mhz) <= LARGEST_FREQUENCY_DEVIATION * expected_mhz:
        return []
    found = (
        f"ImagingFrequency is {frequency_mhz!r} MHz, but {expected_mhz:.0f} MHz belong to {field_tesla:g} T"
    )
    return [Notice("W213", found, "check MagneticFieldStrength in the sidecars", echo.path.name)]


def _part(image: FoundImage, own: Mapping[str, Any]) -> Part:
    """What the image holds: its ``part-`` entity, magnitude if it has none; ImageType must not contradict."""
    named = image.name.entities.get("part")
    words = image_type_words(own)
    told = {_IMAGE_TYPE_PARTS[word] for word in words if word in _IMAGE_TYPE_PARTS}
    part = next((known for known in _PARTS if known == (named or "mag")), None)
    if part is None:
        raise InputError(
            "E221",
            f"part-{named} is unknown",
            "part-mag, -phase, -real or -imag is needed",
            "rename the file",
            path=image.shown,
        )
    found = f"ImageType says {', '.join(told)}" if len(told) == 1 and told != {part} else ""
    derived = "DERIVED" in words and any(_MAP_IF_DERIVED.search(word) for word in words)
    if derived or any(_MADE_OF_IMAGES.search(word) for word in words):
        found = "ImageType says an image made of others"
    if part != "phase" and own.get("Units") in _PHASE_UNITS:
        found = "Units are those of phase"
    if found:
        needed, fix = f"part-{part} by its name", "correct the name or the sidecar"
        raise InputError("E221", found, needed, fix, path=image.shown)
    return part


def _echo_time_s(image: FoundImage, metadata: Mapping[str, Any], notices: list[Notice]) -> float:
    key = next((key for key in ("EchoTime", "EffectiveEchoTime") if key in metadata), None)
    if key is None:
        raise InputError(
            "E201",
            "EchoTime is missing",
            "it is needed in seconds",
            "add EchoTime to its JSON sidecar",
            path=image.shown,
        )
    value = metadata[key]
    if isinstance(value, list):
        raise InputError(
            "E214",
            f"{key} is a list of {len(value)}, so the file may hold several echoes",
            "one 3D file and one number an echo are needed",
            "split the image into one file an echo",
            path=image.shown,
        )
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(
            "E202",
            f"{key} is {value!r}",
            "a number in seconds is needed",
            f"write {key} as a number, such as 0.0049",
            path=image.shown,
        )
    if value <= 0:
        raise InputError(
            "E203",
            f"{key} is {value!r} s",
            "a time after excitation is needed",
            f"correct {key} in the sidecar",
            path=image.shown,
        )
    if value >= LONGEST_ECHO_TIME_S:
        raise InputError(
            "E204",
            f"{key} is {value!r}, which looks like milliseconds",
            "seconds are needed",
            f"divide {key} by 1000 in the sidecar if so",
            path=image.shown,
        )
    if key != "EchoTime":
        notices.append(Notice("W208", "EffectiveEchoTime is used for want of EchoTime", path=image.shown))
    other = metadata.get("EffectiveEchoTime", value)
    if not isinstance(other, int | float) or not abs(other - value) <= SAME_ECHO_TIME_S:
        found = f"EchoTime is {value!r} s, but EffectiveEchoTime {other!r}; EchoTime is used"
        notices.append(Notice("W215", found, "delete the wrong one from the sidecar", image.shown))
    return float(value)


def _without_repeats(notices: Iterable[Notice]) -> list[Notice]:
    """One notice of a kind, on the first file that has it: a unit of twelve echoes says a thing once."""
    first: dict[tuple[str, str], Notice] = {}
    for notice in notices:
        first.setdefault((notice.code, notice.message), notice)
    return list(first.values())
