"""Measures against hand-made cases, and verdicts that follow the worst of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from r2star.images import Grid, Image
from r2star.register import measures
from r2star.register.measures import Thresholds, explain, judge_registration
from r2star.register.transforms import Affine

ATLAS = {("putamen", "L"): 1000.0, ("putamen", "R"): 1000.0, ("caudate", "L"): 800.0, ("caudate", "R"): 700.0}


def test_the_worst_measure_decides() -> None:
    good = {"box_similarity": 0.9, "jacobian_min": 0.5, "jacobian_max": 2.0}
    limits = Thresholds(box_similarity=(0.5, 0.3), jacobian_max=(4.0, 8.0))
    assert judge_registration(good, limits) == "pass"
    assert judge_registration(good | {"jacobian_max": 5.0}, limits) == "doubtful"
    assert judge_registration(good | {"jacobian_max": 5.0, "box_similarity": 0.2}, limits) == "fail"
    assert judge_registration(good | {"jacobian_max": np.inf}, limits) == "fail"
    verdicts = {name: verdict for name, _, verdict in explain(good | {"jacobian_max": 5.0}, limits)}
    assert verdicts == {"box_similarity": "pass", "jacobian_min": "pass", "jacobian_max": "doubtful"}


def test_local_correlation_is_blind_to_bias_and_sign_but_not_to_place() -> None:
    rng = np.random.default_rng(2)
    image = gaussian_filter(rng.normal(size=(30, 30, 30)), 1.5)
    where = np.ones(image.shape, bool)
    same = measures.local_correlation(image, 7 - 3 * image, where)
    assert same == pytest.approx(1, abs=1e-6)
    assert measures.local_correlation(image, np.roll(image, 6, axis=0), where) < 0.15
    assert measures.local_correlation(image, rng.normal(size=image.shape), where) < 0.05


def test_volumes_over_a_common_ratio() -> None:
    grown = {key: 1.2 * size for key, size in ATLAS.items()}
    even = measures.volume_measures(grown, ATLAS)
    assert even["volume_ratio_common"] == pytest.approx(1.2)
    assert even["volume_ratio_min"] == even["volume_ratio_max"] == pytest.approx(1)
    assert even["asymmetry_max"] == pytest.approx(0)
    grown["putamen", "L"] = 600.0
    uneven = measures.volume_measures(grown, ATLAS)
    assert uneven["volume_ratio_min"] == pytest.approx(0.5)
    assert uneven["asymmetry_max"] == pytest.approx(np.log(2), rel=1e-4)


def test_no_volume_at_all_fails() -> None:
    assert judge_registration(measures.volume_measures({}, ATLAS)) == "fail"


def test_a_mirroring_affine_fails() -> None:
    found = measures.scale_measures(np.diag([-1.0, 1.1, 0.9, 1.0]))
    assert found["affine_scale_max"] == pytest.approx(1.1)
    assert found["affine_scale_min"] == pytest.approx(-0.9)
    assert judge_registration(found) == "fail"


def test_a_registration_off_its_peak_has_no_contrast() -> None:
    rng = np.random.default_rng(5)
    affine = np.diag([3.0, 3, 3, 1])
    grid = Grid((40, 40, 40), affine)
    data = gaussian_filter(rng.normal(size=grid.shape), 1.5).astype(np.float32)
    mask = np.zeros(grid.shape, np.float32)
    mask[8:-8, 8:-8, 8:-8] = 1
    right = measures.rigid_measures(
        Image(data, grid), Image(-data, grid), Image(mask, grid), [Affine(np.eye(4))]
    )
    aside = np.eye(4)
    aside[0, 3] = 9
    wrong = measures.rigid_measures(Image(data, grid), Image(-data, grid), Image(mask, grid), [Affine(aside)])
    assert right["peak_contrast"] > 0.5
    assert wrong["peak_contrast"] < 0
    assert right["coverage"] == 1
    assert judge_registration(right) == "pass"
    assert judge_registration(wrong) == "fail"


def test_correlation_with_a_sign_tells_inverted_contrast() -> None:
    rng = np.random.default_rng(2)
    image = gaussian_filter(rng.normal(size=(30, 30, 30)), 1.5)
    where = np.ones(image.shape, bool)
    assert measures.local_correlation(image, 2 * image + 3, where, signed=True) == pytest.approx(1, abs=1e-6)
    assert measures.local_correlation(image, 7 - image, where, signed=True) == pytest.approx(-1, abs=1e-6)
    assert abs(measures.local_correlation(image, rng.normal(size=image.shape), where, signed=True)) < 0.1
    assert judge_registration({"contrast": -0.3}, measures.T1W_TO_TEMPLATE) == "fail"
    assert judge_registration({"contrast": -0.3}, measures.MEGRE_TO_TEMPLATE) == "pass"


def test_a_misplaced_head_without_a_t1w_fails() -> None:
    """Half a head and a sphere, as they were measured; and a good head whose tissue shows no contrast."""
    for box, brain in ((0.15, 0.18), (0.14, 0.21)):
        wrong = {"box_similarity": box, "brain_similarity": brain}
        assert judge_registration(wrong, measures.MEGRE_TO_TEMPLATE) == "fail"
    flat = {"box_similarity": 0.17, "brain_similarity": 0.23}
    assert judge_registration(flat, measures.MEGRE_TO_TEMPLATE) == "doubtful"


def seen_by(data: np.ndarray, measure: str = "side_balance") -> float:
    """How evenly an image shows a brain of 41 × 40 × 40 voxels of 3 mm."""
    affine = np.diag([3.0, 3, 3, 1])
    affine[:3, 3] = [-60.0, 0, 0]
    brain = Image(np.ones((41, 40, 40), np.float32), Grid((41, 40, 40), affine))
    shape = (data.shape[0], data.shape[1], data.shape[2])
    image = Image(data.astype(np.float32), Grid(shape, affine))
    return measures.balance_measures(image, brain, [Affine(np.eye(4))])[measure]


def test_half_a_head_is_uneven() -> None:
    rng = np.random.default_rng(4)
    whole = 100 + 10 * rng.normal(size=(41, 40, 40))
    assert seen_by(whole) == pytest.approx(1, abs=0.02)
    noise = np.where(np.arange(41)[:, None, None] < 20, whole, 6 * rng.rayleigh(size=whole.shape))
    assert seen_by(noise) < 0.1
    assert seen_by(whole[:22]) < 0.15  # the view ends beside the middle
    assert seen_by(np.zeros_like(whole)) == 0
    assert judge_registration({"side_balance": seen_by(noise)}) == "fail"
    # half of the putamen's distance from the middle to the side is cut off: told, and its region's coverage says more
    assert judge_registration({"side_balance": seen_by(whole[:29])}) == "doubtful"
    assert seen_by(whole[:, :, :15]) == pytest.approx(1, abs=0.02)  # a slab


@pytest.mark.parametrize("axis", [1, 2])
def test_half_a_head_is_missing_in_front_or_above(axis: int) -> None:
    """Blanked inside the view; where the view ends there is nothing to tell, for a slab is no fault."""
    whole = 100 + 10 * np.random.default_rng(4).normal(size=(41, 40, 40))
    along = np.moveaxis(np.broadcast_to(np.arange(40)[:, None, None], (40, 41, 40)), 0, axis)
    assert seen_by(whole, "half_balance") == pytest.approx(1, abs=0.02)
    for kept in (along < 20, along >= 20):
        half = seen_by(np.where(kept, whole, 0), "half_balance")
        assert judge_registration({"half_balance": half}) == "fail"
    assert seen_by(np.take(whole, range(20), axis=axis), "half_balance") == pytest.approx(1, abs=0.02)
    slab = np.where((along >= 8) & (along < 30), whole, 0)  # zeros around a slab that lies a little low
    assert seen_by(slab, "half_balance") > 0.6
    assert seen_by(np.zeros_like(whole), "half_balance") == 0
