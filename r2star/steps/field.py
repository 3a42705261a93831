"""Steps: phase → B0 map and its gradient; gradient and R2* → the bias of R2* that the gradient causes.

Writes through `r2star.images`; echoes come packed from `r2star.steps.phase`, the numbers from `r2star.field`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    Voxels,
    fit_packed_gradient,
    iterate_dephasing,
    predict_bias_map,
)
from r2star.field import estimate_b0 as estimate_b0_of_arrays
from r2star.images import Grid, ImageWriter, read_image, write_image
from r2star.regions.summary import LARGE_BIAS_PER_S
from r2star.steps.dephasing import dephasing_of, interpolation
from r2star.steps.phase import naming, read_echoes

#: A field known in less than this share of the brain is told.
_LEAST_SHARE = 0.95
_ALGORITHM = (
    "Slope of phase over echo time, weighted by squared magnitude, after unwrapping in space "
    "(scikit-image unwrap_phase) and time"
)
_BIAS_REFERENCE = (
    "Fernandez-Seara and Wehrli 2000, doi:10.1002/1522-2594(200009)44:3<358::aid-mrm3>3.0.co;2-i"
)
_REFERENCE = "Abdul-Rahman et al. 2005, Proc SPIE 5856:32 (unwrapping)"
#: Doubts about the phase that a unit can do without.
DOUBTS = frozenset({"E360", "E361", "E362", "E363", "E366"})


class FieldMaps(NamedTuple):
    """Maps on the grid of the echoes, NaN outside the brain; ``derivatives`` lists all, with sidecars.

    ``gradient_map`` has three volumes: µT/m along the first, second and third axis of the grid. ``facts`` is
    JSON. Where the phase is in doubt there are no maps, and a notice says why.
    """

    b0_map: Path | None
    b0_stderr_map: Path | None
    gradient_map: Path | None
    facts: Path | None
    derivatives: tuple[Path, ...]
    notices: tuple[Notice, ...]


class GradientBias(NamedTuple):
    """The predicted bias of R2*, 1/s; no map where the sidecars don't tell what it takes."""

    bias_map: Path | None
    derivatives: tuple[Path, ...]


def estimate_b0(
    phase: tuple[Path, ...],
    magnitude: tuple[Path, ...],
    brain_mask: Path,
    echo_times_s: tuple[float, ...],
    out_dir: Path,
    *,
    sidecar: dict[str, Any] | None = None,
    required: bool = False,
    n_threads: int = 1,
) -> FieldMaps:
    """B0 in Hz from the phase of the echoes, and its gradient in µT/m.

    ``sidecar`` is the inherited metadata of the phase images, of which ``Units``, ``MRAcquisitionType``,
    ``SliceThickness``, ``SliceEncodingDirection`` and what tells of interpolation are used. Phase in doubt gives
    no maps but the notice W363, unless it is ``required``: a correction that was asked for must not be left out.

    Raises
    ------
    InputError
        E1 for an image; E364 too few echoes; E365 images of different shapes; E367 a mask that lies elsewhere.
        Where ``required``: E360, E361, E362, E363 for phase of a doubtful unit, E366 for nothing to estimate from.
    """
    try:
        return _map_field(phase, magnitude, brain_mask, echo_times_s, out_dir, dict(sidecar or {}),
                          n_threads)  # fmt: skip
    except InputError as doubt:
        if required or doubt.code not in DOUBTS:
            raise
        found = f"the field is not mapped, for the phase is in doubt: {doubt.found}"
        notice = Notice("W363", found, doubt.fix, Path(doubt.path).name)
        return FieldMaps(None, None, None, None, (), (notice,))


