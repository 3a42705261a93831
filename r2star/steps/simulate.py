"""Step: write simulated brains as a BIDS dataset, with the planted truth beside them.

``OUT`` is the raw dataset (T1w, MEGRE, participants.tsv) with ``truth.tsv``; ``OUT/derivatives/truth`` holds what
is true on each MEGRE grid: R2*, regions, brain and field. May import simulate, atlas, images and files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from r2star import __version__
from r2star.atlas import Atlas, load_atlas
from r2star.atlas.labels import read_labels
from r2star.bids.dataset import BIDS_VERSION
from r2star.files import write_text_atomically
from r2star.images import Grid, read_image, write_image
from r2star.settings import DEFAULT_ATLAS
from r2star.simulate.anatomy import Template
from r2star.simulate.brain import (
    T1W_SNR,
    BrainPlan,
    Person,
    Session,
    draw_person,
    make_stage,
    simulate_session,
)

TRUTH_COLUMNS = (
    "participant_id", "session_id", "group", "age", "segmentation", "region", "hemisphere", "index",
    "r2star_per_s", "volume_mm3", "n_voxels",
)  # fmt: skip

_TRUTH_DESCRIPTIONS: Mapping[str, Any] = {
    "participant_id": {"Description": "Simulated participant"},
    "session_id": {"Description": "Session, n/a where there is one only"},
    "group": {"Description": "Patient or control"},
    "age": {"Description": "Age at the session", "Units": "year"},
    "segmentation": {"Description": "Atlas whose regions are planted"},
    "region": {"Description": "Region"},
    "hemisphere": {"Description": "L or R"},
    "index": {"Description": "Label numbers in seg-truth_dseg, joined by +"},
    "r2star_per_s": {"Description": "Planted R2*, the same in the whole region", "Units": "1/s"},
    "volume_mm3": {"Description": "Volume of the region in the person", "Units": "mm^3"},
    "n_voxels": {"Description": "MEGRE voxels whose centre lies in the region"},
}
_PARTICIPANT_DESCRIPTIONS: Mapping[str, Any] = {
    "age": {"Description": "Age at the first session", "Units": "year"},
    "sex": {"Description": "Sex", "Levels": {"female": "female", "male": "male"}},
    "group": {"Description": "Patient or control", "Levels": {"patient": "patient", "control": "control"}},
}


class WrittenBrains(NamedTuple):
    """Where simulated brains stand: the BIDS dataset and the table of the planted truth."""

    bids_dir: Path
    truth: Path


def write_brains(
    out: Path,
    plan: BrainPlan,
    *,
    n_participants: int = 2,
    seed: int = 20140,
    atlas: str = DEFAULT_ATLAS,
    on_written: Callable[[str], None] | None = None,
) -> WrittenBrains:
    """Write a BIDS dataset of simulated participants into a folder; equal arguments give equal bytes.

    ``on_written`` is called with the name of each participant and session when its files stand.
    """
    definition = load_atlas(atlas)
    stage = make_stage(read_template(definition), plan.field_strength_tesla)
    truth_dir = out / "derivatives" / "truth"
    people = [draw_person(stage.template.regions, seed, number) for number in range(n_participants)]
    _write_dataset(out, truth_dir, definition, people, plan, seed)
    rows: list[tuple[Any, ...]] = []
    for person in people:
        for number in range(plan.n_sessions):
            session = simulate_session(stage, person, plan, number)
            label = str(number + 1) if plan.n_sessions > 1 else None
            name = _write_session(out, person, session, plan, label)
            _write_truth(truth_dir, name, session)
            rows += _truth_rows(person, session, label, definition)
            if on_written is not None:
                on_written(name.stem)
    write_text_atomically(out / "truth.json", _json(_TRUTH_DESCRIPTIONS))
    return WrittenBrains(out, write_text_atomically(out / "truth.tsv", _table(TRUTH_COLUMNS, rows)))


def read_template(atlas: Atlas) -> Template:
    """Read an atlas' template, mask and labels as the arrays that the simulator takes."""
    labels = read_labels(atlas.labels)
    return Template(
        t1w=np.asarray(read_image(atlas.t1w).data, np.float32),
        brain_mask=np.asarray(read_image(atlas.brain_mask).data) > 0.5,
        labels=labels.data,
        affine=np.array(labels.grid.affine),
        regions=tuple((region.name, region.hemisphere, region.indices) for region in atlas.regions),
    )


