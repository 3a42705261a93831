"""Painted tissue: R2* by age as published, shares of tissue, and nuclei that stand out as they should."""

from __future__ import annotations

import numpy as np
import pytest

from r2star.simulate.anatomy import at_field, expected_r2star, paint_template, tissue_fractions

# Reference R2* at 3 T of healthy adults, 1/s, a little widened for the ages 30–70
REFERENCE_PER_S = {
    "pallidum": (34, 42), "putamen": (24, 31.5), "caudate": (20, 26), "thalamus": (18, 21.5),
    "red_nucleus": (30, 37), "substantia_nigra": (30, 38),
}  # fmt: skip


@pytest.mark.parametrize("region", REFERENCE_PER_S)
def test_healthy_values_lie_in_the_reference_range(region: str):
    low, high = REFERENCE_PER_S[region]
    for age in (30, 50, 70):
        assert low <= expected_r2star(region, age) <= high


def test_iron_by_age_is_hallgren_and_sourander():
    # mg per 100 g of fresh tissue at 30 years: 21.41(1 − e^−2.7) + 0.37 and 14.62(1 − e^−1.2) + 0.46
    assert expected_r2star("pallidum", 30) == pytest.approx(
        14.9 + 0.109 * 10 * (21.41 * (1 - np.exp(-2.7)) + 0.37)
    )
    assert expected_r2star("putamen", 30) == pytest.approx(
        14.9 + 0.109 * 10 * (14.62 * (1 - np.exp(-1.2)) + 0.46)
    )


def test_patients_differ_where_the_study_found_it():
    excess = {
        name: expected_r2star(name, 45, patient=True) - expected_r2star(name, 45) for name in REFERENCE_PER_S
    }
    assert excess["pallidum"] == excess["substantia_nigra"] == 0
    assert excess["putamen"] == pytest.approx(8 * 0.12 + 3 * 0.5)
    assert min(excess[name] for name in ("caudate", "putamen", "thalamus", "red_nucleus")) > 0.5


def test_field_dependence_is_affine_and_neutral_at_3_tesla():
    assert at_field(30.0, 3.0) == 30.0
    at = [at_field(30.0, b) for b in (1.5, 3.0, 7.0)]
    assert (at[1] - at[0]) / 1.5 == pytest.approx((at[2] - at[1]) / 4.0)
    assert at[0] > 15.0


def test_fractions_add_up():
    fractions = tissue_fractions(np.linspace(0, 99, 200, dtype=np.float32))
    np.testing.assert_allclose(sum(fractions.values()), 1.0, atol=1e-6)
    assert all((share >= 0).all() and (share <= 1).all() for share in fractions.values())


def test_template_is_painted_with_each_region_flat_and_air_empty(template):
    tissue = paint_template(template, age_years=40)
    for name, _, indices in template.regions:
        values = tissue.r2star_per_s[np.isin(template.labels, indices)]
        np.testing.assert_allclose(values, expected_r2star(name, 40), rtol=1e-6)
    assert np.all(tissue.s0[:20, :20, 100:] == 0)
    assert np.isfinite(tissue.s0).all()
    assert np.isfinite(tissue.r2star_per_s).all()
    # white matter of the corona radiata, a ventricle and air of the nose, by world position
    voxel = {name: tuple(np.add(xyz, (96, 132, 78))) for name, xyz in
             {"white": (-26, -20, 32), "ventricle": (-10, -2, 20), "nose": (8, 40, -40)}.items()}  # fmt: skip
    assert tissue.r2star_per_s[voxel["white"]] == pytest.approx(21, abs=1.5)
    assert tissue.s0[voxel["white"]] == pytest.approx(1, abs=0.03)
    assert tissue.r2star_per_s[voxel["ventricle"]] == 2.5
    assert tissue.s0[voxel["nose"]] == 0
