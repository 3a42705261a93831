"""Steps: phase → B0 map and its gradient; gradient and R2* → the bias of R2* that the gradient causes.

Reads and writes through `r2star.images`; the numbers come from `r2star.field`. Echoes are read one at a time,
and only the mask's voxels are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2star.bids.sidecars import image_sidecar, write_json
from r2star.errors import InputError, Notice
from r2star.field import (
    B0Map,
    DephasingModel,
    PhaseUnit,
    choose_dephasing,
    fit_gradient,
    iterate_dephasing,
    measure_phase_range,
    predict_bias_map,
    recognise_phase_unit,
)
from r2star.field import estimate_b0 as estimate_b0_of_arrays
from r2star.images import Grid, read_image, read_images, write_image

#: A field known in less than this share of the brain is told.
_LEAST_SHARE = 0.95
#: Echoes and mask lie on one grid to within this distance at the corners, mm.
GRID_TOLERANCE_MM = 0.1
#: Voxels whose gradient raises R2* by more than this are counted, 1/s.
LARGE_BIAS_PER_S = 1.0
_ALGORITHM = (
    "Slope of phase over echo time, weighted by squared magnitude, after unwrapping in space "
    "(scikit-image unwrap_phase) and time"
)
_BIAS_REFERENCE = (
    "Fernandez-Seara and Wehrli 2000, doi:10.1002/1522-2594(200009)44:3<358::aid-mrm3>3.0.co;2-i"
)
_REFERENCE = "Abdul-Rahman et al. 2005, Proc SPIE 5856:32 (unwrapping)"


class FieldMaps(NamedTuple):
    """Maps on the grid of the echoes, NaN outside the brain; ``derivatives`` lists all, with sidecars.

    ``gradient_map`` has three volumes: µT/m along the first, second and third axis of the grid. ``facts`` is
    JSON.
    """

    b0_map: Path
    b0_stderr_map: Path
    gradient_map: Path
    facts: Path
    derivatives: tuple[Path, ...]
    notices: tuple[Notice, ...]


class GradientBias(NamedTuple):
    """The predicted bias of R2*, 1/s; no map where the sidecars don't tell what it takes."""

    bias_map: Path | None
    derivatives: tuple[Path, ...]
    notices: tuple[Notice, ...]


def estimate_b0(
    phase: tuple[Path, ...],
    magnitude: tuple[Path, ...],
    brain_mask: Path,
    echo_times_s: tuple[float, ...],
    out_dir: Path,
    *,
    sidecar: dict[str, Any] | None = None,
    assume_orientation: bool = False,
    n_threads: int = 1,
) -> FieldMaps:
    """B0 in Hz from the phase of the echoes, and its gradient in µT/m.

    ``sidecar`` is the inherited metadata of the phase images, of which ``Units``, ``MRAcquisitionType``,
    ``SliceThickness`` and ``SliceEncodingDirection`` are used.

    Raises
    ------
    InputError
        E1 for an image; E360, E361, E362, E363 where the unit of phase is in doubt; E364 too few echoes; E365
        images of different shapes; E366 nothing to estimate from; E367 a mask that lies elsewhere.
    """
    order = np.argsort(echo_times_s, kind="stable")
    times = np.asarray(echo_times_s, np.float64)[order]
    known = dict(sidecar or {})
    mask_image = read_image(brain_mask, assume_orientation=assume_orientation)
    mask, grid = np.ascontiguousarray(np.nan_to_num(mask_image.data) > 0), mask_image.grid
    if not len(phase) == len(magnitude) == len(times):
        found = f"{len(phase)} phase and {len(magnitude)} magnitude images for {len(times)} echo times"
        raise InputError("E364", found, "one of each an echo is needed", path=phase[0] if phase else "")
    pairs = [(phase[echo], magnitude[echo]) for echo in order]
    how = {"assume_orientation": assume_orientation, "n_threads": n_threads}
    echoes = _Echoes(pairs, mask, grid, known.get("Units"), **how)
    b0 = estimate_b0_of_arrays(echoes.signal, mask, times)
    gradient = fit_gradient(b0.b0_hz, grid.voxel_size_mm)
    model = dephasing_of(known, grid)
    facts = _facts(echoes.unit, b0, model, mask, times)
    maps: dict[str, tuple[str, NDArray[np.float32]]] = {
        "desc-B0_fieldmap": ("b0", b0.b0_hz),
        "desc-B0stderr_fieldmap": ("b0_stderr", b0.b0_se_hz),
        "desc-gradient_fieldmap": ("gradient", gradient.ut_per_m),
        "magnitude": ("magnitude", echoes.mean_magnitude),
    }
    files = _write_maps(out_dir, maps, grid, facts, n_threads)
    told = write_json(out_dir / "field_facts.json", facts)
    return FieldMaps(
        files[0], files[2], files[4], told, tuple(files), tuple(_notices(b0, model, mask, phase))
    )


