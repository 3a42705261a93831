"""Fixtures that every test may use. The one place that knows where data outside the repository lie."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

SHARED_DATA = Path(os.environ.get("R2STAR_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
ECHO_TIMES_S = (0.005, 0.010, 0.018)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data for tests; skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data at {SHARED_DATA} (set R2STAR_TEST_DATA)")
    return SHARED_DATA


@pytest.fixture(scope="session")
def r2star() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command of the program in a process of its own: ``r2star("app", BIDS, OUT, "participant", ...)``."""

    def run(command: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        code = f"import sys; from r2star.cli.{command} import main; sys.exit(main())"
        words = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, timeout=1200, check=False, **options)

    return run


@pytest.fixture(scope="session")
def bids_errors() -> Callable[[Path], list[Any]]:
    """Errors that the BIDS validator finds in a dataset; skips where the validator is not installed."""
    validator = shutil.which("bids-validator-deno")
    if validator is None:
        pytest.skip("bids-validator-deno is not installed")

    def validate(folder: Path) -> list[Any]:
        words, environment = [validator, "--format", "json", str(folder)], os.environ | {"NO_COLOR": "1"}
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, env=environment, timeout=300
        )
        report = json.loads(done.stdout)
        assert report["summary"]["totalFiles"] > 0
        return [issue for issue in report["issues"]["issues"] if issue["severity"] == "error"]

    return validate


@pytest.fixture(scope="session")
def write_participant() -> Callable[..., Path]:
    """Write a participant of a few voxels with a known decay into a BIDS dataset; returns its folder."""

    def write(
        bids_dir: Path, label: str = "01", *, shape: tuple[int, ...] = (6, 5, 4), r2star: float = 30.0
    ) -> Path:
        folder = bids_dir / f"sub-{label}" / "anat"
        folder.mkdir(parents=True)
        description = {"Name": "tiny", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
        (bids_dir / "dataset_description.json").write_text(json.dumps(description))
        rng = np.random.default_rng(int.from_bytes(label.encode()))
        s0 = rng.uniform(800, 1200, shape)
        affine = np.diag([2.0, 2.0, 3.0, 1.0])
        for number, time in enumerate(ECHO_TIMES_S, start=1):
            stem = folder / f"sub-{label}_echo-{number}_MEGRE"
            values = (s0 * np.exp(-r2star * time) + rng.normal(0, 2, shape)).astype(np.float32)
            nib.save(nib.Nifti1Image(values, affine), f"{stem}.nii.gz")
            stem.with_suffix(".json").write_text(json.dumps({"EchoTime": time, "MagneticFieldStrength": 3}))
        return folder

    return write
