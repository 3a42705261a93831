"""What the static field does to R2*: phase → B0 → gradient → dephasing → bias, as arrays.

``phase`` recognises units; ``b0`` (with ``unwrap`` and ``bipolar``) estimates the field; ``gradient`` its
slope; ``dephasing`` the factor |F(t)| on the decay; ``bias`` what leaving it out does to R2*. Imports numpy;
numba, scipy.ndimage and scikit-image only when called.
"""

from r2star.field.b0 import B0Map, estimate_b0
from r2star.field.bias import expected_bias, predict_bias, predict_bias_map, predict_packed_bias
from r2star.field.dephasing import DephasingModel, choose_dephasing, dephasing_factor, iterate_dephasing
from r2star.field.gradient import GAMMA_HZ_PER_UT, FieldGradient, fit_gradient, fit_packed_gradient
from r2star.field.phase import (
    PhaseRange,
    PhaseUnit,
    complex_to_polar,
    measure_phase_range,
    recognise_phase_unit,
)
from r2star.field.voxels import Voxels

__all__ = [
    "GAMMA_HZ_PER_UT",
    "B0Map",
    "DephasingModel",
    "FieldGradient",
    "PhaseRange",
    "PhaseUnit",
    "Voxels",
    "choose_dephasing",
    "complex_to_polar",
    "dephasing_factor",
    "estimate_b0",
    "expected_bias",
    "fit_gradient",
    "fit_packed_gradient",
    "iterate_dephasing",
    "measure_phase_range",
    "predict_bias",
    "predict_bias_map",
    "predict_packed_bias",
    "recognise_phase_unit",
]
