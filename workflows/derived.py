"""The graph of what other programs made: lesions and maps on the MEGRE grid, and the rule that brings them there.

Inputs: ``like`` (an image on the MEGRE grid) and ``from_t1w`` (transforms of T1w images to the MEGRE, where there is a
T1w). Outputs: ``lesions``, ``lesion_volume_mm3``, ``maps``, ``files``, ``records``, ``notices``, ``hashes``.
"""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from r2star.bids.units import Derived, Unit
from r2star.workflows import interfaces as steps
from r2star.workflows.nodes import Output, make_node, merge
from r2star.workflows.stage import Stage, Stages
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
        node = make_adopted_mask("lesions", one, stages.next("bringing lesions over"))
        graph.connect([(node, sink, [("image", "lesions"), ("volume_mm3", "lesion_volume_mm3")])])
        connect_adopted(graph, node, one, (source, "like"), (source, "from_t1w"))
    for one in maps:
        own = steps.AdoptMap(given=str(one.path), name=one.name, others=[str(path) for path in one.others])
        node = make_node(f"map_{one.name}", own, stages.next("bringing maps over"))
        connect_adopted(graph, node, one, (source, "like"), (source, "from_t1w"))
    nodes = [node for node in graph._graph.nodes() if isinstance(node, StepNode)]
    own_maps = [(node, "image") for node in nodes if node.name != "lesions"]
    if own_maps:
        graph.connect(merge(graph, "maps", own_maps), "out", sink, "maps")
    if masks:
        graph.connect(merge(graph, "files", [(graph.get_node("lesions"), "image")]), "out", sink, "files")
    for output, name in (("record", "records"), ("notices", "notices"), ("hashes", "hashes")):
        graph.connect(merge(graph, name, [(node, output) for node in nodes]), "out", sink, name)
    return graph


def make_adopted_mask(name: str, one: Derived, stage: Stage) -> StepNode:
    """The node that adopts a brain or lesion mask."""
    kind = "brain" if one.role == "brain_mask" else "lesions"
    step = steps.AdoptMask(given=str(one.path), kind=kind, others=[str(path) for path in one.others])
    return make_node(name, step, stage)


def connect_adopted(graph: pe.Workflow, node: StepNode, one: Derived, like: Output, from_t1w: Output) -> None:
    """Give a node that adopts a file its target grid, and the way from the file's world."""
    graph.connect(*like, node, "like")
    if one.world == "T1w":
        graph.connect(*from_t1w, node, "transforms")


def connect_lesions_on_t1w(
    graph: pe.Workflow, one: Derived, t1w: Output, megre_to_t1w: Output, stages: Stages
) -> StepNode:
    """The node that brings a lesion mask of the MEGRE to the T1w, for registrations of the T1w to leave it out."""
    node = make_adopted_mask("lesions_on_t1w", one, stages.next("bringing lesions to the T1w"))
    graph.connect(*t1w, node, "like")
    graph.connect(*megre_to_t1w, node, "transforms")
    return node


def adopt_segmentation_step(one: Derived) -> Step:
    """The step that adopts a participant's own segmentation."""
    step = steps.AdoptSegmentation(
        given=str(one.path), name=one.name, others=[str(path) for path in one.others]
    )
    if one.lookup is not None:
        step.inputs.lookup = str(one.lookup)
    return step
