"""The graph of the regions: labels on the MEGRE grid, R2* on the template's, and the region table.

Inputs: ``magnitude``, the fitted maps, ``bias_map`` where there is a field, ``to_megre`` and ``to_template`` (chains of
transforms) and ``notices`` (what other steps warned of). Outputs: ``labels``, ``table``, ``files`` and ``records``.
"""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from r2star.atlas import Atlas
from r2star.bids.units import Unit
from r2star.settings import Settings
from r2star.workflows import interfaces as steps
from r2star.workflows.nodes import make_node, merge
from r2star.workflows.stage import Stages

MAPS = ["r2star_map", "stderr_map", "status_map", "residual_map", "s0_map"]
INPUTS = ["magnitude", "noise", *MAPS, "bias_map", "to_megre", "to_template", "brain_mask", "notices"]
OUTPUTS = ["labels", "table", "files", "records"]


def init_regions_wf(
    unit: Unit, settings: Settings, atlas: Atlas, stages: Stages, *, with_field: bool
) -> pe.Workflow:
    """The regions of one unit, for each atlas; all atlases share the template of the first."""
    graph = pe.Workflow("regions")
    source = pe.Node(IdentityInterface(INPUTS), "inputnode")
    sink = pe.Node(IdentityInterface(OUTPUTS), "outputnode")
    on_template = steps.ResampleMap(like=str(atlas.t1w), name=f"space-{atlas.space}_R2starmap")
    template_map = make_node("template_map", on_template, stages.next("R2* on the template", 0.02), mem_gb=1)
    place = steps.ResampleLabels(labels=str(atlas.labels), name=f"atlas-{atlas.name}_dseg")
    labels = make_node("labels", place, stages.next("placing regions", 0.02), mem_gb=1)
    table = make_node("table", _table(unit, settings), stages.next("measuring regions", 0.02))
    graph.connect([
        (source, template_map, [("r2star_map", "image"), ("to_template", "transforms")]),
        (source, labels, [("to_megre", "transforms"), ("r2star_map", "like")]),
        (source, table, [(name, name) for name in MAPS]),
        (source, table, [(("magnitude", first), "first_echo"), (("magnitude", last), "last_echo")]),
        (source, table, [("to_template", "to_template"), ("noise", "noise"), ("notices", "earlier_notices")]),
        (labels, table, [("image", "labels")]),
    ])  # fmt: skip
    if with_field:
        graph.connect(source, "bias_map", table, "gradient_bias_map")
    files = merge(graph, "files", [(template_map, "image"), (labels, "image"), (table, "derivatives")])
    records = merge(graph, "records", [(node, "record") for node in (template_map, labels, table)])
    graph.connect([(files, sink, [("out", "files")]), (records, sink, [("out", "records")])])
    graph.connect([(labels, sink, [("image", "labels")]), (table, sink, [("table", "table")])])
    return graph


def first(paths: list[str]) -> str:
    """The first of a list, for connections."""
    return paths[0]


def last(paths: list[str]) -> str:
    """The last of a list, for connections."""
    return paths[-1]


def _table(unit: Unit, settings: Settings) -> steps.WriteRegionTable:
    """The region table, with the facts that are known beforehand."""
    step = steps.WriteRegionTable(
        atlas=settings.atlas, entities=unit.entities, n_echoes=len(unit.echo_times_s)
    )
    if unit.field_strength_tesla is not None:
        step.inputs.field_strength_tesla = unit.field_strength_tesla
    return step
