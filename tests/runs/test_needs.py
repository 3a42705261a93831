"""What a batch job asks for: more for larger data, by what was measured once there is something measured."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from r2star.runs import needs
from r2star.runs.needs import UnitNeeds


def test_sizes_are_those_of_the_unpacked_images(tmp_path: Path) -> None:
    plain, packed, cut = (tmp_path / name for name in ("a.nii", "b.nii.gz", "c.nii.gz"))
    values = np.random.default_rng(1).integers(0, 9, 1_000_000).astype(np.int16).tobytes()
    plain.write_bytes(values)
    packed.write_bytes(gzip.compress(values))
    assert needs.unpacked_gib([plain, packed]) == 2 * len(values) / 1024**3
    cut.write_bytes(packed.read_bytes()[:-1000] + b"\xff\xff\xff\xff")  # says that it unpacks to 4 GiB
    assert needs.unpacked_gib([plain, packed, cut]) == 3 * len(values) / 1024**3
    assert needs.unpacked_gib([tmp_path / "none.nii.gz"]) == 0


def test_a_guess_grows_with_the_data_and_shrinks_without_registration() -> None:
    small, large = (needs.guess_unit(size, fit_only=False) for size in (0.1, 1.0))
    assert large.memory_gib > small.memory_gib
    assert large.seconds > small.seconds
    assert needs.guess_unit(0.1, fit_only=True).memory_gib < small.memory_gib


def test_the_most_that_was_measured_counts_in_proportion_to_larger_data() -> None:
    measured = [UnitNeeds(100.0, 1.0, 0.5), UnitNeeds(50.0, 2.0, 0.25)]
    same = needs.measured_unit(measured, 0.4)
    assert (same.seconds, same.memory_gib) == (200.0, pytest.approx(2.6))
    double = needs.measured_unit(measured, 1.0)
    assert (double.seconds, double.memory_gib) == (400.0, pytest.approx(5.2))


def test_a_job_has_room_for_as_many_units_as_run_at_a_time() -> None:
    unit = UnitNeeds(300.0, 1.0, 0.1)
    one, two = needs.job_needs([[unit]], 2), needs.job_needs([[unit], [unit] * 3], 2)
    assert one == needs.Needs(1792, 10)  # 0.7 + 1 GiB in steps of 256 MiB
    assert two == needs.Needs(2816, 16)  # two units in memory, three one after the other
