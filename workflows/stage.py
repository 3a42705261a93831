"""What a node means to a user: which units it serves, in which words, and how much of their work it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """A node of a graph as progress lines and errors speak of it."""

    units: tuple[str, ...]
    words: str
    number: int
    n_stages: int
    share: float  # of a unit's usual time, for the time left
    is_last: bool = False
