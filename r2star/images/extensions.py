"""Header extensions: what may lie between a NIfTI header and its values. Standard library only."""

from __future__ import annotations

from typing import Literal


def overruns(first: bytes, n_bytes: int, order: Literal["little", "big"]) -> bool:
    """Whether the extensions are longer than their place of ``n_bytes``, so that the values start too early.

    Four bytes of flags come first, then each extension with its size in its first four bytes. ``first`` is the
    beginning of the place: extensions that begin beyond it are not looked at.
    """
    if not first or not first[0]:
        return False
    place = 4
    while place + 8 <= len(first):
        size = int.from_bytes(first[place : place + 4], order, signed=True)
        if size <= 0:
            return False
        place += size
    return place > n_bytes or place == 4
