"""The marker that publishing leaves tells what the steps took, each of their runs included."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r2star.bids.units import Unit
from r2star.runs.records import read_marker
from r2star.steps.publish import publish_unit


def test_time_of_a_step_that_runs_twice_is_that_of_both(tmp_path: Path) -> None:
    took = [("fit_maps", 2.5, 1.0), ("fit_maps", 4.25, 0.5), ("resample_labels", 0.125, 0.25)]
    records = []
    for number, (step, seconds, memory) in enumerate(took):
        told = {"step": step, "seconds": seconds, "peak_memory_gib": memory, "notices": []}
        records.append(tmp_path / f"{number}.json")
        records[-1].write_text(json.dumps(told))
    out = tmp_path / "out"
    publish_unit(Unit("01"), (), (), tuple(records), str(out), str(tmp_path), "{}", "key", tmp_path)
    marker = read_marker(out, "sub-01")
    assert marker is not None
    assert marker.timing == pytest.approx(
        {"fit_maps_s": 6.75, "resample_labels_s": 0.125, "total_s": 6.875, "peak_memory_gib": 1.0}
    )