def predict_gradient_bias(
    r2star_map: Path,
    gradient_map: Path,
    facts: Path,
    echo_times_s: tuple[float, ...],
    out_dir: Path,
    *,
    method: str = "nonlinear",
    corrected: bool = False,
) -> GradientBias:
    """By how much the gradient raises the R2* of an uncorrected fit, voxel by voxel.

    ``r2star_map`` is that fit, or with ``corrected`` the fit that took the gradient into account. ``facts``
    is what `estimate_b0` wrote.
    """
    model = _read_model(facts)
    if not model.known:
        return GradientBias(None, (), ())
    r2star = read_image(r2star_map)
    gradient = read_image(gradient_map).data.astype(np.float32, copy=False)
    times = np.asarray(echo_times_s, np.float64)
    rate = r2star.data.astype(np.float32, copy=False)
    bias = predict_bias_map(rate, gradient, times, model, method, corrected=corrected)
    known = np.isfinite(bias)
    share = float((bias[known] > LARGE_BIAS_PER_S).mean()) if known.any() else 0.0
    content = image_sidecar(
        "r2star",
        algorithm=f"Expected bias of the {method} fit for {model.reason}",
        reference=_BIAS_REFERENCE,
        extra={
            "Description": "Part of R2* that the gradient of B0 causes; NaN where there is none",
            "EchoTime": [float(time) for time in times],
            "ShareAbove1PerS": round(share, 4),
            "TakenOut": corrected,
        },
    )
    target = write_image(out_dir / "desc-gradientbias_R2starmap.nii.gz", bias, r2star.grid)
    told = write_json(out_dir / "desc-gradientbias_R2starmap.json", content)
    return GradientBias(target, (target, told), ())


def read_dephasing(
    gradient_map: Path, facts: Path, echo_times_s: Sequence[float], depth: int
) -> Iterator[NDArray[np.float32]] | None:
    """The factor |F(t)| for ``depth`` slices after the other, (X, Y, depth, E); None where no model is known.

    For a fit that reads its echoes in slabs along z; echoes in the order of ``echo_times_s``.
    """
    model = _read_model(facts)
    if not model.known:
        return None
    gradient = read_image(gradient_map).data.astype(np.float32, copy=False)
    return iterate_dephasing(gradient, np.asarray(echo_times_s, np.float64), model, depth)


def _read_model(facts: Path) -> DephasingModel:
    told = json.loads(facts.read_text())["Dephasing"]
    return DephasingModel(told["kind"], tuple(told["lengths_mm"]), told["reason"])


def dephasing_of(sidecar: Mapping[str, Any], grid: Grid) -> DephasingModel:
    """How voxels dephase, by what the sidecar says; slices lie along the third axis unless it tells."""
    direction = str(sidecar.get("SliceEncodingDirection") or "k").lower()[:1]
    thickness = sidecar.get("SliceThickness")
    plain = isinstance(thickness, int | float) and not isinstance(thickness, bool)
    kind = sidecar.get("MRAcquisitionType")
    model = choose_dephasing(
        kind if isinstance(kind, str) else None,
        float(thickness) if plain and thickness is not None else None,
        grid.voxel_size_mm,
        "ijk".index(direction) if direction in "ijk" else 2,
    )
    axis = int(np.argmax(model.lengths_mm))
    if model.kind == "slice" and not 0.2 < model.lengths_mm[axis] / grid.voxel_size_mm[axis] < 2.5:
        thick, apart = model.lengths_mm[axis], grid.voxel_size_mm[axis]
        reason = f"SliceThickness {thick:g} mm does not fit slices that lie {apart:.3g} mm apart"
        return replace(model, kind="none", lengths_mm=(0.0, 0.0, 0.0), reason=reason)
    return model