def _map_field(
    phase: tuple[Path, ...],
    magnitude: tuple[Path, ...],
    brain_mask: Path,
    echo_times_s: tuple[float, ...],
    out_dir: Path,
    known: dict[str, Any],
    n_threads: int,
) -> FieldMaps:
    """`estimate_b0`, whatever the doubt."""
    order = np.argsort(echo_times_s, kind="stable")
    times = np.asarray(echo_times_s, np.float64)[order]
    if not len(phase) == len(magnitude) == len(times):
        found = f"{len(phase)} phase and {len(magnitude)} magnitude images for {len(times)} echo times"
        raise InputError("E364", found, "one of each an echo is needed", path=phase[0] if phase else "")
    brain = read_image(brain_mask)
    mask, grid = brain.data > 0, brain.grid
    pairs = [(phase[echo], magnitude[echo]) for echo in order]
    echoes = read_echoes(pairs, Voxels.of(mask.T), grid, known.get("Units"), n_threads)
    with naming(pairs[0][0]):
        b0 = estimate_b0_of_arrays(echoes.phase_rad, echoes.magnitude, mask, times, n_threads)
    gradient = fit_packed_gradient(
        b0.voxels, b0.packed_hz, grid.voxel_size_mm, b0.packed_se_hz, n_threads=n_threads
    )
    model = dephasing_of(known, grid)
    facts = _facts(echoes.unit, b0, model, mask, times)
    maps: dict[str, tuple[str, NDArray[np.float32]]] = {
        "desc-B0_fieldmap": ("b0", b0.packed_hz),
        "desc-B0stderr_fieldmap": ("b0_stderr", b0.packed_se_hz),
        "desc-gradient_fieldmap": ("gradient", gradient.packed_ut_per_m),
        "desc-gradientstderr_fieldmap": ("gradient_stderr", gradient.packed_se_ut_per_m),
    }
    files = _write_maps(out_dir, maps, b0.voxels, grid, facts, n_threads)
    size = write_image(out_dir / "magnitude.nii.gz", echoes.mean_magnitude.T, grid)
    content = image_sidecar("magnitude", skull_stripped=False, extra={"EchoTime": facts["EchoTime"]})
    files += [size, write_json(out_dir / "magnitude.json", content)]
    told = write_json(out_dir / "field_facts.json", facts)
    notices = _notices(b0, model, mask, phase, interpolation(known, grid.voxel_size_mm))
    return FieldMaps(files[0], files[2], files[4], told, tuple(files), tuple(notices))


def predict_gradient_bias(
    r2star_map: Path,
    echo_times_s: tuple[float, ...],
    out_dir: Path,
    *,
    gradient_map: Path | None = None,
    facts: Path | None = None,
    method: str = "nonlinear",
    corrected: bool = False,
    n_threads: int = 1,
) -> GradientBias:
    """By how much the gradient raises the R2* of an uncorrected fit, voxel by voxel.

    ``r2star_map`` is that fit, or with ``corrected`` the fit that took the gradient into account. ``facts``
    is what `estimate_b0` wrote; without them there is no bias.
    """
    if gradient_map is None or facts is None or not (model := _read_model(facts)).known:
        return GradientBias(None, ())
    r2star = read_image(r2star_map)
    gradient = read_image(gradient_map).data.astype(np.float32, copy=False)
    times = np.asarray(echo_times_s, np.float64)
    rate = r2star.data.astype(np.float32, copy=False)
    bias = predict_bias_map(rate, gradient, times, model, method, corrected=corrected, n_threads=n_threads)
    n_known, n_large = int(np.isfinite(bias).sum()), int((bias > LARGE_BIAS_PER_S).sum())
    share = n_large / max(n_known, 1)
    content = image_sidecar(
        "gradient_bias",
        algorithm=f"Expected bias of the {method} fit for {model.reason}",
        reference=_BIAS_REFERENCE,
        extra={
            "EchoTime": [float(time) for time in times],
            "ShareAbove1PerS": round(share, 4),
            "TakenOut": corrected,
        },
    )
    target = write_image(out_dir / "desc-gradientbias_R2starmap.nii.gz", bias, r2star.grid)
    told = write_json(out_dir / "desc-gradientbias_R2starmap.json", content)
    return GradientBias(target, (target, told))


