"""The graph of the field: B0 and its gradient from phase, and what the gradient adds to R2*.

Inputs: ``phase``, ``magnitude``, ``brain_mask``, ``r2star_map``. Outputs: ``gradient_map``, ``field_facts``,
``bias_map``, ``files``, ``records``, ``notices``.
"""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from r2star.bids.units import Unit
from r2star.settings import Settings
from r2star.workflows import interfaces as steps
from r2star.workflows.nodes import make_node, merge
from r2star.workflows.stage import Stages

INPUTS = ["phase", "magnitude", "brain_mask", "r2star_map"]
OUTPUTS = ["gradient_map", "field_facts", "bias_map", "files", "records", "notices"]


def init_field_wf(unit: Unit, settings: Settings, stages: Stages) -> pe.Workflow:
    """The field of one unit; the correction itself is made by the fit, which then reads the gradient."""
    graph = pe.Workflow("field")
    source = pe.Node(IdentityInterface(INPUTS), "inputnode")
    sink = pe.Node(IdentityInterface(OUTPUTS), "outputnode")
    times = list(unit.echo_times_s)
    sidecar = dict((unit.phase or unit.real)[0].sidecar) if unit.phase or unit.real else {}
    if not unit.phase:
        sidecar["Units"] = "rad"  # made from real and imaginary parts
    b0_step = steps.EstimateB0(echo_times_s=times, sidecar=sidecar)
    b0 = make_node("b0", b0_step, stages.next("mapping B0", share=0.15), mem_gb=2)
    bias_step = steps.PredictGradientBias(
        echo_times_s=times, method=settings.fit_method, corrected=settings.field_gradient == "correct"
    )
    bias = make_node("bias", bias_step, stages.next("predicting gradient bias", share=0.05), mem_gb=2)
    graph.connect([
        (source, b0, [(name, name) for name in ("phase", "magnitude", "brain_mask")]),
        (source, bias, [("r2star_map", "r2star_map")]),
        (b0, bias, [("gradient_map", "gradient_map"), ("facts", "facts")]),
        (b0, sink, [("gradient_map", "gradient_map"), ("facts", "field_facts")]),
        (bias, sink, [("bias_map", "bias_map")]),
        (merge(graph, "files", [(b0, "derivatives"), (bias, "derivatives")]), sink, [("out", "files")]),
        (merge(graph, "records", [(b0, "record"), (bias, "record")]), sink, [("out", "records")]),
        (merge(graph, "notices", [(b0, "notices"), (bias, "notices")]), sink, [("out", "notices")]),
    ])  # fmt: skip
    return graph