class _Echoes:
    """Complex signal (E, N) of the mask's voxels, first echo first, in one decided unit of phase."""

    def __init__(
        self,
        pairs: Sequence[tuple[Path, Path]],
        mask: NDArray[np.bool_],
        grid: Grid,
        declared: object,
        **how: Any,
    ) -> None:
        self.signal = np.empty((len(pairs), int(np.count_nonzero(mask))), np.complex64)
        self.mean_magnitude = np.zeros(mask.shape, np.float32, order="F")  # as images are read
        ranges = []
        for packed, paths in zip(self.signal, pairs):
            stored, size = _read_pair(paths, grid, **how)
            with _naming(paths[0]):
                ranges.append(measure_phase_range(stored))
            # the unit is known after the last echo: until then phase lies in the real part
            packed.real = stored[mask]
            packed.imag = size[mask]
            self.mean_magnitude += size
        self.mean_magnitude = np.nan_to_num(self.mean_magnitude / np.float32(len(pairs)), posinf=0, neginf=0)
        with _naming(pairs[0][0]):
            self.unit = recognise_phase_unit(ranges, declared if isinstance(declared, str) else None)
        for packed in self.signal:
            phase, size = self.unit.to_radians(packed.real), np.maximum(packed.imag, 0)
            packed.real = size * np.cos(phase)
            packed.imag = size * np.sin(phase)


def _read_pair(
    paths: tuple[Path, Path], grid: Grid, **how: Any
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Phase and magnitude of one echo."""
    images = read_images(paths, **how)
    for path, image in zip(paths, images):
        own, masks = ("×".join(map(str, one)) for one in (image.data.shape, grid.shape))
        if own != masks:
            found = f"the image has shape {own}, the brain mask {masks}"
            raise InputError("E365", found, "one shape", "export the series again", path=path)
        if not image.grid.same_as(grid, tol_mm=GRID_TOLERANCE_MM):
            found = "the image lies elsewhere in space than the brain mask"
            raise InputError("E367", found, "one grid", "make the mask from these images", path=path)
    phase, magnitude = (image.data.astype(np.float32, copy=False) for image in images)
    return phase, magnitude


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name to an error of a kernel, which knows none."""
    try:
        yield
    except InputError as error:
        error.path = str(path)
        raise


def _facts(
    unit: PhaseUnit, b0: B0Map, model: DephasingModel, mask: NDArray[np.bool_], times: NDArray[np.float64]
) -> dict[str, Any]:
    """What was decided and found, as plain values."""
    estimated = np.isfinite(b0.b0_hz)
    low, middle, high = np.nanpercentile(b0.b0_hz, [1, 50, 99])
    return {
        "EchoTime": [float(time) for time in times],
        "PhaseUnit": unit.as_dict(),
        "ReadoutAlternation": b0.alternation.as_dict(),
        "EchoPhaseOffsetRad": list(b0.echo_offset_rad),
        "B0AmbiguityHz": float(b0.ambiguity_hz),
        "B0PercentilesHz": {"1": float(low), "50": float(middle), "99": float(high)},
        "EstimatedShare": round(float(estimated.sum() / mask.sum()), 4),
        "Dephasing": model.as_dict(),
    }


def _write_maps(
    out_dir: Path,
    maps: Mapping[str, tuple[str, NDArray[np.float32]]],
    grid: Grid,
    facts: Mapping[str, Any],
    n_threads: int,
) -> list[Path]:
    """Each map and, after it, its sidecar."""

    def write(name: str) -> tuple[Path, Path]:
        kind, values = maps[name]
        extra: dict[str, Any] = dict(facts) if kind == "b0" else {"EchoTime": facts["EchoTime"]}
        if kind == "gradient":
            extra |= {"Units": "uT/m", "Axes": ["i", "j", "k"], "Dephasing": facts["Dephasing"]}
        fitted = {"algorithm": _ALGORITHM, "reference": _REFERENCE} if kind != "magnitude" else {}
        image = write_image(out_dir / f"{name}.nii.gz", values, grid)
        content = image_sidecar(kind, skull_stripped=kind != "magnitude", **fitted, extra=extra)
        return image, write_json(out_dir / f"{name}.json", content)

    with ThreadPoolExecutor(max(1, n_threads)) as pool:
        return [path for pair in pool.map(write, maps) for path in pair]


def _notices(
    b0: B0Map, model: DephasingModel, mask: NDArray[np.bool_], phase: Sequence[Path]
) -> Iterator[Notice]:
    where = phase[0].name
    if not model.known:
        found = f"the effect of field gradients on R2* is neither predicted nor corrected: {model.reason}"
        yield Notice("W360", found, "give it in the sidecar", where)
    if b0.alternation.found:
        found = f"odd and even echoes differ in phase by {b0.alternation.rms_rad:.2f} rad"
        yield Notice("W361", f"{found}, as bipolar readouts leave; it was taken out", path=where)
    share = float(np.isfinite(b0.b0_hz).sum() / mask.sum())
    if share < _LEAST_SHARE:
        yield Notice("W362", f"B0 is known in {100 * share:.0f} % of the brain only", path=where)
