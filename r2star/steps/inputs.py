"""Step: verify everything that a unit reads, to the last byte, before any work. Reads through `r2star.images`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2star.errors import InputError, Notice
from r2star.field import PhaseRange, complex_to_polar
from r2star.files import sha256_of, write_text_atomically
from r2star.fit.saturation import PileUp, find_pile_up, is_saturation
from r2star.images import Grid, Image, read_image, write_image
from r2star.steps.echo_rules import (
    check_distinct,
    check_falling,
    check_filled,
    check_magnitude,
    check_one_decay,
    check_one_grid,
    check_own_scales,
    check_told_times,
    filled_slices,
)
from r2star.steps.noise import read_sigma, sample_of, saturation_notice, write_noise
from r2star.steps.phase import decide_phase_unit, measure_range


class CheckedInputs(NamedTuple):
    """The echoes that the other steps read, in order of echo time."""

    magnitude: tuple[Path, ...]
    phase: tuple[Path, ...]
    hashes: Path  # JSON: file → SHA-256 of its content
    noise: Path  # JSON: σ of the noise, where it comes from
    notices: tuple[Notice, ...]


class CheckedAnatomy(NamedTuple):
    """The T1w that the other steps read."""

    t1w: Path
    hashes: Path
    notices: tuple[Notice, ...]


def check_inputs(
    magnitude: tuple[Path, ...],
    echo_times_s: tuple[float, ...],
    out_dir: Path,
    phase: tuple[Path, ...] = (),
    real: tuple[Path, ...] = (),
    imaginary: tuple[Path, ...] = (),
    sidecars: tuple[Path, ...] = (),
    xform: str | None = None,
    assume_orientation: bool = False,
    found_notices: str = "[]",
    phase_required: bool = False,
    phase_units: str | None = None,
) -> CheckedInputs:
    """Read every file of a unit to its end, check shapes, grids and values of the echoes, and estimate σ.

    Real and imaginary parts become magnitude and phase (radians) in ``out_dir``. Where ``xform`` or
    ``assume_orientation`` settle an orientation, the images are written afresh with it, so that nobody decides
    again. ``found_notices`` is a JSON list of the warnings that finding the unit raised. Where phase is required,
    its unit (``phase_units`` in the sidecar) is decided here already, before any work.

    Raises
    ------
    InputError
        E1 for a file, E301 to E313 for values, shapes and grids, E360 to E363 for a required phase in doubt.
    """
    reading = _Reading(out_dir, xform, assume_orientation, measures_phase=phase_required)
    reading.notices += [Notice(**one) for one in json.loads(found_notices)]
    reading.hashes |= {str(path): sha256_of(path) for path in sidecars}
    kinds = {"magnitude": magnitude, "phase": phase, "real": real, "imaginary": imaginary}
    settled = {kind: reading.echoes(kind, paths) for kind, paths in kinds.items()}
    check_one_grid(reading.paths, reading.grids)
    check_distinct(magnitude, reading.samples)
    check_filled(magnitude, reading.filled)
    reading.notices += check_falling(magnitude, reading.samples)
    reading.notices += check_own_scales(magnitude, reading.largest)
    reading.notices += check_told_times(magnitude, reading.descriptions, echo_times_s)
    if phase_required:
        decide_phase_unit(reading.phase_ranges, phase_units, phase[0])
    noise = write_noise(out_dir, reading.samples, echo_times_s, reading.saturation)
    reading.notices += check_one_decay(magnitude, reading.samples, echo_times_s, read_sigma(noise))
    if (real and not magnitude) or (real and imaginary and not phase):
        parts = _magnitude_and_phase(settled["real"], settled["imaginary"], out_dir)
        for kind, made in zip(("magnitude", "phase"), parts):
            settled[kind] = settled[kind] or made
    notices = tuple(dict.fromkeys(reading.notices))
    return CheckedInputs(settled["magnitude"], settled["phase"], reading.write_hashes(), noise, notices)


def check_t1w(
    t1w: Path, out_dir: Path, xform: str | None = None, assume_orientation: bool = False
) -> CheckedAnatomy:
    """Read a T1w to its end; it must be one 3D head. ``xform`` and ``assume_orientation`` as in `check_inputs`.

    Raises
    ------
    InputError
        E1 for the file, E308 where it is not 3D or holds no signal.
    """
    reading = _Reading(out_dir, xform, assume_orientation)
    image, settled = reading.image(t1w, "T1w")
    if image.data.ndim != 3 or not np.any(np.nan_to_num(image.data) > 0):
        raise InputError(
            "E308",
            f"the T1w has shape {image.data.shape} or holds no signal",
            "one 3D head is needed",
            "export it again",
            path=t1w,
        )
    return CheckedAnatomy(settled, reading.write_hashes(), tuple(dict.fromkeys(reading.notices)))


class _Reading:
    """Reads images by one rule and remembers their hashes, grids and warnings."""

    def __init__(
        self, out_dir: Path, xform: str | None, assume_orientation: bool, *, measures_phase: bool = False
    ) -> None:
        self._out_dir, self._measures_phase = out_dir, measures_phase
        self.phase_ranges: list[PhaseRange] = []
        self._rule: dict[str, Any] = {"xform": xform, "assume_orientation": assume_orientation}
        self._settle = xform is not None or assume_orientation
        self.hashes: dict[str, str] = {}
        self.paths: list[Path] = []
        self.grids: list[Grid] = []
        self.notices: list[Notice] = []
        self.samples: list[NDArray[np.float32]] = []
        self.largest: list[float] = []
        self.descriptions: list[bytes] = []
        self.filled: list[frozenset[int]] = []
        self.saturation: float | None = None
        self._pile: PileUp | None = None

    def image(self, path: Path, name: str) -> tuple[Image, Path]:
        """An image, and the file that others read it from."""
        image = read_image(path, **self._rule)
        self.hashes[str(path)] = image.sha256
        self.notices += image.notices
        if not self._settle or image.data.ndim != 3:
            return image, path
        return image, write_image(self._out_dir / f"{name}.nii.gz", image.data, image.grid)

    def echoes(self, kind: str, paths: Sequence[Path]) -> tuple[Path, ...]:
        """Check the echoes of one kind."""
        settled = []
        for number, path in enumerate(paths, start=1):
            image, own = self.image(path, f"{kind}_{number}")
            if image.data.ndim != 3:
                raise InputError(
                    "E305",
                    f"the image has shape {'×'.join(map(str, image.data.shape))}",
                    "one 3D image an echo is needed",
                    "split the file into one file an echo, each with its EchoTime",
                    path=path,
                )
            self.paths.append(path)
            self.grids.append(image.grid)
            if kind == "magnitude":
                self.notices += check_magnitude(path, image.data)
                self.samples.append(sample_of(image.data))
                self.largest.append(float(np.nanmax(image.data)))
                self.descriptions.append(image.description)
                self.filled.append(filled_slices(image.data))
                self._watch_saturation(number, path, image.data)
            if kind == "phase" and self._measures_phase:
                self.phase_ranges.append(measure_range(image.data, path))
            settled.append(own)
        return tuple(settled)

    def _watch_saturation(self, number: int, path: Path, data: NDArray[Any]) -> None:
        """Look for saturation in the first echo once the second one has come."""
        if number == 1:
            self._pile = find_pile_up(data)
        elif (
            number == 2
            and self._pile
            and data.shape == self.grids[0].shape
            and is_saturation(self._pile, data)
        ):
            self.saturation = self._pile.level
            self.notices.append(saturation_notice(self._pile, path))

    def write_hashes(self) -> Path:
        """The hashes so far, as JSON."""
        text = json.dumps(self.hashes, indent=1, sort_keys=True) + "\n"
        return write_text_atomically(self._out_dir / "hashes.json", text)


def _magnitude_and_phase(
    real: Sequence[Path], imaginary: Sequence[Path], out_dir: Path
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """|z| and arg z of each echo."""
    if len(real) != len(imaginary):
        raise InputError(
            "E309",
            f"{len(real)} real and {len(imaginary)} imaginary images",
            "one of each an echo is needed",
            path=real[0],
        )
    magnitudes, phases = [], []
    for number, (one, other) in enumerate(zip(real, imaginary), start=1):
        image = read_image(one)
        size, phase = complex_to_polar(image.data, read_image(other).data)
        magnitudes.append(write_image(out_dir / f"echo-{number}_part-mag_MEGRE.nii.gz", size, image.grid))
        phases.append(write_image(out_dir / f"echo-{number}_part-phase_MEGRE.nii.gz", phase, image.grid))
    return tuple(magnitudes), tuple(phases)
