"""The graph of one participant: each T1w to the template once, and a graph for every unit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nipype.pipeline import engine as pe

from r2star.atlas import load_atlas
from r2star.bids.units import Unit
from r2star.settings import Settings
from r2star.workflows import interfaces as steps
from r2star.workflows.nodes import make_node, node_name
from r2star.workflows.stage import Stages
from r2star.workflows.step import StepNode
from r2star.workflows.unit import init_unit_wf


def init_participant_wf(units: Sequence[Unit], settings: Settings, n_threads: int = 1) -> pe.Workflow:
    """The graph of one participant's units, to be run alone or inside other nipype workflows."""
    graph = pe.Workflow(node_name("sub", units[0].participant))
    atlas_name = settings.atlases[0]
    atlas = None if settings.fit_only else load_atlas(atlas_name)
    anatomies: dict[Path, StepNode] = {}
    for unit in units:
        own = init_unit_wf(unit, settings, atlas, atlas_name, n_threads)
        if atlas is None or unit.t1w is None:
            graph.add_nodes([own])
            continue
        if unit.t1w not in anatomies:
            sharing = tuple(one.label for one in units if one.t1w == unit.t1w)
            anatomies[unit.t1w] = _register_anatomy(
                unit.t1w, sharing, len(anatomies), settings, atlas_name, n_threads
            )
        graph.connect([(anatomies[unit.t1w], own, [
            ("image_to_template", "inputnode.t1w_to_template"),
            ("template_to_image", "inputnode.template_to_t1w"),
            ("brain_mask", "inputnode.t1w_brain_mask"),
            ("record", "inputnode.anatomy_record"),
            ("notices", "inputnode.anatomy_notices"),
        ])])  # fmt: skip
    return graph


def _register_anatomy(
    t1w: Path, units: tuple[str, ...], number: int, settings: Settings, atlas_name: str, n_threads: int
) -> StepNode:
    """A T1w to the template, for all units that share it."""
    step = steps.RegisterT1wToTemplate(
        t1w=str(t1w), atlas=atlas_name, random_seed=settings.random_seed, sloppy=settings.sloppy
    )
    stage = Stages(units).next("registering T1w to template", share=0.65)
    return make_node(f"anatomy_{number + 1}", step, stage, n_threads=n_threads, mem_gb=3)
