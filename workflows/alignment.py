"""The graph that brings template, T1w and MEGRE together: transforms and the brain on the MEGRE grid.

Inputs: ``magnitude``, ``like`` (an image on the MEGRE grid), ``r2star_map``, as iron drives the registration, and,
where there is a T1w, its registration to the template (``t1w``, ``t1w_to_template``, ``template_to_t1w``,
``t1w_brain_mask``), or the same of the session whose MEGRE stands in its place (``reference``, ...). Outputs:
``to_megre`` and ``to_template`` (chains of transforms, the one next to the target grid first), ``from_t1w`` and
``to_t1w`` (the same between T1w and MEGRE), ``megre_to_reference`` and ``reference_to_megre`` (between sessions),
``lesions_on_t1w`` (a mask that was drawn on the MEGRE), ``megre_reference``, ``brain_mask``, ``measures`` (of the
registrations), ``files``, ``records``, ``notices``, ``hashes`` of a brain mask that was given.
"""

from __future__ import annotations

from typing import NamedTuple

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from r2star.bids.units import Derived, Unit
from r2star.settings import Settings
from r2star.workflows import interfaces as steps
from r2star.workflows.derived import connect_adopted, connect_lesions_on_t1w, make_adopted_mask
from r2star.workflows.nodes import Output, make_node, merge
from r2star.workflows.stage import Stages
from r2star.workflows.step import StepNode
from r2star.workflows.templates import Template

#: What units take of the anatomy that they share, by whether it is a T1w or the MEGRE of a session.
PLACED = {
    kind: [kind, f"{kind}_to_template", f"template_to_{kind}", f"{kind}_brain_mask"]
    for kind in ("t1w", "reference")
}
INPUTS = ["magnitude", "like", "r2star_map", *PLACED["t1w"], *PLACED["reference"]]
#: Between the MEGRE of two sessions.
MOVES = ("megre_to_reference", "reference_to_megre")
#: What a refinement takes of the T1w.
REFINED = ("t1w", "t1w_to_template", "template_to_t1w")
OUTPUTS = [
    "to_megre", "to_template", "from_t1w", "to_t1w", "megre_to_reference", "reference_to_megre", "megre_reference",
    "lesions_on_t1w", "brain_mask", "measures", "files", "records", "notices", "hashes",
]  # fmt: skip


class Route(NamedTuple):
    """How MEGRE and template come together: nodes that do it, and the chains between the grids."""

    nodes: list[pe.Node]
    to_megre: list[Output]
    to_template: list[Output]


def init_alignment_wf(
    unit: Unit, settings: Settings, template: Template, stages: Stages, n_threads: int
) -> pe.Workflow:
    """The alignment of one unit; without a T1w the MEGRE itself is registered to the template.

    Another program's brain mask stands in the place of the template's.
    """
    graph = pe.Workflow("alignment")
    source = pe.Node(IdentityInterface(INPUTS), "inputnode")
    sink = pe.Node(IdentityInterface(OUTPUTS), "outputnode")
    combine = make_node("combine", steps.CombineEchoes(), stages.next("combining echoes"))
    if unit.t1w is not None:
        route = _through_t1w(graph, (source, sink), unit, settings, template, stages, n_threads)
    elif unit.reference is not None:
        route = _through_reference(graph, (source, sink), unit, settings, stages, n_threads)
    else:
        register = make_megre_to_template(unit, settings, template, stages, n_threads)
        graph.connect(source, "r2star_map", register, "r2star_map")
        route = Route([register], [(register, "template_to_image")], [(register, "image_to_template")])
    to_megre, to_template = (merge(graph, name, getattr(route, name)) for name in ("to_megre", "to_template"))
    given = next(iter(unit.derived_as("brain_mask")), None)
    mask = _make_mask(graph, (source, combine, to_megre, sink), template, stages, given)
    files = merge(graph, "files", [*route.to_megre, *route.to_template, (mask, "image")])
    told = (combine, *route.nodes, mask)
    records = merge(graph, "records", [(node, "record") for node in told])
    notices = merge(graph, "notices", [(node, "notices") for node in told])
    lists = [files, records, notices]
    if route.nodes:
        lists.append(merge(graph, "measures", [(node, "measures") for node in route.nodes]))
        graph.connect(combine, "image", route.nodes[0], "megre_reference")
    graph.connect([
        (source, combine, [("magnitude", "magnitude")]),
        (combine, sink, [("image", "megre_reference")]),
        (mask, sink, [("image", "brain_mask")]),
        *[(node, sink, [("out", node.name)]) for node in (to_megre, to_template, *lists)],
    ])  # fmt: skip
    return graph


