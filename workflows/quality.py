"""The node that measures quality, in the graph of the unit: it takes from every part of it."""

from __future__ import annotations

from collections.abc import Sequence

from nipype.pipeline import engine as pe

from r2star.bids.units import Unit
from r2star.workflows import interfaces as steps
from r2star.workflows.nodes import make_node, merge
from r2star.workflows.regions import MAPS
from r2star.workflows.stage import Stages
from r2star.workflows.step import StepNode
from r2star.workflows.templates import Template


def make_quality_node(unit: Unit, templates: Sequence[Template], stages: Stages) -> StepNode:
    """The measures of a unit; regions and registrations are connected where there are any."""
    step = steps.MeasureQuality(echo_times_s=list(unit.echo_times_s), entities=unit.entities)
    if templates and templates[0].measured:
        step.inputs.atlas = templates[0].measured[0]
    return make_node("quality", step, stages.next("measuring quality", 0.03), mem_gb=1)


def connect_maps(graph: pe.Workflow, check: pe.Node, fit: pe.Node, quality: pe.Node) -> None:
    """Echoes, noise and the fitted maps."""
    graph.connect([
        (check, quality, [("magnitude", "magnitude"), ("noise", "noise")]),
        (fit, quality, [(name, name) for name in MAPS]),
    ])  # fmt: skip


def connect_anatomy(
    graph: pe.Workflow,
    quality: pe.Node,
    align: pe.Workflow,
    regions: pe.Workflow | None,
    measures: list[tuple[pe.Node, str]],
) -> None:
    """Brain, regions of the first atlas, and the measures of each registration."""
    graph.connect(merge(graph, "measures", measures), "out", quality, "measures")
    graph.connect([(align, quality, [("outputnode.brain_mask", "brain_mask")])])
    if regions is not None:
        graph.connect([(regions, quality, [("outputnode.labels", "labels"), ("outputnode.table", "table")])])
