"""A template, and one small simulated dataset that several tests read."""

from __future__ import annotations

from pathlib import Path

import pytest

from r2star.atlas import load_atlas
from r2star.simulate import BrainPlan
from r2star.steps.simulate import read_template, write_brains

QUICK = BrainPlan(
    echo_times_s=(0.004, 0.009, 0.016, 0.025), resolution_mm=(2.0, 2.0, 3.0), t1w_mm=3.0, snr=80.0, phase=True
)


@pytest.fixture(scope="session")
def template():
    return read_template(load_atlas("CIT168"))


@pytest.fixture(scope="session")
def quick_plan() -> BrainPlan:
    return QUICK


@pytest.fixture(scope="session")
def quick_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("brains") / "bids"
    out.mkdir()
    write_brains(out, QUICK, n_participants=2, seed=7)
    return out
