"""Signals, brains and cohorts with known truth. Arrays only: knows no files; imports numpy and scipy.

The parts that stand for themselves: `simulate_decay` (multi-echo signals), `paint_template` (S0 and R2* on a
template's grid), `simulate_session` (a person in a scanner) and `r2star.simulate.cohort`.
"""

from r2star.simulate.anatomy import Template, Tissue, expected_r2star, paint_template
from r2star.simulate.brain import BrainPlan, Person, Session, draw_person, make_stage, simulate_session
from r2star.simulate.decay import rician, simulate_decay
from r2star.simulate.warp import Warp, draw_warp

__all__ = [
    "BrainPlan",
    "Person",
    "Session",
    "Template",
    "Tissue",
    "Warp",
    "draw_person",
    "draw_warp",
    "expected_r2star",
    "make_stage",
    "paint_template",
    "rician",
    "simulate_decay",
    "simulate_session",
]
