"""Voxels of a painted head: exact mixtures, sides kept, volumes by change of variables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from r2star.simulate.anatomy import Template, Tissue
from r2star.simulate.scan import Head, label_volumes, scan_echoes, scan_t1w
from r2star.simulate.warp import Warp, draw_warp

TIMES_S = (0.005, 0.030)
STILL = Warp(np.zeros((3, 2, 2, 2), np.float32), np.zeros(3), 100.0, 1.0, 1.0)


def block_head(warp: Warp = STILL) -> Head:
    """A head of 1 mm voxels, world x = index − 30: left of x = −0.5 one tissue and label, right of it another."""
    shape = (60, 50, 40)
    affine = np.eye(4)
    affine[0, 3] = -30.0
    t1w = np.full(shape, 50.0, np.float32)
    labels = np.ones(shape, np.uint8)
    labels[30:] = 2
    rate = np.where(labels == 1, 20.0, 80.0).astype(np.float32)
    template = Template(t1w, np.ones(shape, bool), labels, affine, (("a", "L", (1,)), ("b", "R", (2,))))
    return Head(template, Tissue(np.full(shape, 2.0, np.float32), rate), warp)


def grid(size_mm: float, start_mm: float, flip: bool = False) -> np.ndarray:
    affine = np.diag([-size_mm if flip else size_mm, 2.0, 2.0, 1.0])
    affine[:3, 3] = [start_mm, 10.0, 10.0]
    return affine


@pytest.mark.parametrize("flip", [False, True])
def test_voxel_on_a_border_decays_as_the_mixture(flip: bool):
    # a voxel of 3 mm centred at x = −1 reaches from −2.5 to 0.5: two parts of the left tissue, one of the right
    affine = grid(3.0, -1.0, flip)
    scan = scan_echoes(block_head(), (2, 3, 3), affine, np.eye(4), TIMES_S)
    for echo, time in enumerate(TIMES_S):
        left, right = 2 * np.exp(-20 * time), 2 * np.exp(-80 * time)
        np.testing.assert_allclose(scan.signal[echo][0], (2 * left + right) / 3, rtol=1e-5)
        np.testing.assert_allclose(scan.signal[echo][1], left if flip else right, rtol=1e-5)
    assert (scan.labels[0] == 1).all()
    assert (scan.labels[1] == (1 if flip else 2)).all()
    np.testing.assert_array_equal(scan.r2star_per_s[0], 20.0)


def test_outside_there_is_nothing():
    scan = scan_echoes(block_head(), (3, 3, 3), grid(2.0, 200.0), np.eye(4), TIMES_S)
    assert (scan.signal == 0).all()
    assert np.isnan(scan.r2star_per_s).all()
    assert not scan.brain_mask.any()
    assert (scan_t1w(block_head(), (3, 3, 3), grid(2.0, 200.0), np.eye(4)) == 0).all()


def test_pose_moves_the_head_the_right_way():
    shift = np.eye(4)
    shift[0, 3] = -4.0  # scanner to template: the head lies 4 mm to the right in the scanner
    scan = scan_echoes(block_head(), (20, 3, 3), grid(1.0, -10.0), shift, TIMES_S)
    x_mm = np.arange(20) - 10.0
    np.testing.assert_array_equal(scan.labels[:, 1, 1] == 2, x_mm > 3.5)


def test_t1w_is_interpolated_between_voxels():
    head = block_head()
    ramp = np.broadcast_to(np.arange(60, dtype=np.float32)[:, None, None], (60, 50, 40))
    template = replace(head.template, t1w=np.ascontiguousarray(ramp) + 20)
    t1w = scan_t1w(Head(template, head.tissue, STILL), (8, 2, 2), grid(0.7, -3.2), np.eye(4))
    np.testing.assert_allclose(t1w[:, 0, 0], 20 + 30 - 3.2 + 0.7 * np.arange(8), rtol=1e-5)


def test_volumes_are_those_that_a_scan_counts():
    labels = np.zeros((60, 50, 40), np.uint8)
    labels[20:40, 15:35, 12:28] = 1
    warp = draw_warp(
        np.random.default_rng(3),
        (-30.0, 0.0, 0.0),
        (30.0, 50.0, 40.0),
        spacing_mm=2.0,
        scales_mm=((2.0, 10.0),),
    )
    base = block_head(warp)
    head = Head(replace(base.template, labels=labels, regions=(("a", "L", (1,)),)), base.tissue, warp)
    grow = np.diag([0.9, 1.0, 0.95, 1.0])
    volume = label_volumes(head, grow)
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    affine[0, 3] = -34.0
    scan = scan_echoes(head, (136, 104, 88), affine, grow, (0.01,))
    assert volume[1] == pytest.approx((scan.labels == 1).sum() * 0.125, rel=0.01)
    assert abs(volume[1] * 0.9 * 0.95 / labels.sum() - 1) > 0.01  # the warp did change it
    np.testing.assert_allclose(label_volumes(block_head(), grow)[1:].sum(), 60 * 50 * 40 / (0.9 * 0.95))
