"""The table of estimators. Imports only the standard library, so that a command line can read it at no cost.

A new estimator is one module with a ``fit_blocks`` (see `Estimator`) and one line here; the contract tests and
the command line's choices read the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from r2star.fit.blocks import Blocks, Design


class Estimator(Protocol):
    """Fits blocks of voxels in place: reads ``blocks.signal`` and writes ``blocks.result`` and ``blocks.status``."""

    def __call__(self, blocks: Blocks, design: Design) -> None:
        """Fit every lane of every block, independently of all others."""


@dataclass(frozen=True)
class Method:
    """One estimator: what it is, what it needs, and the module that holds it."""

    module: str
    summary: str
    reference: str
    takes_logarithm: bool = False
    takes_dephasing: bool = False
    needs_even_echoes: bool = False
    uses_noise_model: bool = False

    def load(self) -> Estimator:
        """Import the module and return its ``fit_blocks``."""
        return import_module(f"r2star.fit.{self.module}").fit_blocks


METHODS: dict[str, Method] = {
    "loglinear": Method(
        "loglinear",
        "ordinary least squares of ln M on echo time",
        "textbook; the baseline",
        takes_logarithm=True,
    ),
    "weighted": Method(
        "weighted",
        "least squares of ln M on echo time, weighted by the fitted S²",
        "Edwards, ISMRM 2022",
        takes_logarithm=True,
        takes_dephasing=True,
    ),
    "arlo": Method(
        "arlo",
        "auto-regression on linear operations, evenly spaced echoes only",
        "Pei 2015, doi:10.1002/mrm.25137",
        needs_even_echoes=True,
    ),
    "nonlinear": Method(
        "nonlinear",
        "exact least squares of the magnitudes, by variable projection",
        "Golub & Pereyra 1973, doi:10.1137/0710036",
        takes_dephasing=True,
    ),
    "rician": Method(
        "rician",
        "least squares of the magnitudes against the first moment of their noise distribution",
        "Feng 2013, doi:10.1002/mrm.24607",
        takes_dephasing=True,
        uses_noise_model=True,
    ),
}
