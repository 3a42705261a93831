"""The nodes of the field: B0 and its gradient from phase, and what the gradient adds to R2*.

They stand in the graph of the unit, not in one of their own: a corrected fit comes between them.
"""

from __future__ import annotations

from r2star.bids.units import Unit
from r2star.errors import Notice
from r2star.settings import Settings
from r2star.workflows import interfaces as steps
from r2star.workflows.nodes import make_node
from r2star.workflows.stage import Stages
from r2star.workflows.step import StepNode


def has_field(unit: Unit, settings: Settings) -> bool:
    """Whether the field is mapped: there is phase, and it was not switched off."""
    return settings.field_gradient != "off" and bool(unit.phase or (unit.real and unit.imaginary))


def is_corrected(unit: Unit, settings: Settings) -> bool:
    """Whether the fit takes the field's gradient into account."""
    return has_field(unit, settings) and settings.field_gradient == "correct"


def uncorrected_notices(unit: Unit, settings: Settings) -> tuple[Notice, ...]:
    """What to say of a unit without phase where correction was asked for."""
    if settings.field_gradient != "correct" or has_field(unit, settings):
        return ()
    found = "there is no phase, so R2* is not corrected for field gradients"
    fix = "give part-phase images, or compare with uncorrected units only (--field-gradient report)"
    return (Notice("W364", found, fix, unit.magnitude[0].path.name),)


def phase_rule(unit: Unit, settings: Settings) -> dict[str, object]:
    """What the input check is told of phase that a corrected fit needs."""
    if not (is_corrected(unit, settings) and unit.phase):
        return {}
    units = unit.phase[0].sidecar.get("Units")
    return {"phase_required": True, **({"phase_units": units} if isinstance(units, str) else {})}


def make_b0_node(unit: Unit, settings: Settings, stages: Stages, n_threads: int) -> StepNode:
    """B0 and its gradient, inside the brain; for a corrected fit its phase must be beyond doubt."""
    sidecar = dict((unit.phase or unit.real)[0].sidecar)
    if not unit.phase:
        sidecar["Units"] = "rad"  # made from real and imaginary parts
    step = steps.EstimateB0(
        echo_times_s=list(unit.echo_times_s), sidecar=sidecar, required=is_corrected(unit, settings)
    )
    return make_node("b0", step, stages.next("mapping B0", share=0.15), n_threads=n_threads, mem_gb=2)


def make_bias_node(unit: Unit, settings: Settings, stages: Stages, n_threads: int) -> StepNode:
    """What the gradient adds to R2*, or has been taken out."""
    step = steps.PredictGradientBias(
        echo_times_s=list(unit.echo_times_s),
        method=settings.fit_method,
        corrected=is_corrected(unit, settings),
    )
    stage = stages.next("predicting gradient bias", share=0.05)
    return make_node("bias", step, stage, n_threads=n_threads, mem_gb=1)
