"""The macroscopic field against the analytic field of a sphere, and where it must be strong in a head."""

from __future__ import annotations

import numpy as np
import pytest

from r2star.simulate.field import air_fraction, dipole_field, macroscopic_field


@pytest.mark.parametrize("direction", [(0.0, 0.0, 1.0), (0.6, 0.0, 0.8)])
def test_sphere(direction: tuple[float, float, float]):
    # outside: χ/3·(a/r)³·(3cos²θ − 1), inside 0, all relative to B0
    n, radius, chi = 72, 10.0, 9.0
    grid = np.indices((n, n, n), dtype=float) - (n - 1) / 2
    r = np.sqrt((grid**2).sum(axis=0))
    fine = np.clip(radius - r + 0.5, 0, 1)
    volume = fine.sum()
    field = dipole_field(chi * fine, direction)
    cosine = np.tensordot(direction, grid, 1) / r
    cubed = volume * 3 / (4 * np.pi)
    expected = chi / 3 * cubed / r**3 * (3 * cosine**2 - 1)
    shell = (r > 15) & (r < 28)
    assert np.abs(field - expected)[shell].max() < 0.03 * np.abs(expected[shell]).max()
    assert np.abs(field[r < 7]).max() < 0.02 * chi


def test_air_lies_outside_in_the_sinuses_and_not_in_the_brain(template):
    air = air_fraction(template)
    assert air[template.brain_mask].max() == 0
    at = lambda x, y, z: air[x + 96, y + 132, z + 78]  # noqa: E731
    assert at(-90, 0, 40) == 1
    assert at(8, 40, -40) == 1  # nose
    assert at(45, -25, -38) == at(-45, -25, -38) == 1  # cells of the temporal bones
    assert at(0, -20, 60) == 0  # brain
    assert at(0, -108, 5) == 0  # bone of the occiput is not air


def test_head_is_disturbed_over_the_sinuses_and_calm_in_the_deep_grey_matter(template):
    field = macroscopic_field(template)
    coarse = np.linalg.inv(field.affine)
    at = lambda x, y, z: field.ppm[tuple(np.rint(coarse @ [x, y, z, 1])[:3].astype(int))]  # noqa: E731
    assert at(0, 30, -22) > 0.5  # above the sphenoid sinus: 64 Hz and more at 3 T
    assert abs(at(-26, 0, 0)) < 0.12  # putamen
    assert abs(at(-25, -25, 45)) < 0.12
    # shimmed: little is left in the mean
    index = tuple(
        np.rint(coarse @ np.vstack([template.affine[:3] @ _brain_points(template), np.ones(2000)]))[
            :3
        ].astype(int)
    )
    assert abs(field.ppm[index].mean()) < 0.02
    assert 0.05 < field.ppm[index].std() < 0.4


def _brain_points(template):
    points = np.argwhere(template.brain_mask).T
    chosen = np.random.default_rng(1).choice(points.shape[1], 2000, replace=False)
    return np.vstack([points[:, chosen], np.ones(2000)])
