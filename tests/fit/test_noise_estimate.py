"""The scale of the noise, from air, from residuals, or from nothing."""

from __future__ import annotations

import numpy as np
import pytest

from r2star.fit import estimate_noise_sigma, noise


def head(sigma: float, n_echoes: int, n_coils: int = 1, seed: int = 0) -> np.ndarray:
    """A ball of tissue in air, (30, 30, 30, E)."""
    rng = np.random.default_rng(seed)
    grid = np.mgrid[-15:15, -15:15, -15:15] + 0.5
    inside = np.sum(grid**2, axis=0) < 100
    times = np.arange(1, n_echoes + 1) * 0.004
    clean = np.where(inside, rng.uniform(300, 900, inside.shape), 0)[..., None] * np.exp(-30 * times)
    noise = rng.normal(0, sigma, (*clean.shape, 2 * n_coils))
    noise[..., 0] += clean
    return np.linalg.norm(noise, axis=-1)


@pytest.mark.parametrize(("n_echoes", "n_coils"), [(2, 1), (6, 1), (6, 4)])
def test_noise_is_read_from_the_background(n_echoes: int, n_coils: int) -> None:
    image = head(13.0, n_echoes, n_coils)
    times = np.arange(1, n_echoes + 1) * 0.004
    for scale in (1.0, 1e-6):
        estimate = estimate_noise_sigma(image * scale, times, n_coils=n_coils)
        assert estimate.source == "background"
        assert estimate.sigma == pytest.approx(13.0 * scale, rel=0.01)
        assert estimate.n_voxels > 20_000


def test_a_zeroed_background_tells_nothing_and_residuals_do() -> None:
    image = head(13.0, 6)
    times = np.arange(1, 7) * 0.004
    tissue = image[..., 0] > 150
    zeroed = np.where(tissue[..., None], image, 0)
    estimate = estimate_noise_sigma(zeroed, times)
    assert estimate.source == "residuals"
    assert estimate.sigma == pytest.approx(13.0, rel=0.05)
    half = image.copy()
    half[:, :10] = 0  # a defaced part
    assert estimate_noise_sigma(half, times).sigma == pytest.approx(13.0, rel=0.01)
    nothing = estimate_noise_sigma(zeroed[..., :2], times[:2])
    assert nothing.source == "none"
    assert np.isnan(nothing.sigma)


def test_a_mask_says_where_there_is_air() -> None:
    image, times = head(13.0, 6), np.arange(1, 7) * 0.004
    image[:, :4] *= 5 / 13  # the mask leaves nothing else
    mask = np.ones(image.shape[:-1], np.uint8)
    mask[:, :4] = 0
    estimate = estimate_noise_sigma(image, times, mask=mask)
    assert (estimate.source, estimate.n_voxels > 3000) == ("background", True)
    assert estimate.sigma == pytest.approx(5.0, rel=0.02)


def test_voxels_that_were_not_measured_tell_nothing_of_the_noise() -> None:
    """Neither those that are no numbers, nor any number of zeros beside a little air."""
    image, times = head(13.0, 6).reshape(-1, 6), np.arange(1, 7) * 0.004
    odd = np.tile(image[:4], (25, 1))
    odd[:50, 2], odd[50:, 4] = np.nan, np.inf
    assert estimate_noise_sigma(np.concatenate([image, odd]), times) == estimate_noise_sigma(image, times)
    few = image[np.argsort(image[:, 0])[::20]]
    known = estimate_noise_sigma(few, times)
    assert known.source == "background"
    assert known.sigma == pytest.approx(13.0, rel=0.03)
    assert estimate_noise_sigma(np.concatenate([few, np.zeros((300_000, 6))]), times) == known


def test_one_odd_voxel_does_not_hide_the_noise() -> None:
    """A voxel of nearly nothing, whose square is nothing, and one far brighter than all others."""
    image, times = head(13.0, 6).reshape(-1, 6), np.arange(1, 7) * 0.004
    for value in (1e-200, 1e-30, 1e5):
        estimate = estimate_noise_sigma(np.concatenate([image, np.full((1, 6), value)]), times)
        assert estimate == estimate_noise_sigma(image, times)


def test_noise_of_a_large_image_is_that_of_voxels_at_an_even_stride(monkeypatch: pytest.MonkeyPatch) -> None:
    image, times = head(13.0, 6), np.arange(1, 7) * 0.004
    image[15:] = 0  # what lies beyond a share of the voxels is looked at as well
    image[:5] *= 40
    monkeypatch.setattr(noise, "N_SAMPLES", 9000)
    estimate = estimate_noise_sigma(image, times)
    assert estimate.source == "background"
    assert estimate.sigma == pytest.approx(13.0, rel=0.03)
    assert 1500 < estimate.n_voxels < 9000 / 3
    assert estimate == estimate_noise_sigma(image.reshape(-1, 6)[::3], times)