def _through_t1w(
    graph: pe.Workflow, ends: tuple[pe.Node, pe.Node], unit: Unit, settings: Settings, template: Template,
    stages: Stages, n_threads: int,
) -> Route:  # fmt: skip
    """MEGRE on the T1w, which lies on the template already; iron corrects that for this unit."""
    source, sink = ends
    stage = stages.next("registering to T1w", share=0.15)
    options = {"random_seed": settings.random_seed, "sloppy": settings.sloppy}
    rigid = make_node("register", steps.RegisterMegreToT1w(**options), stage, n_threads=n_threads, mem_gb=2)
    graph.connect([(source, rigid, [("t1w", "t1w"), ("t1w_brain_mask", "t1w_brain_mask")])])
    for name, output in (("from_t1w", "t1w_to_megre"), ("to_t1w", "megre_to_t1w")):
        graph.connect(merge(graph, name, [(rigid, output)]), "out", sink, name)
    nodes, placed = [rigid], source
    if not settings.sloppy:
        placed = make_refinement("refine", unit, template, stages, n_threads)
        graph.connect([
            (source, placed, [(name, name) for name in ("r2star_map", *REFINED)]),
            (rigid, placed, [("megre_to_t1w", "megre_to_t1w")]),
        ])  # fmt: skip
        for one in unit.derived_as("lesions"):
            if one.world == "MEGRE":
                way = (graph.get_node("to_t1w"), "out")
                lesions = connect_lesions_on_t1w(graph, one, (source, "t1w"), way, stages)
                graph.connect(
                    [
                        (lesions, placed, [("image", "lesion_mask")]),
                        (lesions, sink, [("image", "lesions_on_t1w")]),
                    ]
                )
        nodes.append(placed)
    return Route(
        nodes,
        [(rigid, "t1w_to_megre"), (placed, "template_to_t1w")],
        [(placed, "t1w_to_template"), (rigid, "megre_to_t1w")],
    )


def _through_reference(
    graph: pe.Workflow, ends: tuple[pe.Node, pe.Node], unit: Unit, settings: Settings, stages: Stages, n_threads: int
) -> Route:  # fmt: skip
    """MEGRE on that of another session, which lies on the template already; that one goes its own way."""
    source, sink = ends
    if unit.is_reference:
        return Route([], [(source, "template_to_reference")], [(source, "reference_to_template")])
    step = steps.RegisterMegreToReference(random_seed=settings.random_seed, sloppy=settings.sloppy)
    stage = stages.next("registering to the shared session", share=0.15)
    rigid = make_node("register", step, stage, n_threads=n_threads, mem_gb=2)
    joined, moves = make_joined("join", stages), [(name, name) for name in MOVES]
    _, there, back, brain = PLACED["reference"]
    graph.connect([
        (source, rigid, [("reference", "reference"), (brain, brain)]),
        (source, joined, [(there, there), (back, back)]),
        (rigid, joined, moves),
        (rigid, sink, moves),
    ])  # fmt: skip
    return Route([rigid], [(joined, "template_to_image")], [(joined, "image_to_template")])


def make_joined(name: str, stages: Stages) -> StepNode:
    """The way to a template through another session."""
    return make_node(name, steps.JoinTransforms(), stages.next("joining transforms", 0.01), mem_gb=1)


def make_refinement(name: str, unit: Unit, template: Template, stages: Stages, n_threads: int) -> StepNode:
    """The correction of a T1w's place on a template by a unit's R2*; its lesions pull nothing."""
    step = steps.RefineByIron(atlas=template.atlas_name)
    for one in unit.derived_as("lesions"):
        if one.world == "T1w":
            step.inputs.lesion_mask = str(one.path)
    return make_node(name, step, stages.next("refining by iron", share=0.1), n_threads=n_threads, mem_gb=1)


def make_megre_to_template(
    unit: Unit, settings: Settings, template: Template, stages: Stages, n_threads: int
) -> StepNode:
    """The registration of a unit without a T1w to one template; its lesions pull nothing."""
    step = steps.RegisterMegreToTemplate(
        atlas=template.atlas_name, random_seed=settings.random_seed, sloppy=settings.sloppy
    )
    for one in unit.derived_as("lesions"):
        step.inputs.lesion_mask = str(one.path)
    stage = stages.next("registering to template", share=0.8)
    return make_node("register", step, stage, n_threads=n_threads, mem_gb=3)


def _make_mask(
    graph: pe.Workflow, nodes: tuple[pe.Node, ...], template: Template, stages: Stages, given: Derived | None
) -> StepNode:
    """The brain on the MEGRE grid: the template's, or one that was given."""
    source, combine, to_megre, sink = nodes
    stage = stages.next("brain mask")
    if given is None:
        mask = make_node(
            "brain_mask", steps.ResampleBrainMask(brain_mask=str(template.atlas.brain_mask)), stage
        )
        graph.connect([
            (combine, mask, [("image", "megre_reference")]),
            (to_megre, mask, [("out", "transforms")]),
            (source, mask, [("like", "like")]),
        ])  # fmt: skip
        return mask
    mask = make_adopted_mask("brain_mask", given, stage)
    connect_adopted(graph, mask, given, (source, "like"), (graph.get_node("from_t1w"), "out"))
    graph.connect(merge(graph, "hashes", [(mask, "hashes")]), "out", sink, "hashes")
    return mask
