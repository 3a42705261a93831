"""Whether echoes are of one acquisition and treated alike, by their sidecars. May import errors and its siblings.

What differs between the echoes of one unit would pass for decay, so it is refused where it is told outright, and told
where it is only likely.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from r2star.bids.units import EchoFile
from r2star.errors import InputError, Notice

Metadata = Mapping[Path, Mapping[str, Any]]
_Told = TypeVar("_Told")

#: One echo train has one value of each of these.
_SHARED_KEYS = (
    "RepetitionTime", "RepetitionTimeExcitation", "FlipAngle", "MagneticFieldStrength", "MTState",
    "MRAcquisitionType", "PhaseEncodingDirection",
)  # fmt: skip
#: Words of ImageType that tell of a correction of the intensities, or of their places: of all echoes, or of none.
_CORRECTIONS = frozenset({"NORM", "DIS2D", "DIS3D", "FIL", "FILTERED"})
#: One series has one value of each; some exports give each echo a series of its own.
_SERIES_KEYS = ("SeriesInstanceUID", "SeriesNumber", "ReceiveCoilName")
_TIME_OF_DAY = re.compile(r"(\d{1,2}):(\d{2}):(\d{2}(?:\.\d*)?)", re.ASCII)
_DAY_S = 86_400.0
#: Echoes of one train are milliseconds apart; converters may tell the time of another slice or average.
LONGEST_APART_S = 60.0


def image_type_words(metadata: Mapping[str, Any]) -> list[str]:
    r"""The words of ImageType; some converters leave them as one text, as DICOM has them.

    >>> image_type_words({"ImageType": "ORIGINAL\\PRIMARY\\M"})
    ['ORIGINAL', 'PRIMARY', 'M']
    """
    told = metadata.get("ImageType")
    words = told.split("\\") if isinstance(told, str) else told
    return [word for word in words if isinstance(word, str)] if isinstance(words, list) else []


def check_shared(echoes: Sequence[EchoFile], metadata: Metadata, shown: Mapping[Path, str]) -> None:
    """Refuse echoes whose sidecars tell of different acquisitions, or of corrections that only some had."""
    for key in _SHARED_KEYS:
        values = [(metadata[echo.path][key], echo) for echo in echoes if key in metadata[echo.path]]
        if other := _unlike_the_first(values):
            value, echo = other
            raise InputError(
                "E215",
                f"{key} is {value!r}, but {values[0][0]!r} in echo {values[0][1].echo}",
                "echoes of one acquisition are needed",
                f"correct {key}, or tell acquisitions apart by acq-",
                path=shown[echo.path],
            )
    typed = [(words, echo) for echo in echoes if (words := image_type_words(metadata[echo.path]))]
    corrected = [(_CORRECTIONS.intersection(words), echo) for words, echo in typed]
    if unlike := _unlike_the_first(corrected):
        corrections, echo = unlike
        told = ", ".join(sorted(corrections ^ corrected[0][0]))
        raise InputError(
            "E215",
            f"ImageType tells {told} of this echo or of echo {corrected[0][1].echo}, and not of both",
            "echoes that were corrected alike are needed",
            "export all echoes with the same corrections",
            path=shown[echo.path],
        )


def _unlike_the_first(told: Sequence[tuple[_Told, EchoFile]]) -> tuple[_Told, EchoFile] | None:
    """The first of what echoes tell that is not what the first of them tells."""
    return next((one for one in told if not _alike(one[0], told[0][0])), None)


def _alike(first: object, second: object) -> bool:
    if isinstance(first, int | float) and isinstance(second, int | float):
        return math.isclose(first, second, rel_tol=1e-3) or (math.isnan(first) and math.isnan(second))
    return first == second


def check_one_scale(echoes: Sequence[EchoFile], metadata: Metadata, shown: Mapping[Path, str]) -> None:
    """Refuse echoes in display values of which each has a scale of its own.

    Philips' images hold two scales. The signal is the display value over PhilipsRescaleSlope × PhilipsScaleSlope, and
    dcm2niix tells by UsePhilipsFloatNotDisplayScaling which of both it wrote.
    """
    scales = []
    for echo in echoes:
        told = metadata[echo.path]
        slopes = [told.get(key) for key in ("PhilipsRescaleSlope", "PhilipsScaleSlope")]
        numbers = [float(one) for one in slopes if isinstance(one, int | float)]
        if told.get("UsePhilipsFloatNotDisplayScaling") in (0, False) and len(numbers) == 2:
            scales.append((numbers[0] * numbers[1], echo))
    if other := _unlike_the_first(scales):
        scale, echo = other
        first = f"{scales[0][0]:g} in echo {scales[0][1].echo}"
        found = f"these are display values with a scale of {scale:g}, but {first}"
        fix = "convert the series again with dcm2niix -p y, which writes Philips' floating point values"
        raise InputError("E225", found, "one scale for all echoes is needed", fix, path=shown[echo.path])


def check_series(
    echoes: Sequence[EchoFile], metadata: Metadata, shown: Mapping[Path, str], notices: list[Notice]
) -> None:
    """Warn of echoes of several series, coils or times: head, gain and shim may have changed between them."""
    for echo in echoes[1:]:
        first, own = metadata[echoes[0].path], metadata[echo.path]
        differing = [key for key in _SERIES_KEYS if key in first and key in own and first[key] != own[key]]
        if _seconds_apart(first.get("AcquisitionTime"), own.get("AcquisitionTime")) > LONGEST_APART_S:
            differing.append("AcquisitionTime")
        if differing:
            found = f"{', '.join(differing)}: another than of echo {echoes[0].echo}, as if acquired apart"
            notices.append(Notice("W219", found, "give the echoes of one acquisition", shown[echo.path]))
            return


def _seconds_apart(first: object, second: object) -> float:
    """Seconds between two times of a day, over midnight where that is shorter; 0 where one is not known."""
    times = [_TIME_OF_DAY.fullmatch(one) if isinstance(one, str) else None for one in (first, second)]
    if None in times:
        return 0.0
    seconds = [3600 * int(one[1]) + 60 * int(one[2]) + float(one[3]) for one in times if one]
    apart = abs(seconds[0] - seconds[1])
    return min(apart, abs(_DAY_S - apart))
