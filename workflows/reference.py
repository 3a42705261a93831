"""The graph of the session that places the others, where a participant has no T1w: checked, fitted, registered.

It stands beside the graphs of the units and not in that session's own, as a job may be asked for any session alone;
its place in the work folder goes by its name, so that the next job finds it done.
"""

from __future__ import annotations

from collections.abc import Sequence

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from r2star.bids.units import Unit
from r2star.settings import Settings
from r2star.workflows import interfaces as steps
from r2star.workflows.alignment import make_megre_to_template
from r2star.workflows.denoising import connect_echoes
from r2star.workflows.fitting import make_check, make_fit
from r2star.workflows.nodes import make_node, merge, node_name
from r2star.workflows.shared import ANATOMY
from r2star.workflows.stage import Stages
from r2star.workflows.templates import Template


def init_reference_wf(
    units: Sequence[Unit], settings: Settings, template: Template, n_threads: int
) -> pe.Workflow:
    """The MEGRE that ``units`` share registered to one template, its R2* driving the warp; its lesions pull nothing.

    What is found wrong in its images is told by its own unit; the others hear of the registration alone.
    """
    reference = units[0].reference
    if reference is None:
        msg = f"{units[0].label} shares no session's MEGRE"
        raise ValueError(msg)
    graph = pe.Workflow(node_name("reference", f"{reference.label}_{template.space}"))
    stages = Stages(tuple(unit.label for unit in units))
    lesions = [path for one in reference.derived for path in (one.path, *one.others)]
    check = make_node(
        "check", make_check(reference, settings, lesions), stages.next("checking the shared session", 0.02)
    )
    stage = stages.next("fitting R2* of the shared session", 0.04)
    fit = make_node("fit", make_fit(reference, settings), stage, n_threads=n_threads)
    connect_echoes(graph, (check, fit), reference, settings, stages)
    combine = make_node("combine", steps.CombineEchoes(), stages.next("combining echoes"))
    register = make_megre_to_template(reference, settings, template, stages, n_threads)
    sink = pe.Node(IdentityInterface(ANATOMY["reference"]), "outputnode")
    ways = [("image_to_template", "reference_to_template"), ("template_to_image", "template_to_reference")]
    ways += [("brain_mask", "reference_brain_mask"), ("measures", "reference_measures")]
    graph.connect([
        (check, combine, [("magnitude", "magnitude")]),
        (combine, register, [("image", "megre_reference")]),
        (fit, register, [("r2star_map", "r2star_map")]),
        (check, sink, [("hashes", "reference_hashes")]),
        (combine, sink, [("image", "reference")]),
        (register, sink, ways),
    ])  # fmt: skip
    for name in ("record", "notices"):
        graph.connect(merge(graph, name, [(register, name)]), "out", sink, f"anatomy_{name}")
    return graph
