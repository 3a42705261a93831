"""Step: echoes → maps of R2*, its standard error, T2*, S0 and the fit's status, slab by slab.

Reads and writes through `r2star.images`; the fit is `r2star.fit.fit_decay`. A slab of slices is read from all echoes
(a file a thread), fitted and written before the next, so that memory stays bounded by the slab; a 4D file is
unpacked to the disk for that.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2star.bids.sidecars import image_sidecar, write_json, write_lookup
from r2star.errors import InputError, Notice
from r2star.files import write_fault
from r2star.fit import METHODS, Decay, Status, fit_decay
from r2star.images import Grid, ImageReader, ImageWriter, open_image
from r2star.steps.echo_rules import check_one_grid
from r2star.steps.echo_watch import EchoWatch
from r2star.steps.field import read_dephasing
from r2star.steps.fit_rules import check_counts, count_odd_rates, fit_notices, mark_lost, mark_noise
from r2star.steps.noise import read_saturation, read_sigma

#: Bytes of one slab of float32 echoes: large enough to keep two threads busy, small beside a head.
SLAB_BYTES = 64 * 2**20
#: Slices of a 4D file that are unpacked at a time.
SPOOL_SLICES = 16

#: Maps that a fit writes: file name → (key in `DERIVATIVES`, type).
MAPS = {
    "R2starmap.nii.gz": ("r2star", np.float32),
    "desc-stderr_R2starmap.nii.gz": ("r2star_stderr", np.float32),
    "T2starmap.nii.gz": ("t2star", np.float32),
    "S0map.nii.gz": ("s0", np.float32),
    "desc-residual_R2starmap.nii.gz": ("residual", np.float32),
    "desc-fitstatus_dseg.nii.gz": ("fit_status", np.uint8),
}


class FittedMaps(NamedTuple):
    """Maps on the grid of the echoes; ``derivatives`` lists all files with their sidecars."""

    r2star_map: Path
    stderr_map: Path
    s0_map: Path
    residual_map: Path
    status_map: Path
    derivatives: tuple[Path, ...]
    notices: tuple[Notice, ...]


def fit_maps(
    magnitude: tuple[Path, ...],
    echo_times_s: tuple[float, ...],
    out_dir: Path,
    method: str = "nonlinear",
    n_threads: int = 1,
    assume_orientation: bool = False,
    noise: Path | None = None,
    gradient_map: Path | None = None,
    field_facts: Path | None = None,
    denoising: Path | None = None,
    checked: bool = True,
) -> FittedMaps:
    """Fit S(t) = S0·exp(−R2*·t) in every voxel of the echoes: one file an echo, or one 4D file of all.

    ``noise`` is what `check_inputs` tells of σ and of saturation: it marks voxels in which no echo stands out of
    the noise, gives two echoes their standard errors, leaves saturated echoes out, and is needed by ``rician``. With
    ``gradient_map`` and ``field_facts`` (`r2star.steps.field`) the model has the factor |F(t)| of dephasing.
    ``denoising`` is what `r2star.steps.denoise` did to the echoes, for the sidecars. Echoes that `check_inputs` has not
    ``checked`` are held against each other here.

    Raises
    ------
    InputError
        E1 for an image, E301 for an echo without signal, E306 for echoes of different shapes, E303 where most of
        the signal rises with echo time, E310 for two echoes that are one image, E312 where no voxel has a value.
    """
    counts, n_odd = np.zeros(256, np.int64), 0
    sigma, saturation = read_sigma(noise), read_saturation(noise)
    # three echoes and more tell their own error, what the model can't describe included
    known = sigma if len(echo_times_s) == 2 or METHODS[method].uses_noise_model else None
    with ExitStack() as stack:
        readers = [
            stack.enter_context(open_image(path, assume_orientation=assume_orientation)) for path in magnitude
        ]
        grid = _one_grid(readers, len(echo_times_s))
        writers = [
            stack.enter_context(ImageWriter(out_dir / name, grid, dtype=kind))
            for name, (_, kind) in MAPS.items()
        ]
        watch = EchoWatch(len(echo_times_s), keeps_samples=not checked)
        pool = stack.enter_context(ThreadPoolExecutor(max(1, n_threads)))
        pool.submit(METHODS[method].load)  # the compiler is slow to import: meanwhile the first slab is read
        spool = stack.enter_context(_spool(readers[0], out_dir)) if len(readers) == 1 else None
        factors = _dephasing(
            gradient_map, field_facts, echo_times_s, _depth(grid, len(echo_times_s)), n_threads
        )
        for slab, factor in zip(_slabs(readers, grid, len(echo_times_s), pool, spool), factors):
            watch.see(slab)
            signal = np.moveaxis(slab, 0, -1)
            decay = fit_decay(
                signal, echo_times_s, method=method, noise_sigma=known, n_threads=n_threads, dephasing=factor,
                saturation_level=saturation,
            )  # fmt: skip
            mark_noise(decay, slab, sigma)
            mark_lost(decay, slab, echo_times_s, sigma)
            counts += np.bincount(decay.status.ravel(), minlength=256)
            n_odd += count_odd_rates(decay)
            list(pool.map(ImageWriter.write_slices, writers, _maps_of(decay)))
        for reader in readers:
            reader.close()  # verifies the rest of the file
        watch.check(magnitude)
        check_counts(counts, magnitude[0])
        list(pool.map(ImageWriter.commit, writers))
    notices = [notice for reader in readers for notice in reader.notices] + fit_notices(counts, n_odd)
    notices += [] if checked else watch.notices(magnitude, echo_times_s, sigma)
    derivatives = [out_dir / name for name in MAPS]
    derivatives += _write_sidecars(out_dir, method, echo_times_s, denoising)
    by_key = dict(zip((key for key, _ in MAPS.values()), derivatives))
    return FittedMaps(
        by_key["r2star"],
        by_key["r2star_stderr"],
        by_key["s0"],
        by_key["residual"],
        by_key["fit_status"],
        tuple(derivatives),
        tuple(dict.fromkeys(notices)),
    )


def _one_grid(readers: Sequence[ImageReader], n_echoes: int) -> Grid:
    """The grid that all echoes share."""
    check_one_grid([reader.path for reader in readers], [reader.grid for reader in readers])
    expected = {(*readers[0].shape[:3],)} if len(readers) > 1 else {(*readers[0].shape[:3], n_echoes)}
    if {reader.shape for reader in readers} != expected or len(readers) not in (1, n_echoes):
        listed = ", ".join(f"{reader.path.name} {'×'.join(map(str, reader.shape))}" for reader in readers)
        raise InputError(
            "E306",
            f"{n_echoes} echo times and the shapes {listed}",
            "one 3D image an echo, or one 4D image of all, is needed",
            "check the files and the echo times",
            path=readers[0].path,
        )
    return readers[0].grid


def _depth(grid: Grid, n_echoes: int) -> int:
    """Slices in a slab."""
    return max(1, SLAB_BYTES // (n_echoes * grid.shape[0] * grid.shape[1] * 4))


def _slabs(
    readers: Sequence[ImageReader],
    grid: Grid,
    n_echoes: int,
    pool: ThreadPoolExecutor,
    spool: BinaryIO | None,
) -> Iterator[NDArray[np.float32]]:
    """Slabs (E, X, Y, n) in order along z, x fastest in memory; each takes the place of the one before."""
    x, y, z = grid.shape
    depth = min(_depth(grid, n_echoes), z)
    room = np.empty((n_echoes, depth, y, x), np.float32).transpose(0, 3, 2, 1)
    for start in range(0, z, depth):
        slab = room[..., : min(depth, z - start)]
        if spool is None:
            list(pool.map(lambda reader, echo, n=slab.shape[-1]: reader.read_slices(n, echo), readers, slab))
        else:
            for number, echo in enumerate(slab):
                spool.seek(4 * x * y * (number * z + start))
                spool.readinto(echo.reshape(-1, order="F").view(np.uint8).data)  # type: ignore[attr-defined]
        yield slab


def _spool(reader: ImageReader, folder: Path) -> BinaryIO:
    """The values of a 4D file as float32 in a file without a name: its last echo stands at its end, packed.

    Raises
    ------
    EnvironmentFault
        E601 where there is no room for it.
    """
    try:
        file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (the caller closes it)
        for _ in range(0, reader.n_slices, SPOOL_SLICES):
            left = memoryview(reader.read_slices(SPOOL_SLICES).reshape(-1, order="F").view(np.uint8).data)
            while left:
                left = left[file.write(left) :]
    except OSError as error:
        raise write_fault(error, folder) from error
    return file


def _dephasing(
    gradient_map: Path | None,
    facts: Path | None,
    echo_times_s: Sequence[float],
    depth: int,
    n_threads: int,
) -> Iterator[NDArray[np.float32] | None]:
    """The factor |F(t)| slab by slab, or None for every slab."""
    known = None
    if gradient_map is not None and facts is not None:
        known = read_dephasing(gradient_map, facts, echo_times_s, depth, n_threads)
    return repeat(None) if known is None else known


def _maps_of(decay: Decay) -> Iterator[NDArray[np.generic]]:
    """The maps in the order of `MAPS`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t2star_s = np.where(decay.r2star_per_s > 0, 1.0 / decay.r2star_per_s, np.nan)
    yield from (decay.r2star_per_s, decay.r2star_se_per_s, t2star_s, decay.s0, decay.residual, decay.status)


def _write_sidecars(
    out_dir: Path, method: str, echo_times_s: Sequence[float], denoising: Path | None
) -> list[Path]:
    """A JSON file beside each map, and the lookup table of the status."""
    chosen = METHODS[method]
    extra: dict[str, object] = {"EchoTime": sorted(echo_times_s)}
    if denoising is not None:
        extra["Denoising"] = json.loads(denoising.read_text())
    written = []
    for name, (key, _) in MAPS.items():
        content = image_sidecar(
            key,
            algorithm=chosen.summary,
            reference=chosen.reference,
            extra=extra,
        )
        written.append(write_json(out_dir / name.replace(".nii.gz", ".json"), content))
    rows = [{"index": int(code), "name": code.label, "description": code.meaning} for code in Status]
    written.append(write_lookup(out_dir / "desc-fitstatus_dseg.tsv", rows, ("index", "name", "description")))
    return written
