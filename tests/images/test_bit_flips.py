"""Flipped bits in gzip streams: refused, or harmless to the last voxel."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from r2star.errors import InputError
from r2star.images import read_image


def accepted_flips(whole: bytes, original, put, count: int, seed: int, first: int, last: int) -> int:
    """Flip ``count`` bits one at a time; how many were accepted, each of them with the very same image."""
    rng = np.random.default_rng(seed)
    accepted, refusals = 0, set()
    for _ in range(count):
        damaged = bytearray(whole)
        damaged[rng.integers(first, last)] ^= 1 << int(rng.integers(8))
        try:
            image = read_image(put(bytes(damaged), packed=False))
        except InputError as error:
            refusals.add(error.code)
        else:
            assert np.array_equal(image.data, original.data)
            assert image.grid == original.grid
            accepted += 1
    assert refusals <= {"E106", "E108", "E109", "E110"}
    return accepted


@pytest.mark.parametrize("level", [1, 9])
def test_mid_stream(put, nifti, values, level):
    """200 of 200."""
    whole = gzip.compress(nifti(np.tile(values, (2, 2, 4))), level, mtime=0)
    original = read_image(put(whole, packed=False))
    assert accepted_flips(whole, original, put, 200, 1, len(whole) // 4, 3 * len(whole) // 4) == 0


def test_anywhere(put, nifti, values):
    """Only time, hint and system of the gzip header (and its text flag) may change unseen: 57 bits of all."""
    whole = gzip.compress(nifti(values), mtime=0)
    original = read_image(put(whole, packed=False))
    assert accepted_flips(whole, original, put, 300, 2, 10, len(whole)) == 0
    assert accepted_flips(whole, original, put, 100, 3, 4, 10) == 100


def test_every_bit_of_header_and_trailer(put, nifti, values):
    whole = gzip.compress(nifti(values), mtime=0)
    original = read_image(put(whole, packed=False))
    passed = set()
    for bit in [*range(80), *range(8 * len(whole) - 64, 8 * len(whole))]:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            image = read_image(put(bytes(damaged), packed=False))
        except InputError:
            continue
        assert np.array_equal(image.data, original.data)
        passed.add(bit)
    assert passed == {24, *range(32, 80)}


@pytest.mark.parametrize("level", [0, 1, 6])
def test_stored_and_packed_blocks(put, nifti, values, level):
    """Stored blocks have padding bits that mean nothing; whatever passes has the same voxels."""
    whole = gzip.compress(nifti(values[:, :, :3]), level, mtime=0)
    original = read_image(put(whole, packed=False))
    assert accepted_flips(whole, original, put, 150, 4, 0, len(whole)) < 10


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(10))
def test_ten_thousand(put, nifti, values, seed):
    whole = gzip.compress(nifti(values), 1 + seed % 9, mtime=0)
    original = read_image(put(whole, packed=False))
    assert accepted_flips(whole, original, put, 1000, 100 + seed, 0, len(whole)) < 30
