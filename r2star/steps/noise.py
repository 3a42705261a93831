"""The noise of a unit and the level at which its echoes are cut off, as a small JSON file between steps.

May import images, fit and files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2star.errors import Notice
from r2star.files import write_text_atomically
from r2star.fit.noise import N_SAMPLES, NoiseEstimate, estimate_noise_sigma
from r2star.fit.saturation import PileUp, find_pile_up, is_saturation
from r2star.images import open_image, read_images

NO_NOISE = NoiseEstimate(float("nan"), "none", 0)


class FoundNoise(NamedTuple):
    """What `fit_maps` takes as ``noise``, and what there is to say about it."""

    noise: Path
    notices: tuple[Notice, ...]


def find_noise(
    magnitude: Sequence[Path],
    echo_times_s: Sequence[float],
    out_dir: Path,
    sigma: float | None = None,
    *,
    estimate: bool = True,
    assume_orientation: bool = False,
) -> FoundNoise:
    """σ and saturation of images outside a unit (one file an echo, or one 4D file).

    All echoes are read where σ is to be estimated; for saturation alone, with a σ that the user knows or without one,
    the two first in time.
    """
    estimate = estimate and sigma is None
    known = NO_NOISE if sigma is None else NoiseEstimate(sigma, "given", 0)
    first, second = (int(echo) for echo in np.argsort(echo_times_s)[:2])
    wanted = range(len(echo_times_s)) if estimate else sorted((first, second))
    volumes = _read_volumes(magnitude, wanted, assume_orientation)
    if volumes is None:  # the fit says what is wrong with them
        return FoundNoise(_write(out_dir, known, None), ())
    level: float | None = None
    notices: tuple[Notice, ...] = ()
    pile = find_pile_up(volumes[first])
    if pile is not None and is_saturation(pile, volumes[second]):
        level, notices = pile.level, (saturation_notice(pile, magnitude[first if len(magnitude) > 1 else 0]),)
    if not estimate:
        return FoundNoise(_write(out_dir, known, level), notices)
    samples = [sample_of(volumes[echo]) for echo in wanted]
    return FoundNoise(write_noise(out_dir, samples, echo_times_s, level), notices)


def saturation_notice(pile: PileUp, path: Path) -> Notice:
    """The warning that the first echo was cut off."""
    found = f"{pile.voxels.size} voxels stand at the first echo's largest value, {pile.level:g}"
    meaning = "they are taken as saturated, and echoes that high are left out"
    return Notice("W305", f"{found}; {meaning}", "lower the receiver gain", path=path.name)


def _read_volumes(
    magnitude: Sequence[Path], wanted: Sequence[int], assume_orientation: bool
) -> dict[int, NDArray[Any]] | None:
    """The wanted echoes by their number, in rising order; None where the files do not hold them all on one grid."""
    if len(magnitude) > 1:
        if wanted[-1] >= len(magnitude):
            return None
        images = read_images([magnitude[echo] for echo in wanted], assume_orientation=assume_orientation)
        volumes = {echo: image.data for echo, image in zip(wanted, images, strict=True)}
        return volumes if len({volume.shape for volume in volumes.values()}) == 1 else None
    with open_image(magnitude[0], assume_orientation=assume_orientation) as reader:
        if len(reader.shape) != 4 or wanted[-1] >= reader.shape[3]:
            return None
        volumes = {}
        for echo in range(wanted[-1] + 1):
            volume = reader.read_slices(reader.shape[2])
            if echo in wanted:
                volumes[echo] = volume
        reader.close(verify=False)  # the fit reads it to its end
    return volumes


def read_sigma(noise: Path | None) -> float | None:
    """σ of the noise in the image's unit; None where it is not known."""
    sigma = None if noise is None else json.loads(noise.read_text())["sigma"]
    return None if sigma is None else float(sigma)


def read_saturation(noise: Path | None) -> float | None:
    """The level at which echoes are saturated; None where they are not, or where nobody looked."""
    return None if noise is None else json.loads(noise.read_text()).get("saturation")


def sample_of(data: NDArray[Any]) -> NDArray[np.float32]:
    """Voxels at an even stride, enough to tell the noise by."""
    flat = data.ravel(order="K")
    return np.array(flat[:: max(1, flat.size // N_SAMPLES)], np.float32)


def write_noise(
    out_dir: Path,
    samples: Sequence[NDArray[np.float32]],
    echo_times_s: Sequence[float],
    saturation: float | None = None,
) -> Path:
    """σ by the rule of `r2star.fit.noise`, from one sample of the same voxels per echo, as JSON.

    ``saturation`` is the level at which the echoes were found cut off, by the rule of `r2star.fit.saturation`.
    """
    shapes = {sample.shape for sample in samples}
    known = len(shapes) == 1 and len(samples) == len(echo_times_s)
    found = estimate_noise_sigma(np.stack(samples, -1), echo_times_s) if known else NO_NOISE
    return _write(out_dir, found, saturation)


def _write(out_dir: Path, found: NoiseEstimate, saturation: float | None) -> Path:
    sigma = found.sigma if np.isfinite(found.sigma) else None
    told = {"sigma": sigma, "source": found.source, "n_voxels": found.n_voxels, "saturation": saturation}
    return write_text_atomically(out_dir / "noise.json", json.dumps(told) + "\n")
