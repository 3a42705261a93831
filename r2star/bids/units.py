"""Units: participant × session × acquisition × run, and the files that each reads. May import errors only.

(first form: these types are the contract)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from r2star.errors import Notice, R2starError

Part = Literal["mag", "phase", "real", "imag"]


@dataclass(frozen=True)
class EchoFile:
    """One image file of one echo; ``sidecar`` holds its inherited metadata, ``sidecar_paths`` where from."""

    path: Path
    echo: int
    echo_time_s: float
    part: Part
    sidecar: Mapping[str, Any] = field(default_factory=dict)
    sidecar_paths: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Unit:
    """Everything that one unit reads. Labels are text without their entity key (``"01"``, not ``"sub-01"``)."""

    participant: str
    session: str | None = None
    acquisition: str | None = None
    reconstruction: str | None = None
    run: str | None = None
    magnitude: tuple[EchoFile, ...] = ()      # sorted by echo time
    phase: tuple[EchoFile, ...] = ()          # sorted by echo time; empty where there is none
    real: tuple[EchoFile, ...] = ()
    imaginary: tuple[EchoFile, ...] = ()
    t1w: Path | None = None
    field_strength_tesla: float | None = None
    notices: tuple[Notice, ...] = ()          # warnings raised while finding it
    problem: R2starError | None = None        # why it cannot run, if it cannot

    @property
    def entities(self) -> dict[str, str]:
        """BIDS entities in their order, keys as in file names (``sub``, ``ses``, ``acq``, ``rec``, ``run``)."""
        pairs = (("sub", self.participant), ("ses", self.session), ("acq", self.acquisition),
                 ("rec", self.reconstruction), ("run", self.run))
        return {key: value for key, value in pairs if value is not None}

    @property
    def label(self) -> str:
        """``sub-01_ses-02_acq-x_run-1``: the unit's name in files, messages and tables."""
        return "_".join(f"{key}-{value}" for key, value in self.entities.items())
