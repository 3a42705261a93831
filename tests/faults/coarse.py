"""A whole head that takes seconds: the template in coarse voxels, a little moved, with an atlas as coarse."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from r2star.atlas import load_atlas

ECHO_TIMES_S = (0.004, 0.010, 0.018)
#: Voxels of the packaged template that make one, along each axis; odd, so that one of them is in the middle.
FACTOR = 7
REGIONS = {"putamen": (1, 101), "caudate": (2, 102), "thalamus": (23, 123)}
MOVED_MM = (2.5, -1.5, 2.0)


def _coarse(path: Path, *, labels: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Means of blocks, or the labels in their middles, and the affine."""
    image = nib.load(path)
    shape = [size // FACTOR for size in image.shape]
    values = np.asarray(image.dataobj)[tuple(slice(size * FACTOR) for size in shape)]
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.full(3, FACTOR // 2)
    affine[:3, :3] *= FACTOR
    if labels:
        middle = slice(FACTOR // 2, None, FACTOR)
        return values[middle, middle, middle], affine
    x, y, z = shape
    return values.reshape(x, FACTOR, y, FACTOR, z, FACTOR).mean(axis=(1, 3, 5)), affine


def write_atlas(folder: Path) -> Path:
    """The packaged atlas in coarse voxels; returns its description."""
    atlas = load_atlas("CIT168")
    folder.mkdir(parents=True)
    labels, affine = _coarse(atlas.labels, labels=True)
    head, mask = _coarse(atlas.t1w)[0], _coarse(atlas.brain_mask)[0] > 0.5
    for name, values in (
        ("labels", labels),
        ("t1w", head.astype(np.float32)),
        ("mask", mask.astype(np.uint8)),
    ):
        nib.save(nib.Nifti1Image(values, affine), folder / f"{name}.nii.gz")
    lines = ['name = "Coarse"', f'space = "{atlas.space}"', "[files]"]
    lines += ['labels = "labels.nii.gz"', 't1w = "t1w.nii.gz"', 'brain_mask = "mask.nii.gz"']
    for name, (left, right) in REGIONS.items():
        lines += ["[[region]]", f'name = "{name}"', f"left = [{left}]", f"right = [{right}]"]
    description = folder / "coarse.toml"
    description.write_text("\n".join(lines) + "\n")
    return description


def write_head(bids: Path, label: str, moved_mm: tuple[float, float, float] = MOVED_MM) -> Path:
    """A participant whose head is the template's, the same for every label; returns its ``anat`` folder."""
    atlas, rng = load_atlas("CIT168"), np.random.default_rng(1)
    folder = bids / f"sub-{label}" / "anat"
    folder.mkdir(parents=True)
    description = {"Name": "coarse", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (bids / "dataset_description.json").write_text(json.dumps(description))
    head, affine = _coarse(atlas.t1w)
    labels, _ = _coarse(atlas.labels, labels=True)
    affine[:3, 3] += moved_mm
    rate = np.where(labels > 0, 35.0, 18.0) * rng.uniform(0.95, 1.05, head.shape)
    for number, time in enumerate(ECHO_TIMES_S, start=1):
        values = 1000 * head / head.max() * np.exp(-rate * time) + np.abs(rng.normal(0, 2, head.shape))
        stem = folder / f"sub-{label}_echo-{number}_MEGRE"
        nib.save(nib.Nifti1Image(values.astype(np.float32), affine), f"{stem}.nii.gz")
        stem.with_suffix(".json").write_text(json.dumps({"EchoTime": time, "MagneticFieldStrength": 3}))
    return folder
