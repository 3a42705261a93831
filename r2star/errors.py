"""Every error that a user can cause, and the warnings that travel with a result. Imports nothing of r2star.

The tree::

    R2starError
    ├── UsageError         exit 2    the command line or a configuration file; nothing was processed
    ├── DatasetError       exit 3    the dataset as a whole is unusable; nothing was processed
    ├── InputError         exit 1    one unit's input; the other units go on      (state failed_input)
    ├── ProcessingError    exit 1    one unit's processing went wrong             (state failed_processing)
    ├── EnvironmentFault   exit 4    disk, rights, memory, a missing part         (state failed_env)
    └── LockedError        exit 75   another live run holds the unit

Each says what was found, what was needed and how to mend it, in one line.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

#: What Python says where memory does not suffice for one more thread.
NO_THREAD = "can't start new thread"


class R2starError(Exception):
    """An error with a code, the file it concerns and a way to mend it.

    Parameters
    ----------
    code
        ``"E"`` and three digits: E1 images, E2 BIDS and sidecars, E3 voxel values, E4 anatomy and regions,
        E5 command line and dataset, E6 environment, E7 group level.
    found, needed, fix
        The three parts of the message: "the echo is empty", "a magnitude image is needed", "export it again".
    path
        The file concerned, if there is one.
    unit
        The unit concerned; the caller who knows it may set it later.
    """

    exit_code: ClassVar[int] = 1
    state: ClassVar[str] = "failed_processing"
    #: Said where a message has no better advice.
    usual_fix: ClassVar[str] = ""

    def __init__(
        self, code: str, found: str, needed: str = "", fix: str = "", *, path: str | Path = "", unit: str = ""
    ) -> None:
        self.code, self.found, self.needed, self.fix = code, found, needed, fix or self.usual_fix
        self.path, self.unit = str(path), unit
        super().__init__(code, found, needed, fix)

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the pickling between worker processes with path and unit kept."""
        return (_rebuild, (type(self), self.as_dict()))

    def as_dict(self) -> dict[str, str]:
        """The parts of the error, all text."""
        return {key: getattr(self, key) for key in ("code", "found", "needed", "fix", "path", "unit")}

    @property
    def message(self) -> str:
        """What was found and what was needed, on one line."""
        text = f"{self.found}, {self.needed}" if self.needed else self.found
        return " ".join(text.split())

    def __str__(self) -> str:
        where = "".join(f"{part}: " for part in (self.path,) if part)
        unit = f" {self.unit}:" if self.unit else ":"
        fix = f" Fix: {self.fix.rstrip('.')}." if self.fix else ""
        return " ".join(f"R2S-{self.code}{unit} {where}{self.message.rstrip('.')}.{fix}".split())


def _rebuild(kind: type[R2starError], parts: dict[str, str]) -> R2starError:
    return kind(**parts)


class UsageError(R2starError):
    """The command line, or a configuration file that it names, can't be used."""

    exit_code = 2
    state = "usage"


class DatasetError(R2starError):
    """The dataset as a whole can't be used."""

    exit_code = 3
    state = "dataset"


class InputError(R2starError):
    """The input of one unit can't be used."""

    exit_code = 1
    state = "failed_input"
    usual_fix = "correct this input, then run again"


class ProcessingError(R2starError):
    """The processing of one unit gave nothing that may be believed."""

    exit_code = 1
    state = "failed_processing"
    usual_fix = "look at the images of this unit, and report a fault of the program if they are sound"


class EnvironmentFault(R2starError):
    """The machine: disk full, no right to write, out of memory, a part that is missing."""

    exit_code = 4
    state = "failed_env"
    usual_fix = "mend this, then run again: finished units are kept"


class LockedError(R2starError):
    """Another live run works on the same unit."""

    exit_code = 75
    state = "locked"


ERROR_KINDS: dict[str, type[R2starError]] = {
    kind.__name__: kind
    for kind in (UsageError, DatasetError, InputError, ProcessingError, EnvironmentFault, LockedError)
}


@dataclass(frozen=True)
class Notice:
    """A warning that is recorded with the result: in status.tsv, the region table and the report.

    >>> Notice("W202", "MagneticFieldStrength is missing", path="sub-01_echo-1_MEGRE.json").code
    'W202'
    """

    code: str
    message: str
    fix: str = ""
    path: str = ""

    def as_dict(self) -> dict[str, str]:
        """The parts, all text."""
        return asdict(self)
