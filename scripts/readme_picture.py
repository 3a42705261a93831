"""The picture of the README, from a simulated participant and what r2star made of it.

``r2star-simulate brain study --participants 1 --seed 1 && r2star study out participant``, then
``python scripts/readme_picture.py study out``. Imports nibabel and matplotlib.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np

PICTURE = Path(__file__).parents[1] / "docs" / "_static" / "what-you-get.png"


def main(study: Path, out: Path) -> None:
    """Draw one slice of the images, the maps and the regions."""
    anat = f"{out}/sub-01/anat/sub-01"
    names = (
        f"{study}/sub-01/anat/sub-01_echo-1_MEGRE.nii.gz",
        f"{anat}_R2starmap.nii.gz",
        f"{anat}_desc-stderr_R2starmap.nii.gz",
        f"{anat}_atlas-CIT168_dseg.nii.gz",
    )
    images = [nib.as_closest_canonical(nib.load(name)) for name in names]
    magnitude, r2star, stderr, labels = (image.get_fdata() for image in images)
    k = int(np.argmax((labels > 0).sum(axis=(0, 1))))
    top = float(np.percentile(magnitude, 99.5))
    shown = (
        (magnitude, "first echo", top),
        (r2star, "R2* (0–60 / s)", 60),
        (stderr, "its standard error (0–3 / s)", 3),
        (r2star, "regions", 60),
    )
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.9), facecolor="black", layout="constrained")
    for axis, (image, title, high) in zip(axes, shown, strict=True):
        axis.imshow(image[..., k].T, origin="lower", cmap="gray", vmin=0, vmax=high)
        axis.set_title(title, color="white", fontsize=11)
        axis.axis("off")
    regions = np.ma.masked_equal(labels[..., k] % 100, 0)
    axes[3].imshow(regions.T, origin="lower", cmap="tab20", alpha=0.75, interpolation="nearest")
    figure.savefig(PICTURE, dpi=90, metadata={"Software": None})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
