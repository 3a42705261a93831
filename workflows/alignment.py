"""The graph that brings template, T1w and MEGRE together: transforms and the brain on the MEGRE grid.

Inputs: ``magnitude``, ``like`` (an image on the MEGRE grid) and, where there is a T1w, its registration to the
template (``t1w``, ``t1w_to_template``, ``template_to_t1w``, ``t1w_brain_mask``), else ``r2star_map`` if iron is to
drive the registration. Outputs: ``to_megre`` and ``to_template`` (chains of transforms, the one next to the target
grid first), ``brain_mask``, ``files``, ``records``, ``notices``.
"""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from r2star.atlas import Atlas
from r2star.settings import Settings
from r2star.workflows import interfaces as steps
from r2star.workflows.nodes import make_node, merge
from r2star.workflows.stage import Stages

INPUTS = ["magnitude", "like", "r2star_map", "t1w", "t1w_to_template", "template_to_t1w", "t1w_brain_mask"]
OUTPUTS = ["to_megre", "to_template", "brain_mask", "files", "records", "notices"]


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
    options = {"random_seed": settings.random_seed, "sloppy": settings.sloppy}
    if has_t1w:
        stage = stages.next("registering to T1w", share=0.15)
        register = make_node(
            "register", steps.RegisterMegreToT1w(**options), stage, n_threads=n_threads, mem_gb=2
        )
        graph.connect([(source, register, [("t1w", "t1w"), ("t1w_brain_mask", "t1w_brain_mask")])])
        forward, backward = "megre_to_t1w", "t1w_to_megre"
        to_megre = merge(graph, "to_megre", [(register, backward), (source, "template_to_t1w")])
        to_template = merge(graph, "to_template", [(source, "t1w_to_template"), (register, forward)])
    else:
        stage = stages.next("registering to template", share=0.8)
        interface = steps.RegisterMegreToTemplate(atlas=atlas_name, **options)
        register = make_node("register", interface, stage, n_threads=n_threads, mem_gb=3)
        if by_iron:
            graph.connect(source, "r2star_map", register, "r2star_map")
        forward, backward = "image_to_template", "template_to_image"
        to_megre = merge(graph, "to_megre", [(register, backward)])
        to_template = merge(graph, "to_template", [(register, forward)])
    files = merge(graph, "files", [(register, forward), (register, backward), (mask, "image")])
    records = merge(graph, "records", [(node, "record") for node in (combine, register, mask)])
    notices = merge(graph, "notices", [(node, "notices") for node in (combine, register, mask)])
    graph.connect([
        (source, combine, [("magnitude", "magnitude")]),
        (combine, register, [("image", "megre_reference")]),
        (combine, mask, [("image", "megre_reference")]),
        (to_megre, mask, [("out", "transforms")]),
        (source, mask, [("like", "like")]),
        (mask, sink, [("image", "brain_mask")]),
        *[(node, sink, [("out", node.name)]) for node in (to_megre, to_template, files, records, notices)],
    ])  # fmt: skip
    return graph
