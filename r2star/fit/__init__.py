"""R2* from multi-echo magnitudes, as arrays. Imports numpy and numba only when a fit is asked for.

``from r2star.fit import fit_decay, Decay, METHODS, Status`` is the public surface; a new estimator is one file
beside these and one line in `r2star.fit.methods`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from r2star.fit.methods import METHODS
from r2star.fit.status import Status

if TYPE_CHECKING:
    from r2star.fit.decay import Decay, fit_decay

__all__ = ["METHODS", "Decay", "Status", "fit_decay"]

_HOME = {
    "Decay": "r2star.fit.decay",
    "fit_decay": "r2star.fit.decay",
}


def __getattr__(name: str) -> Any:
    """Import the part that holds ``name`` when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
