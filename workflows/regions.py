"""The graphs of the regions: labels on the MEGRE grid and the region table, one graph an atlas or segmentation.

Inputs: ``magnitude``, the fitted maps, ``bias_map`` where there is a field, ``lesions`` and ``maps`` where there are
any, ``notices`` (what other steps warned of), and the way: ``to_megre`` and ``to_template`` (chains of
transforms) for an atlas, ``from_t1w`` and ``to_t1w`` for a segmentation. Outputs: ``labels`` and ``table`` (of the
first atlas), ``files``, ``records``, ``hashes``.
"""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from r2star.atlas import load_atlas
from r2star.bids.queries import read_query
from r2star.bids.units import Derived, Unit
from r2star.settings import Settings
from r2star.steps.iron import calibration_file
from r2star.workflows import interfaces as steps
from r2star.workflows.derived import adopt_segmentation_step, connect_adopted
from r2star.workflows.nodes import make_node, merge, node_name
from r2star.workflows.stage import Stages
from r2star.workflows.step import StepNode
from r2star.workflows.templates import Template

MAPS = ["r2star_map", "stderr_map", "status_map", "residual_map", "s0_map"]
MEASURED = ["magnitude", "noise", *MAPS, "bias_map", "lesions", "lesion_volume_mm3", "maps", "notices"]
INPUTS = [*MEASURED, "to_megre", "to_template", "from_t1w", "to_t1w", "like"]
OUTPUTS = ["labels", "table", "files", "records", "hashes"]


def init_template_wf(
    unit: Unit, settings: Settings, template: Template, stages: Stages, *, with_field: bool
) -> pe.Workflow:
    """R2* on a template, and the regions of each atlas that is measured on it."""
    graph = pe.Workflow(node_name("space", template.space))
    source = pe.Node(IdentityInterface(INPUTS), "inputnode")
    on_template = steps.ResampleMap(like=str(template.atlas.t1w), name=f"space-{template.space}_R2starmap")
    moved = make_node("template_map", on_template, stages.next("R2* on the template", 0.02), mem_gb=1)
    graph.connect([(source, moved, [("r2star_map", "image"), ("to_template", "transforms")])])
    files, records = [(moved, "image")], [(moved, "record")]
    for name in template.measured:
        atlas = load_atlas(name)
        place = steps.ResampleLabels(labels=str(atlas.labels), name=f"atlas-{atlas.name}_dseg")
        labels = make_node(f"labels_{atlas.name}", place, stages.next("placing regions", 0.02), mem_gb=1)
        graph.connect([(source, labels, [("to_megre", "transforms"), ("r2star_map", "like")])])
        table = _table_node(unit, settings, name, f"table_{atlas.name}", stages)
        _connect_table(graph, source, labels, table, unit, with_field=with_field)
        graph.connect(source, "to_template", table, "to_template")
        files += [(labels, "image"), (table, "derivatives")]
        records += [(labels, "record"), (table, "record")]
        if atlas.weights is not None:
            weigh = steps.ResampleMap(image=str(atlas.weights), name=f"atlas-{atlas.name}_probseg")
            weights = make_node(
                f"weights_{atlas.name}", weigh, stages.next("placing weights", 0.02), mem_gb=1
            )
            graph.connect([(source, weights, [("to_megre", "transforms"), ("r2star_map", "like")])])
            graph.connect(weights, "image", table, "weight_map")
            files.append((weights, "image"))
            records.append((weights, "record"))
    sink = _connect_sink(graph, {"files": files, "records": records})
    if len(files) > 1:  # of the first atlas
        graph.connect([(files[1][0], sink, [("image", "labels")]), (files[2][0], sink, [("table", "table")])])
    return graph


def init_segmentation_wf(
    unit: Unit, settings: Settings, segmentation: Derived, stages: Stages, *, with_field: bool
) -> pe.Workflow:
    """The regions of a segmentation of the participant's own."""
    graph = pe.Workflow(node_name("seg", segmentation.name))
    source = pe.Node(IdentityInterface(INPUTS), "inputnode")
    adopt = adopt_segmentation_step(segmentation)
    labels = make_node("labels", adopt, stages.next("placing regions", 0.02), mem_gb=1)
    connect_adopted(graph, labels, segmentation, (source, "like"), (source, "from_t1w"))
    if segmentation.world == "T1w":
        graph.connect(source, "to_t1w", labels, "to_source")
    table = _table_node(unit, settings, segmentation.name, "table", stages)
    earlier = merge(graph, "all_notices", [(source, "notices"), (labels, "notices")])
    _connect_table(graph, source, labels, table, unit, with_field=with_field, earlier=(earlier, "out"))
    graph.connect(labels, "described", table, "described")
    files = [(labels, "image"), (labels, "lookup"), (table, "derivatives")]
    records = [(labels, "record"), (table, "record")]
    _connect_sink(graph, {"files": files, "records": records, "hashes": [(labels, "hashes")]})
    return graph


def _connect_table(
    graph: pe.Workflow, source: pe.Node, labels: StepNode, table: StepNode, unit: Unit, *, with_field: bool,
    earlier: tuple[pe.Node, str] | None = None,
) -> None:  # fmt: skip
    graph.connect([
        (source, table, [(name, name) for name in (*MAPS, "noise")]),
        (source, table, [(("magnitude", first), "first_echo"), (("magnitude", last), "last_echo")]),
        (labels, table, [("image", "labels")]),
    ])  # fmt: skip
    node, output = earlier or (source, "notices")
    graph.connect(node, output, table, "earlier_notices")
    if with_field:
        graph.connect(source, "bias_map", table, "gradient_bias_map")
    if unit.derived_as("lesions"):
        graph.connect([(source, table, [(name, name) for name in ("lesions", "lesion_volume_mm3")])])
    if unit.derived_as("map"):
        graph.connect(source, "maps", table, "maps")


def _connect_sink(graph: pe.Workflow, outputs: dict[str, list[tuple[pe.Node, str]]]) -> pe.Node:
    sink = pe.Node(IdentityInterface(OUTPUTS), "outputnode")
    for name, sources in outputs.items():
        graph.connect(merge(graph, name, sources), "out", sink, name)
    return sink


def first(paths: list[str]) -> str:
    """The first of a list, for connections."""
    return paths[0]


def last(paths: list[str]) -> str:
    """The last of a list, for connections."""
    return paths[-1]


def _table_node(unit: Unit, settings: Settings, atlas: str, name: str, stages: Stages) -> StepNode:
    """The region table, with the facts that are known beforehand."""
    names = [read_query("map", text).suffix for text in settings.maps]
    units = {one.name: one.units for one in unit.derived_as("map")}
    step = steps.WriteRegionTable(
        atlas=atlas,
        entities=unit.entities,
        n_echoes=len(unit.echo_times_s),
        with_lesions=settings.lesions is not None,
        map_names=names,
        map_units=[units.get(one, "") for one in names],
    )
    if unit.field_strength_tesla is not None:
        step.inputs.field_strength_tesla = unit.field_strength_tesla
    if settings.iron is not None:
        step.inputs.calibration = str(calibration_file(settings.iron))
    return make_node(name, step, stages.next("measuring regions", 0.02))
