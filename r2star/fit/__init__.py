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
    from r2star.fit.denoise import denoise_mppca
    from r2star.fit.estatics import Estatics, fit_estatics
    from r2star.fit.moments import first_moment
    from r2star.fit.noise import NoiseEstimate, estimate_noise_sigma

__all__ = [
    "METHODS",
    "Decay",
    "Estatics",
    "NoiseEstimate",
    "Status",
    "denoise_mppca",
    "estimate_noise_sigma",
    "first_moment",
    "fit_decay",
    "fit_estatics",
]

_HOME = {
    "Decay": "decay",
    "Estatics": "estatics",
    "NoiseEstimate": "noise",
    "denoise_mppca": "denoise",
    "estimate_noise_sigma": "noise",
    "first_moment": "moments",
    "fit_decay": "decay",
    "fit_estatics": "estatics",
}


def __getattr__(name: str) -> Any:
    """Import the part that holds ``name`` when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
