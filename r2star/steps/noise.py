"""The noise of a unit and the level at which its echoes are cut off, as a small JSON file between steps.

May import images, fit and files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.files import write_text_atomically
from r2star.fit.noise import N_SAMPLES, NoiseEstimate, estimate_noise_sigma
from r2star.fit.saturation import find_pile_up, is_saturation
from r2star.images import read_images

NO_NOISE = NoiseEstimate(float("nan"), "none", 0)


def estimate_noise(
    magnitude: Sequence[Path],
    echo_times_s: Sequence[float],
    out_dir: Path,
    *,
    assume_orientation: bool = False,
) -> Path:
    """σ of images outside a unit (one file an echo, or one 4D file), in the form that `fit_maps` takes.

    Images and echo times of other numbers give no σ: `fit_maps` refuses them.
    """
    images = read_images(magnitude, assume_orientation=assume_orientation)
    volumes = (
        [image.data for image in images] if len(images) > 1 else list(np.moveaxis(images[0].data, -1, 0))
    )
    if len(volumes) != len(echo_times_s):
        return write_noise(out_dir, [], echo_times_s)
    first, second = np.argsort(echo_times_s)[:2]
    pile = find_pile_up(volumes[first])
    level = pile.level if pile is not None and is_saturation(pile, volumes[second]) else None
    return write_noise(out_dir, [sample_of(volume) for volume in volumes], echo_times_s, level)


def read_sigma(noise: Path | None) -> float | None:
    """σ of the noise in the image's unit; None where it is not known."""
    sigma = None if noise is None else json.loads(noise.read_text())["sigma"]
    return None if sigma is None else float(sigma)


def read_saturation(noise: Path | None) -> float | None:
    """The level at which echoes are saturated; None where they are not, or where nobody looked."""
    return None if noise is None else json.loads(noise.read_text()).get("saturation")


def write_given_noise(out_dir: Path, sigma: float) -> Path:
    """A σ that the user knows, in the form that `fit_maps` takes."""
    told = {"sigma": sigma, "source": "given", "n_voxels": 0}
    return write_text_atomically(out_dir / "noise.json", json.dumps(told) + "\n")


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
    sigma = found.sigma if np.isfinite(found.sigma) else None
    told = {"sigma": sigma, "source": found.source, "n_voxels": found.n_voxels, "saturation": saturation}
    return write_text_atomically(out_dir / "noise.json", json.dumps(told) + "\n")
