"""Why a voxel has no R2*, or a doubtful one. Imports only the standard library.

The codes fill ``P_desc-fitstatus_dseg.nii.gz``; names and meanings fill its lookup table.
"""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """State of one voxel's fit: code, meaning, and whether the voxel has a value (else it is NaN).

    >>> Status.RISING.label, Status.RISING.has_value
    ('rising', True)
    """

    meaning: str
    has_value: bool

    def __new__(cls, code: int, meaning: str, has_value: bool) -> Status:
        """Attach the meaning to the code."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        member.has_value = has_value
        return member

    OK = 0, "The fit is the optimum, from all echoes.", True
    OUTSIDE_MASK = 1, "The voxel is outside the mask and was not fitted.", False
    NO_SIGNAL = 2, "Every echo is zero.", False
    NOT_FINITE = 3, "An echo, or a result, is NaN or infinite.", False
    NEGATIVE = 4, "An echo is below zero, which no magnitude can be.", False
    TOO_FEW_ECHOES = 5, "Fewer than two echoes can be used.", False
    BELOW_NOISE_FLOOR = 6, "No echo stands out of the noise.", False
    AT_BOUND = 7, "The optimum lies outside the range of rates that the echo times can tell apart.", False
    NOT_CONVERGED = 8, "No optimum was found.", False
    RISING = 9, "The signal does not fall: R2* is zero or negative, kept as the optimum it is.", True
    ECHOES_DROPPED = 10, "The value is from the first echoes only; later ones are zero or in the noise.", True
    SATURATED = 11, "The first echoes are saturated; the value is from the later ones.", True
    ECHO_LOST = 12, "An echo is exactly zero beside one of clear signal, which no decay gives.", False

    @property
    def label(self) -> str:
        """The name in lower case, as it stands in tables."""
        return self.name.lower()