def read_dephasing(
    gradient_map: Path, facts: Path, echo_times_s: Sequence[float], depth: int, n_threads: int = 1
) -> Iterator[NDArray[np.float32]] | None:
    """The factor |F(t)| for ``depth`` slices after the other, (X, Y, depth, E); None where no model is known.

    For a fit that reads its echoes in slabs along z; echoes in the order of ``echo_times_s``.
    """
    model = _read_model(facts)
    if not model.known:
        return None
    gradient = read_image(gradient_map).data.astype(np.float32, copy=False)
    return iterate_dephasing(gradient, np.asarray(echo_times_s, np.float64), model, depth, n_threads)


def _read_model(facts: Path) -> DephasingModel:
    told = json.loads(facts.read_text())["Dephasing"]
    return DephasingModel(told["kind"], tuple(told["lengths_mm"]), told["reason"])


def _facts(
    unit: PhaseUnit, b0: B0Map, model: DephasingModel, mask: NDArray[np.bool_], times: NDArray[np.float64]
) -> dict[str, Any]:
    """What was decided and found, as plain values."""
    low, middle, high = np.percentile(b0.packed_hz, [1, 50, 99])
    return {
        "EchoTime": [float(time) for time in times],
        "PhaseUnit": unit.as_dict(),
        "ReadoutAlternation": b0.alternation.as_dict(),
        "EchoPhaseOffsetRad": list(b0.echo_offset_rad),
        "B0AmbiguityHz": float(b0.ambiguity_hz),
        "B0PercentilesHz": {"1": float(low), "50": float(middle), "99": float(high)},
        "EstimatedShare": round(float(b0.packed_hz.size / mask.sum()), 4),
        "Dephasing": model.as_dict(),
    }


def _write_maps(
    out_dir: Path,
    maps: Mapping[str, tuple[str, NDArray[np.float32]]],
    voxels: Voxels,
    grid: Grid,
    facts: Mapping[str, Any],
    n_threads: int,
) -> list[Path]:
    """Each map, whose values are packed, and after it its sidecar."""

    def write(name: str) -> tuple[Path, Path]:
        kind, packed = maps[name]
        extra: dict[str, Any] = dict(facts) if kind == "b0" else {"EchoTime": facts["EchoTime"]}
        if kind in ("gradient", "gradient_stderr"):
            extra |= {"Axes": ["i", "j", "k"], "Dephasing": facts["Dephasing"]}
        image = _write_packed(out_dir / f"{name}.nii.gz", packed, voxels, grid)
        content = image_sidecar(
            kind, skull_stripped=True, algorithm=_ALGORITHM, reference=_REFERENCE, extra=extra
        )
        return image, write_json(out_dir / f"{name}.json", content)

    with ThreadPoolExecutor(max(1, n_threads)) as pool:
        return [path for pair in pool.map(write, maps) for path in pair]


def _write_packed(path: Path, packed: NDArray[np.float32], voxels: Voxels, grid: Grid) -> Path:
    """An image of values (N,), or of several volumes (V, N), unpacked one after the other."""
    volumes = packed.reshape(-1, packed.shape[-1])
    with ImageWriter(path, grid, n_volumes=None if packed.ndim == 1 else len(volumes)) as writer:
        for one in volumes:
            writer.write_slices(voxels.unpack(one).T)
        writer.commit()
    return writer.path


def _notices(
    b0: B0Map, model: DephasingModel, mask: NDArray[np.bool_], phase: Sequence[Path], interpolated: str
) -> Iterator[Notice]:
    where = phase[0].name
    if not model.known:
        found = f"the effect of field gradients on R2* is neither predicted nor corrected: {model.reason}"
        yield Notice("W360", found, "give it in the sidecar", where)
    elif model.kind == "voxel" and interpolated:
        found = (
            f"{interpolated}, so dephasing, which is computed from the stored voxels, is known roughly only"
        )
        yield Notice("W365", found, "export without interpolation", where)
    if b0.alternation.found:
        found = f"odd and even echoes differ in phase by {b0.alternation.rms_rad:.2f} rad"
        yield Notice("W361", f"{found}, as bipolar readouts leave; it was taken out", path=where)
    share = float(b0.packed_hz.size / mask.sum())
    if share < _LEAST_SHARE:
        yield Notice("W362", f"B0 is known in {100 * share:.0f} % of the brain only", path=where)
