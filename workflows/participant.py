"""The graph of one participant: each T1w to the template once, and a graph for every unit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from r2star.bids.units import Unit
from r2star.settings import Settings
from r2star.workflows import interfaces as steps
from r2star.workflows.nodes import make_node, merge, node_name, orientation_rule
from r2star.workflows.stage import Stages
from r2star.workflows.templates import templates_of
from r2star.workflows.unit import init_unit_wf
from r2star.workflows.ways import ANATOMY, anatomy_node


def init_participant_wf(units: Sequence[Unit], settings: Settings, n_threads: int = 1) -> pe.Workflow:
    """The graph of one participant's units, to be run alone or inside other nipype workflows."""
    graph = pe.Workflow(node_name("sub", units[0].participant))
    templates = templates_of(settings)
    anatomies: dict[tuple[Path, str], pe.Workflow] = {}
    for unit in units:
        own = init_unit_wf(unit, settings, templates, n_threads)
        graph.add_nodes([own])
        if unit.t1w is None:
            continue
        for number, template in enumerate(templates):
            key = (unit.t1w, template.space)
            if key not in anatomies:
                sharing = [one for one in units if one.t1w == unit.t1w]
                anatomies[key] = init_anatomy_wf(
                    sharing, len(anatomies), settings, template.atlas_name, n_threads
                )
            links = [(f"outputnode.{name}", f"{anatomy_node(number)}.{name}") for name in ANATOMY]
            graph.connect([(anatomies[key], own, links)])
    return graph


def init_anatomy_wf(
    units: Sequence[Unit], number: int, settings: Settings, atlas_name: str, n_threads: int
) -> pe.Workflow:
    """A T1w checked and registered to the template, for all units that share it; lesions on it pull nothing."""
    graph = pe.Workflow(f"anatomy_{number + 1}")
    stages = Stages(tuple(unit.label for unit in units))
    sink = pe.Node(IdentityInterface(ANATOMY), "outputnode")
    rule = orientation_rule(settings)
    check = make_node(
        "check", steps.CheckT1w(t1w=str(units[0].t1w), **rule), stages.next("checking T1w", share=0.02)
    )
    step = steps.RegisterT1wToTemplate(
        atlas=atlas_name, random_seed=settings.random_seed, sloppy=settings.sloppy
    )
    lesions = [one for unit in units for one in unit.derived_as("lesions") if one.world == "T1w"]
    if lesions:
        step.inputs.lesion_mask = str(lesions[0].path)
    stage = stages.next("registering T1w to template", share=0.6)
    register = make_node("register", step, stage, n_threads=n_threads, mem_gb=3)
    graph.connect([
        (check, register, [("t1w", "t1w")]),
        (check, sink, [("t1w", "t1w"), ("hashes", "t1w_hashes")]),
        (register, sink, [("image_to_template", "t1w_to_template"), ("template_to_image", "template_to_t1w")]),
        (register, sink, [("brain_mask", "t1w_brain_mask"), ("measures", "t1w_measures")]),
    ])  # fmt: skip
    for name in ("record", "notices"):
        both = merge(graph, f"{name}_of_both", [(check, name), (register, name)])
        graph.connect(both, "out", sink, f"anatomy_{name}")
    return graph