class _Name(NamedTuple):
    """Folder and stem of a session's files: ``sub-01/ses-1/anat`` and ``sub-01_ses-1``."""

    folder: Path
    stem: str


def _write_session(out: Path, person: Person, session: Session, plan: BrainPlan, label: str | None) -> _Name:
    entities = [f"sub-{person.label}"] + ([f"ses-{label}"] if label else [])
    name = _Name(Path(*entities, "anat"), "_".join(entities))
    stem = out / name.folder / name.stem
    stem.parent.mkdir(parents=True, exist_ok=True)
    grid = Grid(session.magnitude.shape[1:], session.affine)
    part = "_part-mag" if session.phase_rad is not None else ""
    for echo, time in enumerate(plan.echo_times_s):
        sidecar = _megre_sidecar(plan, echo, time, grid)
        _write_whole(f"{stem}_echo-{echo + 1}{part}_MEGRE", session.magnitude[echo], grid, sidecar)
        if session.phase_rad is not None:
            path = f"{stem}_echo-{echo + 1}_part-phase_MEGRE"
            write_image(Path(f"{path}.nii.gz"), session.phase_rad[echo], grid)
            write_text_atomically(f"{path}.json", _json(sidecar | {"Units": "rad"}))
    if session.t1w is not None and session.t1w_affine is not None:
        t1w_grid = Grid(session.t1w.shape, session.t1w_affine)
        _write_whole(f"{stem}_T1w", session.t1w, t1w_grid, _t1w_sidecar(plan))
    return name


def _write_whole(stem: str, values: np.ndarray[Any, Any], grid: Grid, sidecar: Mapping[str, Any]) -> None:
    """Write an image as scanners do, in whole numbers, and its sidecar."""
    whole = np.rint(np.clip(values, 0, np.iinfo(np.int16).max)).astype(np.int16)
    write_image(Path(f"{stem}.nii.gz"), whole, grid, dtype=np.int16)
    write_text_atomically(f"{stem}.json", _json(sidecar))


def _megre_sidecar(plan: BrainPlan, echo: int, echo_time_s: float, grid: Grid) -> dict[str, Any]:
    return {
        "EchoTime": echo_time_s,
        "EchoNumber": echo + 1,
        "RepetitionTime": round(plan.echo_times_s[-1] + 0.011, 4),
        "FlipAngle": 15,
        "MagneticFieldStrength": plan.field_strength_tesla,
        "MRAcquisitionType": "3D",
        "SliceThickness": grid.voxel_size_mm[2],
        "PulseSequenceType": "spoiled multi-echo gradient echo",
        "Manufacturer": "none (simulated)",
        "SignalToNoiseRatio": plan.snr,
    }


def _t1w_sidecar(plan: BrainPlan) -> dict[str, Any]:
    return {
        "MagneticFieldStrength": plan.field_strength_tesla,
        "MRAcquisitionType": "3D",
        "SliceThickness": plan.t1w_mm,
        "Manufacturer": "none (simulated)",
        "SignalToNoiseRatio": T1W_SNR,
    }


def _write_truth(truth_dir: Path, name: _Name, session: Session) -> None:
    stem = truth_dir / name.folder / name.stem
    stem.parent.mkdir(parents=True, exist_ok=True)
    grid = Grid(session.b0_hz.shape, session.affine)
    write_image(Path(f"{stem}_R2starmap.nii.gz"), session.truth.r2star_per_s, grid)
    write_image(Path(f"{stem}_seg-truth_dseg.nii.gz"), session.truth.labels, grid, dtype=np.uint16)
    write_image(Path(f"{stem}_desc-brain_mask.nii.gz"), session.truth.brain_mask, grid, dtype=np.uint8)
    write_image(Path(f"{stem}_desc-B0_fieldmap.nii.gz"), session.b0_hz, grid)
    jacobian = [round(value, 4) for value in session.jacobian_range]
    sidecars: dict[str, dict[str, Any]] = {
        "R2starmap": {"Units": "1/s", "SkullStripped": True},
        "seg-truth_dseg": {"JacobianDeterminantRange": jacobian},
        "desc-brain_mask": {"Type": "Brain"},
        "desc-B0_fieldmap": {"Units": "Hz", "SkullStripped": False},
    }
    for suffix, sidecar in sidecars.items():
        write_text_atomically(f"{stem}_{suffix}.json", _json(sidecar))


