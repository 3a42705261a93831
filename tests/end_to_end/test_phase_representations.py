"""Phase as it comes from scanners, through the command line: each way of storing it gives the same field and bias."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_erosion

Run = Callable[..., subprocess.CompletedProcess[str]]
#: Acquisition label → the unit that must be recognised.
UNITS = {"radians": "radians", "signed": "-4096..4094", "unsigned": "0..4095", "parts": "radians"}
STORED = {
    "signed": lambda radians: 2 * np.clip(np.floor(radians / np.pi * 2048), -2048, 2047),
    "unsigned": lambda radians: np.clip(np.floor((radians / np.pi + 1) * 2048), 0, 4095),
}


class Dataset:
    """One simulated brain, stored anew as further acquisitions of the same participant."""

    def __init__(self, bids: Path) -> None:
        self.bids, self.folder = bids, bids / "sub-01/anat"
        self.echoes = sorted(self.folder.glob("*_part-phase_MEGRE.nii.gz"))

    def add(self, label: str, phase: Path, part: str, values: np.ndarray, units: str | None) -> None:
        """Write one image of an echo, with the sidecar of its phase but for the units."""
        sidecar = json.loads(Path(str(phase).replace(".nii.gz", ".json")).read_text())
        sidecar["Units"] = units
        name = phase.name.replace("sub-01_", f"sub-01_acq-{label}_").replace("part-phase", f"part-{part}")
        integers = label in STORED and part == "phase"
        image = nib.Nifti1Image(values.astype(np.int16 if integers else np.float32), nib.load(phase).affine)
        nib.save(image, self.folder / name)
        known = {key: value for key, value in sidecar.items() if value is not None}
        (self.folder / name.replace(".nii.gz", ".json")).write_text(json.dumps(known))

    def add_acquisition(
        self, label: str, stored: Callable[[np.ndarray], np.ndarray], units: str | None
    ) -> None:
        for phase in self.echoes:
            magnitude = nib.load(str(phase).replace("part-phase", "part-mag")).get_fdata()
            self.add(label, phase, "mag", magnitude, None)
            self.add(label, phase, "phase", stored(nib.load(phase).get_fdata()), units)

    def add_parts(self, label: str) -> None:
        for phase in self.echoes:
            magnitude = nib.load(str(phase).replace("part-phase", "part-mag")).get_fdata()
            value = magnitude * np.exp(1j * nib.load(phase).get_fdata())
            self.add(label, phase, "real", value.real, None)
            self.add(label, phase, "imag", value.imag, None)

    def remove_original(self) -> None:
        for path in self.folder.glob("sub-01_echo-*"):
            path.unlink()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, r2star: Run) -> Dataset:
    """The brain in four representations, and twice with a phase that no unit explains."""
    bids = tmp_path_factory.mktemp("phase") / "bids"
    made = r2star("simulate", "brain", bids, "--participants", 1, "--small", "--phase", "--seed", 3)
    assert made.returncode == 0, made.stderr
    brain = Dataset(bids)
    brain.add_acquisition("radians", lambda radians: radians, "rad")
    for label, stored in STORED.items():
        brain.add_acquisition(label, stored, "arbitrary")
    brain.add_parts("parts")
    brain.add_acquisition("contradicted", lambda radians: 100 * radians, "rad")
    brain.add_acquisition("unscaled", lambda radians: 700 + 500 * radians, None)
    brain.remove_original()
    return brain


@pytest.fixture(scope="module")
def out(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory, r2star: Run) -> Path:
    """What `--field-gradient report`, the default, makes of the four."""
    root = tmp_path_factory.mktemp("reported")
    done = r2star(
        "app", dataset.bids, root / "out", "participant", "-w", root / "work", "--nprocs", 2, "--sloppy",
        "--bids-filter-file", chosen(root, *UNITS),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return root / "out"


def chosen(folder: Path, *labels: str) -> Path:
    """A filter file for some of the acquisitions."""
    path = folder / "filter.json"
    path.write_text(json.dumps({"megre": {"acquisition": list(labels)}}))
    return path


def read_map(out: Path, label: str, name: str) -> np.ndarray:
    (path,) = out.glob(f"sub-01/*/sub-01_acq-{label}_{name}.nii.gz")
    return nib.load(path).get_fdata()


def surrounded(field: np.ndarray) -> np.ndarray:
    """Where all 26 neighbours are known: at the rim of the brain the plane's fit hangs on the mask."""
    known = np.isfinite(field.reshape(*field.shape[:3], -1)).all(axis=-1)
    inner = binary_erosion(known, np.ones((3, 3, 3)))
    return np.broadcast_to(inner.reshape(*inner.shape, *[1] * (field.ndim - 3)), field.shape)


def bias_by_region(out: Path, label: str) -> dict[tuple[str, str], float]:
    path = out / f"sub-01/anat/sub-01_acq-{label}_atlas-CIT168_desc-R2star_stats.tsv"
    with path.open() as handle:
        rows = [row for row in csv.DictReader(handle, delimiter="\t") if row["segmentation"] == "CIT168"]
    return {(row["region"], row["hemisphere"]): float(row["gradient_bias_per_s"]) for row in rows}


@pytest.mark.parametrize(("label", "unit"), UNITS.items())
def test_the_unit_is_recognised_and_recorded(out: Path, label: str, unit: str) -> None:
    (path,) = out.glob(f"sub-01/fmap/sub-01_acq-{label}_desc-B0_fieldmap.json")
    assert json.loads(path.read_text())["PhaseUnit"]["name"] == unit


@pytest.mark.parametrize("label", list(UNITS)[1:])
def test_every_representation_gives_the_same_field_and_the_same_bias(out: Path, label: str) -> None:
    for name in ("B0", "gradient"):
        one, other = (read_map(out, each, f"desc-{name}_fieldmap") for each in ("radians", label))
        noise = read_map(out, "radians", f"desc-{name}stderr_fieldmap")
        both = surrounded(one) & surrounded(other)
        assert both.sum() > 0.8 * np.isfinite(one).sum()
        # 4096 steps in a cycle scatter by 0.00044 rad, noise at SNR 60 by 0.017 rad and more
        assert np.sqrt(np.mean(((other - one)[both] / noise[both]) ** 2)) < 0.05
    reference, found = bias_by_region(out, "radians"), bias_by_region(out, label)
    assert max(reference.values()) > 0.3
    for region, bias_per_s in reference.items():
        assert found[region] == pytest.approx(bias_per_s, abs=0.02)


def test_a_correction_is_refused_where_no_unit_explains_the_phase(
    dataset: Dataset, tmp_path: Path, r2star: Run
) -> None:
    done = r2star(
        "app", dataset.bids, tmp_path / "out", "participant", "-w", tmp_path / "work", "--nprocs", 2,
        "--sloppy", "--field-gradient", "correct",
        "--bids-filter-file", chosen(tmp_path, "contradicted", "unscaled"),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    assert len(lines) == 2, done.stderr
    for label, code in (("contradicted", "E360"), ("unscaled", "E361")):
        (line,) = [line for line in lines if f"R2S-{code}" in line]
        assert f"acq-{label}" in line
        assert "part-phase_MEGRE.nii.gz" in line
    assert not list((tmp_path / "out").glob("sub-01/**/*.nii.gz"))
