"""The graph that brings template, T1w and MEGRE together: transforms and the brain on the MEGRE grid.

Inputs: ``magnitude``, ``like`` (an image on the MEGRE grid), ``r2star_map`` if iron is to drive the registration and,
where there is a T1w, its registration to the template (``t1w``, ``t1w_to_template``, ``template_to_t1w``,
``t1w_brain_mask``). Outputs: ``to_megre`` and ``to_template`` (chains of transforms, the one next to the target
grid first), ``brain_mask``, ``measures`` (of the registrations), ``files``, ``records``, ``notices``.
"""

from __future__ import annotations

from typing import NamedTuple

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from r2star.atlas import Atlas
from r2star.settings import Settings
from r2star.workflows import interfaces as steps
from r2star.workflows.nodes import make_node, merge
from r2star.workflows.stage import Stages

INPUTS = ["magnitude", "like", "r2star_map", "t1w", "t1w_to_template", "template_to_t1w", "t1w_brain_mask"]
OUTPUTS = ["to_megre", "to_template", "brain_mask", "measures", "files", "records", "notices"]
#: An output of a node.
Output = tuple[pe.Node, str]


class _Route(NamedTuple):
    """How MEGRE and template come together: nodes that do it, and the chains between the grids."""

    nodes: list[pe.Node]
    to_megre: list[Output]
    to_template: list[Output]


def init_alignment_wf(
    settings: Settings,
    atlas: Atlas,
    atlas_name: str,
    stages: Stages,
    n_threads: int,
    *,
    has_t1w: bool,
    by_iron: bool,
) -> pe.Workflow:
    """The alignment of one unit; without a T1w the MEGRE itself is registered to the template."""
    graph = pe.Workflow("alignment")
    source = pe.Node(IdentityInterface(INPUTS), "inputnode")
    sink = pe.Node(IdentityInterface(OUTPUTS), "outputnode")
    combine = make_node("combine", steps.CombineEchoes(), stages.next("combining echoes"))
    mask = make_node(
        "brain_mask", steps.ResampleBrainMask(brain_mask=str(atlas.brain_mask)), stages.next("brain mask")
    )
    route = (_through_t1w if has_t1w else _directly)(
        graph, source, settings, atlas_name, stages, n_threads, by_iron
    )
    to_megre, to_template = (merge(graph, name, getattr(route, name)) for name in ("to_megre", "to_template"))
    files = merge(graph, "files", [*route.to_megre, *route.to_template, (mask, "image")])
    told = (combine, *route.nodes, mask)
    records = merge(graph, "records", [(node, "record") for node in told])
    notices = merge(graph, "notices", [(node, "notices") for node in told])
    lists = (files, records, notices, merge(graph, "measures", [(node, "measures") for node in route.nodes]))
    graph.connect([
        (source, combine, [("magnitude", "magnitude")]),
        (combine, route.nodes[0], [("image", "megre_reference")]),
        (combine, mask, [("image", "megre_reference")]),
        (to_megre, mask, [("out", "transforms")]),
        (source, mask, [("like", "like")]),
        (mask, sink, [("image", "brain_mask")]),
        *[(node, sink, [("out", node.name)]) for node in (to_megre, to_template, *lists)],
    ])  # fmt: skip
    return graph


def _through_t1w(
    graph: pe.Workflow, source: pe.Node, settings: Settings, atlas_name: str, stages: Stages, n_threads: int,
    by_iron: bool,
) -> _Route:  # fmt: skip
    """MEGRE on the T1w, which lies on the template already; iron corrects that for this unit."""
    stage = stages.next("registering to T1w", share=0.15)
    options = {"random_seed": settings.random_seed, "sloppy": settings.sloppy}
    rigid = make_node("register", steps.RegisterMegreToT1w(**options), stage, n_threads=n_threads, mem_gb=2)
    graph.connect([(source, rigid, [("t1w", "t1w"), ("t1w_brain_mask", "t1w_brain_mask")])])
    nodes, placed = [rigid], source
    if by_iron and not settings.sloppy:
        placed = make_node(
            "refine", steps.RefineByIron(atlas=atlas_name), stages.next("refining by iron", share=0.1),
            n_threads=n_threads, mem_gb=1,
        )  # fmt: skip
        shared = ("t1w", "r2star_map", "t1w_to_template", "template_to_t1w")
        graph.connect([
            (source, placed, [(name, name) for name in shared]),
            (rigid, placed, [("megre_to_t1w", "megre_to_t1w")]),
        ])  # fmt: skip
        nodes.append(placed)
    return _Route(
        nodes,
        [(rigid, "t1w_to_megre"), (placed, "template_to_t1w")],
        [(placed, "t1w_to_template"), (rigid, "megre_to_t1w")],
    )


def _directly(
    graph: pe.Workflow, source: pe.Node, settings: Settings, atlas_name: str, stages: Stages, n_threads: int,
    by_iron: bool,
) -> _Route:  # fmt: skip
    """MEGRE on the template."""
    stage = stages.next("registering to template", share=0.8)
    interface = steps.RegisterMegreToTemplate(
        atlas=atlas_name, random_seed=settings.random_seed, sloppy=settings.sloppy
    )
    register = make_node("register", interface, stage, n_threads=n_threads, mem_gb=3)
    if by_iron:
        graph.connect(source, "r2star_map", register, "r2star_map")
    return _Route([register], [(register, "template_to_image")], [(register, "image_to_template")])
