"""The nodes of the field: B0 and its gradient from phase, and what the gradient adds to R2*.

They stand in the graph of the unit, not in one of their own: a corrected fit comes between them.
"""

from __future__ import annotations

from r2star.bids.units import Unit
from r2star.settings import Settings
from r2star.workflows import interfaces as steps
from r2star.workflows.nodes import make_node
from r2star.workflows.stage import Stages
from r2star.workflows.step import StepNode


def has_field(unit: Unit, settings: Settings) -> bool:
    """Whether the field is mapped: there is phase, and it was not switched off."""
    return settings.field_gradient != "off" and bool(unit.phase or unit.imaginary)


def is_corrected(unit: Unit, settings: Settings) -> bool:
    """Whether the fit takes the field's gradient into account."""
    return has_field(unit, settings) and settings.field_gradient == "correct"


def make_b0_node(unit: Unit, stages: Stages) -> StepNode:
    """B0 and its gradient, inside the brain."""
    sidecar = dict((unit.phase or unit.real)[0].sidecar)
    if not unit.phase:
        sidecar["Units"] = "rad"  # made from real and imaginary parts
    step = steps.EstimateB0(echo_times_s=list(unit.echo_times_s), sidecar=sidecar)
    return make_node("b0", step, stages.next("mapping B0", share=0.15), mem_gb=2)


def make_bias_node(unit: Unit, settings: Settings, stages: Stages) -> StepNode:
    """What the gradient adds to R2*, or has been taken out."""
    step = steps.PredictGradientBias(
        echo_times_s=list(unit.echo_times_s),
        method=settings.fit_method,
        corrected=is_corrected(unit, settings),
    )
    return make_node("bias", step, stages.next("predicting gradient bias", share=0.05), mem_gb=2)
