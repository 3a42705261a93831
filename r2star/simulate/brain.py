"""A simulated person in a simulated scanner: anatomy, pose, T1w, echoes, noise and the truth behind them.

Arrays only: from a template to arrays, for `r2star.steps.simulate` to write. Imports numpy and its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.simulate.acquisition import add_noise, add_phase_and_noise, coil_profile, dephase
from r2star.simulate.anatomy import (
    Template,
    Tissue,
    at_field,
    expected_r2star,
    paint_regions,
    paint_tissue,
)
from r2star.simulate.decay import rician
from r2star.simulate.field import GAMMA_HZ_PER_TESLA, FieldMap, macroscopic_field
from r2star.simulate.scan import Head, Scan, label_volumes, scan_echoes, scan_t1w, template_positions
from r2star.simulate.truth import REGIONS
from r2star.simulate.warp import draw_pose, draw_size, draw_warp, rigid

Array = NDArray[Any]

WHITE_MATTER_SIGNAL = 1000.0  # at t = 0 and in the middle of the coil; SNR is this over sigma
T1W_WHITE_MATTER_SIGNAL = 600.0
T1W_SNR = 40.0
HEMISPHERE_SD_PER_S = 0.4
_NECK_VOXELS = 30
_T1W_FIELD_OF_VIEW_MM = (200.0, 240.0, 210.0)
_MEGRE_FIELD_OF_VIEW_MM = (192.0, 224.0, 162.0)
_T1W_CENTRE_MM = (0.0, -16.0, 12.0)
_MEGRE_CENTRE_MM = (0.0, -18.0, 7.0)


@dataclass(frozen=True)
class BrainPlan:
    """What to acquire. SNR is white matter's S0 (1000, in the middle of the coil) over the noise's sigma."""

    echo_times_s: tuple[float, ...] = (0.0050, 0.0098, 0.0146, 0.0194, 0.0242, 0.0290)
    resolution_mm: tuple[float, float, float] = (1.0, 1.0, 1.5)
    t1w_mm: float | None = 1.0  # None: no T1w
    snr: float = 60.0
    field_strength_tesla: float = 3.0
    oblique_deg: float = 8.0  # of the MEGRE's slices, about the left–right axis
    dephasing: bool = True  # whether the field within a voxel takes signal
    phase: bool = False  # whether phase is wanted
    n_sessions: int = 1
    interval_years: float = 2.0


@dataclass(frozen=True)
class Person:
    """Who is scanned. ``shift_per_s`` is what sets R2* of each region apart from the mean of the age."""

    label: str
    age_years: float
    sex: str
    patient: bool
    seed: tuple[int, int]  # of the run, and the person's number
    size: Array
    shift_per_s: tuple[float, ...]


@dataclass(frozen=True)
class Session:
    """One visit. Images are (X, Y, Z), echoes first; ``truth`` is noise-free, on the MEGRE's grid."""

    age_years: float
    magnitude: Array
    phase_rad: Array | None
    affine: Array
    t1w: Array | None
    t1w_affine: Array | None
    truth: Scan
    b0_hz: Array
    r2star_by_region: tuple[float, ...]
    volume_mm3: Array  # by label number
    jacobian_range: tuple[float, float]


@dataclass(frozen=True)
class Stage:
    """What all persons share: the template, continued down the neck, and its tissue without the nuclei."""

    template: Template
    tissue: Tissue


def make_stage(template: Template, field_strength_tesla: float = 3.0) -> Stage:
    """Prepare a template for `simulate_session`, once for all persons."""
    whole = with_neck(template)
    return Stage(whole, paint_tissue(whole, field_strength_tesla))


def with_neck(template: Template, n_voxels: int = _NECK_VOXELS) -> Template:
    """The template continued downwards, so that a tilted field of view does not end in nothing."""
    below = ((0, 0), (0, 0), (n_voxels, 0))
    affine = template.affine.copy()
    affine[:3, 3] -= n_voxels * template.affine[:3, 2]
    return replace(
        template,
        t1w=np.pad(template.t1w, below, mode="edge"),
        brain_mask=np.pad(template.brain_mask, below),
        labels=np.pad(template.labels, below),
        affine=affine,
    )


def draw_person(regions: Sequence[tuple[str, str, tuple[int, ...]]], seed: int, number: int) -> Person:
    """Draw the ``number``-th person (from 0) of a seed; every second one is a patient.

    R2* of a region differs between people by the SD of the cohort simulation (0.6 of it shared between regions,
    0.8 its own, cut at two SD), and between hemispheres by 0.4/s. ``regions`` are those of the template.
    """
    rng = np.random.default_rng([seed, number, 0])
    sex = "female" if rng.random() < 0.6 else "male"
    age = float(np.round(np.clip(rng.normal(42, 13), 20, 80), 1))
    shared, own = rng.standard_normal(), {name: rng.standard_normal() for name in REGIONS}
    shifts = []
    for name, _, _ in regions:
        near = name if name in REGIONS else "caudate"
        person = REGIONS[near].sd_per_s * np.clip(0.6 * shared + 0.8 * own[near], -2, 2)
        shifts.append(float(person + HEMISPHERE_SD_PER_S * rng.standard_normal()))
    return Person(
        label=f"{number + 1:02d}", age_years=age, sex=sex, patient=number % 2 == 1,
        seed=(seed, number), size=draw_size(rng), shift_per_s=tuple(shifts),
    )  # fmt: skip


