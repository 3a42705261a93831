"""How far a voxel's spins run apart in a macroscopic field gradient: the factor |F(t)| on its decay.

A linear field across a slice of rectangular profile, or across a box-shaped voxel, gives a sinc of time
(Fernández-Seara & Wehrli 2000, doi:10.1002/1522-2594(200009)44:3<358::aid-mrm3>3.0.co;2-i). Arrays only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from r2star.field.gradient import GAMMA_HZ_PER_UT
from r2star.field.voxels import in_parts

_BOX = "3D acquisition: box of the voxel; the real loss depends on the filter of k-space"


@dataclass(frozen=True)
class DephasingModel:
    """Lengths along the voxel axes over which spins dephase; in kind "none", ``reason`` tells why."""

    kind: Literal["slice", "voxel", "none"]
    lengths_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    reason: str = ""

    @property
    def known(self) -> bool:
        """Whether there is a factor at all."""
        return self.kind != "none"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a sidecar."""
        return asdict(self)


def choose_dephasing(
    acquisition_type: str | None,
    slice_thickness_mm: float | None,
    voxel_size_mm: Sequence[float],
    slice_axis: int = 2,
) -> DephasingModel:
    """2D: the slice profile, by thickness, not spacing; 3D: the voxel's box; neither: none, and why.

    ``slice_axis`` is the voxel axis along which slices were excited.

    >>> choose_dephasing("2D", 3.0, (1.0, 1.0, 3.6)).lengths_mm
    (0.0, 0.0, 3.0)
    >>> choose_dephasing(None, 3.0, (1.0, 1.0, 3.6)).reason
    'MRAcquisitionType is missing from the sidecar (2D or 3D is needed)'
    """
    kind = (acquisition_type or "").strip().upper()
    if not kind:
        return DephasingModel(
            "none", reason="MRAcquisitionType is missing from the sidecar (2D or 3D is needed)"
        )
    if kind == "3D":
        x, y, z = (float(size) for size in voxel_size_mm)
        return DephasingModel("voxel", (x, y, z), _BOX)
    if kind != "2D":
        return DephasingModel("none", reason=f"MRAcquisitionType is {kind[:20]} (2D or 3D is needed)")
    if slice_thickness_mm is None or not np.isfinite(slice_thickness_mm) or slice_thickness_mm <= 0:
        return DephasingModel("none", reason="SliceThickness is missing from the sidecar of a 2D acquisition")
    lengths = [0.0, 0.0, 0.0]
    lengths[slice_axis] = float(slice_thickness_mm)
    return DephasingModel(
        "slice", (lengths[0], lengths[1], lengths[2]), "2D acquisition: rectangular slice profile"
    )


def dephasing_factor(
    gradient_ut_per_m: NDArray[np.floating[Any]],
    echo_times_s: NDArray[np.floating[Any]],
    model: DephasingModel,
) -> NDArray[np.float32]:
    """|F(t)| = Π_axes |sin x / x|, x = γ·G·d·t/2, at each echo time.

    Parameters
    ----------
    gradient_ut_per_m
        (..., 3) along the voxel axes, µT/m; NaN along an axis that the model uses gives NaN.
    echo_times_s
        (E,) seconds.
    model
        Lengths d; an axis of length 0 does not dephase.

    Returns
    -------
    (..., E), between 0 and 1. For a 3D acquisition the box is a convention: in directions that are encoded by
    Fourier steps, smooth tissue loses nothing until the gradient turns half a cycle per voxel, or more than
    the box where a strong filter was put on k-space.

    Examples
    --------
    >>> slice_of_2_mm = DephasingModel("slice", (0.0, 0.0, 2.0))
    >>> factor = dephasing_factor(np.array([0.0, 0.0, 150.0]), np.array([0.005, 0.029]), slice_of_2_mm)
    >>> [float(f"{one:.3f}") for one in factor]
    [0.993, 0.789]
    """
    packed = np.asarray(gradient_ut_per_m, np.float32).reshape(-1, 3)
    factor = np.empty((len(echo_times_s), len(packed)), np.float32)
    _fill_factor(np.ascontiguousarray(packed.T), echo_times_s, model, factor)
    used = [axis for axis, length_mm in enumerate(model.lengths_mm) if length_mm > 0]
    factor[:, ~np.isfinite(packed[:, used]).all(axis=1)] = np.nan
    return factor.T.reshape(*gradient_ut_per_m.shape[:-1], len(factor))


def angles_per_s(model: DephasingModel) -> NDArray[np.float32]:
    """x/t of 1 µT/m along each axis, (3,): half the phase in radians by which the ends of d drift apart in a second."""
    return np.float32(np.pi * GAMMA_HZ_PER_UT * 1e-3) * np.array(model.lengths_mm, np.float32)


def _fill_factor(
    gradient: Iterable[NDArray[np.float32]],
    echo_times_s: NDArray[np.floating[Any]],
    model: DephasingModel,
    factor: NDArray[np.float32],
    n_threads: int = 1,
) -> None:
    """|F| of gradients, three rows (N,), into (E, N), 1 where a gradient is not known."""
    from r2star.field.dephasing_kernels import fill_factor

    rows, scales = tuple(gradient), angles_per_s(model)
    times = np.asarray(echo_times_s, np.float32)
    in_parts(
        lambda start, stop: fill_factor(rows, scales, times, factor, start, stop), factor.shape[1], n_threads
    )


def iterate_dephasing(
    gradient_ut_per_m: NDArray[np.floating[Any]],
    echo_times_s: NDArray[np.floating[Any]],
    model: DephasingModel,
    depth: int,
    n_threads: int = 1,
) -> Iterator[NDArray[np.float32]]:
    """The factor for ``depth`` slices after the other, (X, Y, depth, E), so that memory stays bounded.

    ``gradient_ut_per_m`` is (X, Y, Z, 3). Where the gradient is unknown |F| is 1: no correction.
    """
    for start in range(0, gradient_ut_per_m.shape[2], depth):
        # transposed, slabs of images that lie x fastest in memory are contiguous
        along = gradient_ut_per_m.T[:, start : start + depth]
        factor = np.empty((len(echo_times_s), *along.shape[1:]), np.float32)
        rows = (np.ascontiguousarray(one, np.float32).reshape(-1) for one in along)
        _fill_factor(rows, echo_times_s, model, factor.reshape(len(factor), -1), n_threads)
        yield factor.T
