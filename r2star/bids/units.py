"""Units: participant × session × acquisition × run, and the files that each reads. May import errors only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from r2star.errors import Notice, R2starError

Part = Literal["mag", "phase", "real", "imag"]
Role = Literal["brain_mask", "segmentation", "lesions", "map"]
World = Literal["T1w", "MEGRE"]


@dataclass(frozen=True)
class EchoFile:
    """One image file of one echo; ``sidecar`` holds its inherited metadata, ``sidecar_paths`` where from.

    ``sidecar`` has only keys of `r2star.bids.metadata.ALLOWED_SIDECAR_KEYS`; ``sidecar_paths`` run from the
    dataset's root to the nearest file, whose keys win.
    """

    path: Path
    echo: int
    echo_time_s: float
    part: Part
    sidecar: Mapping[str, Any] = field(default_factory=dict)
    sidecar_paths: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Derived:
    """A result of another program that the unit uses.

    ``name`` is the suffix of a mask or map (``"Chimap"``), and what results call a segmentation. ``world`` says
    whose world coordinates it has, ``units`` what its sidecar calls its unit; ``others`` are its sidecar and
    label table, where there are any.
    """

    role: Role
    name: str
    path: Path
    world: World
    units: str = ""
    others: tuple[Path, ...] = ()
    lookup: Path | None = None
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True)
class Unit:
    """Everything that one unit reads. Labels are text without their entity key (``"01"``, not ``"sub-01"``).

    A unit with a ``problem`` can't run. Where ``no_data`` is set too, the problem is that there is nothing to
    work on (no echoes, a single one, phase alone): an error if the user ``named`` the unit, else `skipped`.

    >>> unit = Unit("01", session="02", run="1")
    >>> unit.label, unit.skipped
    ('sub-01_ses-02_run-1', False)
    """

    participant: str
    session: str | None = None
    acquisition: str | None = None
    reconstruction: str | None = None
    run: str | None = None
    magnitude: tuple[EchoFile, ...] = ()  # sorted by echo time
    phase: tuple[EchoFile, ...] = ()  # sorted by echo time; empty where there is none
    real: tuple[EchoFile, ...] = ()
    imaginary: tuple[EchoFile, ...] = ()
    t1w: Path | None = None
    field_strength_tesla: float | None = None
    notices: tuple[Notice, ...] = ()  # warnings raised while finding it
    problem: R2starError | None = None  # why it cannot run, if it cannot
    ceagent: str | None = None
    named: bool = False  # the user asked for this participant or session by name
    no_data: bool = False  # the problem is that nothing is there to work on
    derived: tuple[Derived, ...] = ()  # results of other programs
    reference: Unit | None = (
        None  # whose MEGRE is the anatomy of all sessions, for want of a T1w; may be this one
    )
    lesioned: Unit | None = (
        None  # whose lesion mask, drawn on its MEGRE, must not pull the T1w; may be this one
    )

    @property
    def entities(self) -> dict[str, str]:
        """BIDS entities in their order, keys as in file names: sub, ses, acq, ce, rec, run."""
        pairs = (
            ("sub", self.participant),
            ("ses", self.session),
            ("acq", self.acquisition),
            ("ce", self.ceagent),
            ("rec", self.reconstruction),
            ("run", self.run),
        )
        return {key: value for key, value in pairs if value is not None}

    @property
    def label(self) -> str:
        """``sub-01_ses-02_acq-x_run-1``: the unit's name in files, messages and tables."""
        return "_".join(f"{key}-{value}" for key, value in self.entities.items())

    @property
    def skipped(self) -> bool:
        """Whether the unit is passed over and recorded, rather than an error."""
        return self.no_data and not self.named

    @property
    def echo_times_s(self) -> tuple[float, ...]:
        """Echo times in s, ascending: of the magnitude, or of the real part where there is no magnitude."""
        return tuple(echo.echo_time_s for echo in self.magnitude or self.real)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every image and sidecar that the unit reads, each once, in a fixed order."""
        echoes = (*self.magnitude, *self.phase, *self.real, *self.imaginary)
        images = [echo.path for echo in echoes] + ([self.t1w] if self.t1w else [])
        sidecars = [path for echo in echoes for path in echo.sidecar_paths]
        derived = [path for one in self.derived for path in (one.path, *one.others)]
        shared = [path for one in (self.reference, self.lesioned) if one is not None for path in one.files]
        return tuple(dict.fromkeys([*images, *sidecars, *derived, *shared]))

    @property
    def is_reference(self) -> bool:
        """Whether its own MEGRE is the anatomy that sessions share."""
        return self.reference is not None and self.reference.label == self.label

    def without_anatomy(self) -> Unit:
        """The unit as its maps need it: without what places regions."""
        return replace(self, t1w=None, reference=None, lesioned=None)

    def derived_as(self, role: Role) -> tuple[Derived, ...]:
        """The results of other programs in one role."""
        return tuple(one for one in self.derived if one.role == role)
