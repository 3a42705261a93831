"""The graph of what other programs made: lesions and maps on the MEGRE grid, and the rule that brings them there.

Inputs: ``like`` (an image on the MEGRE grid) and ``from_t1w`` (transforms of T1w images to the MEGRE, where there is a
T1w). Outputs: ``lesions``, ``lesion_volume_mm3``, ``maps``, ``files``, ``records``, ``notices``, ``hashes``.
"""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from r2star.bids.units import Derived, Unit
from r2star.workflows import interfaces as steps
from r2star.workflows.nodes import make_node, merge
from r2star.workflows.stage import Stages
from r2star.workflows.step import Step, StepNode

INPUTS = ["like", "from_t1w"]
OUTPUTS = ["lesions", "lesion_volume_mm3", "maps", "files", "records", "notices", "hashes"]


def init_derived_wf(unit: Unit, stages: Stages) -> pe.Workflow | None:
    """Lesions and maps of one unit; None where it has neither."""
    masks, maps = unit.derived_as("lesions"), unit.derived_as("map")
    if not masks and not maps:
        return None
    graph = pe.Workflow("derived")
    source = pe.Node(IdentityInterface(INPUTS), "inputnode")
    sink = pe.Node(IdentityInterface(OUTPUTS), "outputnode")
    for one in masks:
        step = steps.AdoptMask(given=str(one.path), kind="lesions", others=[str(path) for path in one.others])
        node = make_node("lesions", step, stages.next("bringing lesions over"))
        graph.connect([(node, sink, [("image", "lesions"), ("volume_mm3", "lesion_volume_mm3")])])
        connect_adopted(graph, source, node, one)
    for one in maps:
        own = steps.AdoptMap(given=str(one.path), name=one.name, others=[str(path) for path in one.others])
        connect_adopted(
            graph, source, make_node(f"map_{one.name}", own, stages.next("bringing maps over")), one
        )
    nodes = [node for node in graph._graph.nodes() if isinstance(node, StepNode)]
    own_maps = [(node, "image") for node in nodes if node.name != "lesions"]
    if own_maps:
        graph.connect(merge(graph, "maps", own_maps), "out", sink, "maps")
    if masks:
        graph.connect(merge(graph, "files", [(graph.get_node("lesions"), "image")]), "out", sink, "files")
    for output, name in (("record", "records"), ("notices", "notices"), ("hashes", "hashes")):
        graph.connect(merge(graph, name, [(node, output) for node in nodes]), "out", sink, name)
    return graph


def connect_adopted(graph: pe.Workflow, source: pe.Node, node: StepNode, one: Derived) -> None:
    """Give a node that adopts a file its target grid, and the way from the file's world."""
    graph.connect(source, "like", node, "like")
    if one.world == "T1w":
        graph.connect(source, "from_t1w", node, "transforms")


def adopt_segmentation_step(one: Derived) -> Step:
    """The step that adopts a participant's own segmentation."""
    step = steps.AdoptSegmentation(
        given=str(one.path), name=one.name, others=[str(path) for path in one.others]
    )
    if one.lookup is not None:
        step.inputs.lookup = str(one.lookup)
    return step
