"""What a node means to a user: which units it serves, in which words, and how much of their work it is."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stage:
    """A node of a graph as progress lines and errors speak of it."""

    units: tuple[str, ...]
    words: str
    share: float  # of a unit's usual time, for the time left
    is_last: bool = False


@dataclass
class Stages:
    """Makes the stages of some units."""

    units: tuple[str, ...]
    made: list[Stage] = field(default_factory=list)

    def next(self, words: str, share: float = 0.01, *, is_last: bool = False) -> Stage:
        """One more stage; ``share`` is of a unit's usual time."""
        self.made.append(Stage(self.units, words, share, is_last))
        return self.made[-1]
