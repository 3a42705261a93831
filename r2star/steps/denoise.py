"""Step: echoes → echoes with less noise, and by how much the residuals of the fit fell.

Only the fit reads the denoised echoes: σ, the reference image and the statistics of regions keep the measured ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from r2star.errors import InputError, Notice
from r2star.files import write_text_atomically
from r2star.fit import denoise_mppca, fit_decay
from r2star.fit.denoise import residual_change
from r2star.images import read_images, write_image
from r2star.steps.echo_rules import check_one_grid
from r2star.steps.noise import read_saturation, read_sigma

#: Voxels whose largest echo is below so many σ are air: they are left as they are, and tell nothing of a residual.
TISSUE_SIGMAS = 5.0
LEAST_ECHOES = 3


class DenoisedEchoes(NamedTuple):
    """Denoised echoes in the order of the measured ones, and what was done to them (JSON, for the sidecars)."""

    magnitude: tuple[Path, ...]
    denoising: Path
    notices: tuple[Notice, ...]


def denoise_echoes(
    magnitude: tuple[Path, ...],
    echo_times_s: tuple[float, ...],
    out_dir: Path,
    method: str = "nonlinear",
    n_threads: int = 1,
    assume_orientation: bool = False,
    noise: Path | None = None,
) -> DenoisedEchoes:
    """Denoise the echoes (one file an echo, or one 4D file) by MP-PCA; see `r2star.fit.denoise`.

    Raises
    ------
    InputError
        E336 for fewer than three echoes or an image narrower than a patch, E306 or E307 for echoes that differ.
    EnvironmentFault
        E640 where dipy is not installed.
    """
    if len(echo_times_s) < LEAST_ECHOES:
        raise InputError(
            "E336",
            f"there are {len(echo_times_s)} echoes",
            f"MP-PCA tells noise from signal by {LEAST_ECHOES} or more",
            "leave --denoise out",
            path=magnitude[0],
        )
    images = read_images(magnitude, n_threads=n_threads, assume_orientation=assume_orientation)
    check_one_grid(magnitude, [image.grid for image in images])
    grid, n_files = images[0].grid, len(images)
    signal = np.stack([image.data for image in images], axis=-1) if n_files > 1 else images[0].data
    notices = tuple(dict.fromkeys(notice for image in images for notice in image.notices))
    del images
    sigma = read_sigma(noise)
    tissue = signal.max(axis=-1) >= TISSUE_SIGMAS * (sigma or 0.0)
    tissue &= (signal > 0).any(axis=-1)
    if (saturation := read_saturation(noise)) is not None:
        tissue &= signal.max(axis=-1) < saturation  # stays as it is, so that the fit can tell it
    denoised = denoise_mppca(signal, mask=tissue)
    before, after = (
        fit_decay(each, echo_times_s, method, sigma, n_threads, mask=tissue)
        for each in (signal, denoised.signal)
    )
    told = {
        "Method": "MP-PCA",
        "Reference": "Veraart 2016, doi:10.1016/j.neuroimage.2016.08.016",
        "NoiseSigma": _number(np.median(denoised.sigma[tissue]) if tissue.any() else np.nan),
        "ResidualRatio": _number(residual_change(before, after)),
        "DenoisedVoxels": int(tissue.sum()),
    }
    echoes = np.moveaxis(denoised.signal, -1, 0) if n_files > 1 else [denoised.signal]
    written = tuple(
        write_image(out_dir / f"denoised_{number}.nii", echo, grid)
        for number, echo in enumerate(echoes, start=1)
    )
    path = write_text_atomically(out_dir / "denoising.json", json.dumps(told, indent=1) + "\n")
    return DenoisedEchoes(written, path, (*notices, *_doubts(told["ResidualRatio"], magnitude[0])))


def _number(value: float) -> float | None:
    """A number that JSON has, to four digits; None for NaN."""
    return float(f"{value:.4g}") if np.isfinite(value) else None


def _doubts(ratio: object, path: Path) -> list[Notice]:
    """A warning where the residuals did not fall: then what was taken away was not noise."""
    if isinstance(ratio, float) and ratio < 1.0:
        return []
    found = (
        f"denoising left residuals {ratio} times as large" if ratio is not None else "no voxel was denoised"
    )
    return [Notice("W304", found, "compare with a run without --denoise", path=path.name)]