def _truth_rows(person: Person, session: Session, label: str | None, atlas: Atlas) -> list[tuple[Any, ...]]:
    """One row for each region and hemisphere."""
    n_voxels = np.bincount(session.truth.labels.ravel(), minlength=session.volume_mm3.size)
    group = "patient" if person.patient else "control"
    return [
        (
            f"sub-{person.label}", f"ses-{label}" if label else "n/a", group, round(session.age_years, 2), atlas.name,
            region.name, region.hemisphere, "+".join(map(str, region.indices)), round(rate, 4),
            round(float(session.volume_mm3[list(region.indices)].sum()), 2),
            int(n_voxels[list(region.indices)].sum()),
        )
        for region, rate in zip(atlas.regions, session.r2star_by_region, strict=True)
    ]  # fmt: skip


def _write_dataset(
    out: Path, truth_dir: Path, atlas: Atlas, people: Sequence[Person], plan: BrainPlan, seed: int
) -> None:
    """Write what describes the two datasets: descriptions, README, participants, sessions and label names."""
    truth_dir.mkdir(parents=True, exist_ok=True)
    program = {
        "GeneratedBy": [{"Name": "r2star-simulate", "Version": __version__}],
        "BIDSVersion": BIDS_VERSION,
    }
    raw = {"Name": f"Simulated brains (seed {seed})", "DatasetType": "raw", "License": "CC0"}
    derivative = {"Name": "Planted truth of simulated brains", "DatasetType": "derivative", "License": "CC0"}
    write_text_atomically(out / "dataset_description.json", _json(raw | program))
    write_text_atomically(truth_dir / "dataset_description.json", _json(derivative | program))
    write_text_atomically(out / ".bidsignore", "truth.tsv\ntruth.json\n")
    write_text_atomically(truth_dir / ".bidsignore", "*_fieldmap.*\n")
    text = (
        f"Simulated brains, {__version__}, seed {seed}. No person was scanned.\n\n"
        "truth.tsv lists the planted R2* and the volume of each region; derivatives/truth holds the true maps.\n"
        f"SNR is white matter's signal at t = 0 (1000, mid coil) over the noise's standard deviation: {plan.snr:g}.\n"
    )
    for folder in (out, truth_dir):
        write_text_atomically(folder / "README", text)
    rows = [
        (f"sub-{one.label}", one.age_years, one.sex, "patient" if one.patient else "control")
        for one in people
    ]
    write_text_atomically(out / "participants.tsv", _table(("participant_id", "age", "sex", "group"), rows))
    write_text_atomically(out / "participants.json", _json(_PARTICIPANT_DESCRIPTIONS))
    names = [(index, name) for index, name in atlas.label_names().items()]
    write_text_atomically(truth_dir / "seg-truth_dseg.tsv", _table(("index", "name"), names))
    if plan.n_sessions > 1:
        _write_sessions(out, people, plan)


def _write_sessions(out: Path, people: Sequence[Person], plan: BrainPlan) -> None:
    """Write each participant's sessions.tsv: the age at each visit."""
    for person in people:
        folder = out / f"sub-{person.label}"
        folder.mkdir(exist_ok=True)
        rows = [
            (f"ses-{number + 1}", round(person.age_years + number * plan.interval_years, 2))
            for number in range(plan.n_sessions)
        ]
        write_text_atomically(
            folder / f"sub-{person.label}_sessions.tsv", _table(("session_id", "age"), rows)
        )
    write_text_atomically(
        out / "sessions.json", _json({"age": {"Description": "Age at the session", "Units": "year"}})
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, *rows]
    return "".join("\t".join(str(value) for value in line) + "\n" for line in lines)


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2) + "\n"