def simulate_session(stage: Stage, person: Person, plan: BrainPlan, session: int = 0) -> Session:
    """Scan a person: ``session`` counts from 0, each with its own age, pose, motion and noise.

    The person's head is the template after a random size, shear and diffeomorphism; T1w and MEGRE share a pose
    but for a small motion between them. Magnitude is the mean of the magnitudes over points within a voxel,
    times the dephasing of the field across it; noise is complex Gaussian.
    """
    rng = np.random.default_rng([*person.seed, 2, session])
    rates = region_rates(stage, person, plan, session)
    head = _make_head(stage, person, rates)
    pose = draw_pose(rng, 3.0, 4.0) @ person.size  # template to scanner
    motion = draw_pose(rng, 0.6, 0.6)
    affine, shape = megre_grid(plan)
    to_template = np.linalg.inv(motion @ pose)
    scan = scan_echoes(head, shape, affine, to_template, plan.echo_times_s)
    b0_hz = _field_hz(head, plan, shape, affine, to_template)
    magnitude = scan.signal * (WHITE_MATTER_SIGNAL * coil_profile(rng, shape, affine))
    if plan.dephasing:
        dephase(magnitude, b0_hz, affine, plan.echo_times_s)
    sigma = WHITE_MATTER_SIGNAL / plan.snr
    phase = None
    if plan.phase:
        phase = add_phase_and_noise(magnitude, b0_hz, plan.echo_times_s, sigma, rng)
    else:
        add_noise(magnitude, sigma, rng)
    t1w = t1w_affine = None
    if plan.t1w_mm is not None:
        t1w, t1w_affine = _acquire_t1w(head, plan.t1w_mm, np.linalg.inv(pose), rng)
    return Session(
        age_years=person.age_years + session * plan.interval_years,
        magnitude=magnitude,
        phase_rad=phase,
        affine=affine,
        t1w=t1w,
        t1w_affine=t1w_affine,
        truth=replace(scan, signal=scan.signal[:0]),
        b0_hz=b0_hz,
        r2star_by_region=rates,
        volume_mm3=label_volumes(head, to_template),
        jacobian_range=(head.warp.jacobian_min, head.warp.jacobian_max),
    )


def region_rates(stage: Stage, person: Person, plan: BrainPlan, session: int = 0) -> tuple[float, ...]:
    """R2* (1/s) that is planted in each of the template's regions at a visit."""
    age = person.age_years + session * plan.interval_years
    return tuple(
        at_field(expected_r2star(name, age, patient=person.patient) + shift, plan.field_strength_tesla)
        for (name, _, _), shift in zip(stage.template.regions, person.shift_per_s, strict=True)
    )


def _make_head(stage: Stage, person: Person, rates: tuple[float, ...]) -> Head:
    template = stage.template
    corners = template.affine @ np.array([[0, 0, 0, 1], [*template.labels.shape, 1]]).T
    warp = draw_warp(np.random.default_rng([*person.seed, 1]), corners[:3, 0], corners[:3, 1])
    return Head(template, paint_regions(stage.tissue, template, rates), warp)


def megre_grid(plan: BrainPlan) -> tuple[Array, tuple[int, int, int]]:
    """Affine (stored right to left, as converters of scanner data do) and shape of the MEGRE, oblique slices."""
    return _grid(plan.resolution_mm, _MEGRE_FIELD_OF_VIEW_MM, _MEGRE_CENTRE_MM, plan.oblique_deg, flip=True)


def _grid(
    size_mm: tuple[float, float, float],
    field_of_view_mm: tuple[float, float, float],
    centre_mm: tuple[float, float, float],
    oblique_deg: float = 0.0,
    *,
    flip: bool = False,
) -> tuple[Array, tuple[int, int, int]]:
    nx, ny, nz = (
        2 * round(extent / size / 2) for extent, size in zip(field_of_view_mm, size_mm, strict=True)
    )
    steps = np.diag([-size_mm[0] if flip else size_mm[0], size_mm[1], size_mm[2]])
    affine = rigid((oblique_deg, 0, 0), (0, 0, 0))
    affine[:3, :3] = affine[:3, :3] @ steps
    affine[:3, 3] = np.asarray(centre_mm) - affine[:3, :3] @ ((np.array([nx, ny, nz]) - 1) / 2)
    return affine, (nx, ny, nz)


def _field_hz(
    head: Head, plan: BrainPlan, shape: tuple[int, ...], affine: Array, to_template: Array
) -> Array:
    """Macroscopic field on the voxel grid, Hz."""
    from scipy import ndimage

    along = to_template[:3, :3] @ np.array([0.0, 0.0, 1.0])
    x, y, z = along / np.linalg.norm(along)
    field: FieldMap = macroscopic_field(head.template, (float(x), float(y), float(z)))
    to_index = np.linalg.inv(field.affine)
    coefficients = ndimage.spline_filter(field.ppm, output=np.float32)
    hz = np.empty(shape, np.float32)
    per_ppm = GAMMA_HZ_PER_TESLA * plan.field_strength_tesla * 1e-6
    for slab, position in template_positions(head, shape, affine, to_template):
        index = to_index[:3, :3] @ position + to_index[:3, 3:]
        values = ndimage.map_coordinates(coefficients, index, np.float32, mode="nearest", prefilter=False)
        hz[slab] = per_ppm * values.reshape(hz[slab].shape)
    return hz


def _acquire_t1w(
    head: Head, size_mm: float, to_template: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """T1w with its own contrast, coil and Rician noise."""
    affine, shape = _grid((size_mm,) * 3, _T1W_FIELD_OF_VIEW_MM, _T1W_CENTRE_MM)
    contrast = float(rng.uniform(0.9, 1.15))
    t1w = scan_t1w(head, shape, affine, to_template) / np.float32(84.0)
    signal = T1W_WHITE_MATTER_SIGNAL * t1w**contrast * coil_profile(rng, shape, affine)
    return rician(signal.astype(np.float32), T1W_WHITE_MATTER_SIGNAL / T1W_SNR, rng), affine
