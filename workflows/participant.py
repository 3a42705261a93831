"""The graph of one participant: each T1w to the template once, and a graph for every unit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from r2star.atlas import load_atlas
from r2star.bids.units import Unit
from r2star.settings import Settings
from r2star.workflows import interfaces as steps
from r2star.workflows.nodes import make_node, merge, node_name, orientation_rule
from r2star.workflows.stage import Stages
from r2star.workflows.unit import ANATOMY, init_unit_wf


def init_participant_wf(units: Sequence[Unit], settings: Settings, n_threads: int = 1) -> pe.Workflow:
    """The graph of one participant's units, to be run alone or inside other nipype workflows."""
    graph = pe.Workflow(node_name("sub", units[0].participant))
    atlas_name = settings.atlas
    atlas = None if settings.fit_only else load_atlas(atlas_name)
    anatomies: dict[Path, pe.Workflow] = {}
    for unit in units:
        own = init_unit_wf(unit, settings, atlas, atlas_name, n_threads)
        if atlas is None or unit.t1w is None:
            graph.add_nodes([own])
            continue
        if unit.t1w not in anatomies:
            sharing = tuple(one.label for one in units if one.t1w == unit.t1w)
            anatomies[unit.t1w] = init_anatomy_wf(
                unit.t1w, sharing, len(anatomies), settings, atlas_name, n_threads
            )
        links = [(f"outputnode.{name}", f"inputnode.{name}") for name in ANATOMY]
        graph.connect([(anatomies[unit.t1w], own, links)])
    return graph


def init_anatomy_wf(
    t1w: Path, units: tuple[str, ...], number: int, settings: Settings, atlas_name: str, n_threads: int
) -> pe.Workflow:
    """A T1w checked and registered to the template, for all units that share it."""
    graph = pe.Workflow(f"anatomy_{number + 1}")
    stages = Stages(units)
    sink = pe.Node(IdentityInterface(ANATOMY), "outputnode")
    rule = orientation_rule(settings)
    check = make_node("check", steps.CheckT1w(t1w=str(t1w), **rule), stages.next("checking T1w", share=0.02))
    step = steps.RegisterT1wToTemplate(
        atlas=atlas_name, random_seed=settings.random_seed, sloppy=settings.sloppy
    )
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
