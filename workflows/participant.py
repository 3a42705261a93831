"""The graph of one participant: each anatomy to the template once, and a graph for every unit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from r2star.bids.units import Unit
from r2star.settings import Settings
from r2star.workflows import interfaces as steps
from r2star.workflows.derived import connect_lesions_on_t1w
from r2star.workflows.fitting import make_check
from r2star.workflows.nodes import make_node, merge, node_name, orientation_rule
from r2star.workflows.reference import init_reference_wf
from r2star.workflows.shared import ANATOMY, anatomy_node, shared_anatomy
from r2star.workflows.stage import Stages
from r2star.workflows.templates import templates_of
from r2star.workflows.unit import init_unit_wf


def init_participant_wf(units: Sequence[Unit], settings: Settings, n_threads: int = 1) -> pe.Workflow:
    """The graph of one participant's units, to be run alone or inside other nipype workflows."""
    graph = pe.Workflow(node_name("sub", units[0].participant))
    templates = templates_of(settings)
    anatomies: dict[tuple[Path | str, str], pe.Workflow] = {}
    for unit in units:
        own = init_unit_wf(unit, settings, templates, n_threads)
        graph.add_nodes([own])
        shared = shared_anatomy(unit)
        if shared is None:
            continue
        for number, template in enumerate(templates):
            key = (shared.whose, template.space)
            if key not in anatomies:
                sharing = [one for one in units if shared_anatomy(one) == shared]
                if shared.kind == "t1w":
                    name = f"anatomy_{len(anatomies) + 1}"
                    anatomies[key] = init_anatomy_wf(sharing, name, settings, template.atlas_name, n_threads)
                else:
                    anatomies[key] = init_reference_wf(sharing, settings, template, n_threads)
            links = [
                (f"outputnode.{name}", f"{anatomy_node(number)}.{name}") for name in ANATOMY[shared.kind]
            ]
            graph.connect([(anatomies[key], own, links)])
    return graph


def init_anatomy_wf(
    units: Sequence[Unit], name: str, settings: Settings, atlas_name: str, n_threads: int
) -> pe.Workflow:
    """A T1w checked and registered to the template, for all units that share it; lesions on it pull nothing."""
    graph = pe.Workflow(name)
    stages = Stages(tuple(unit.label for unit in units))
    sink = pe.Node(IdentityInterface(ANATOMY["t1w"]), "outputnode")
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
    hashes, told = [(check, "hashes")], [check, register]
    if not lesions and units[0].lesioned is not None:
        megre, aligned, mask = _lesions_on_t1w(graph, check, units[0].lesioned, settings, stages, n_threads)
        graph.connect(mask, "image", register, "lesion_mask")
        hashes, told = [*hashes, (megre, "hashes"), (mask, "hashes")], [*told, aligned]
    graph.connect([
        (check, register, [("t1w", "t1w")]),
        (check, sink, [("t1w", "t1w")]),
        (register, sink, [("image_to_template", "t1w_to_template"), ("template_to_image", "template_to_t1w")]),
        (register, sink, [("brain_mask", "t1w_brain_mask"), ("measures", "t1w_measures")]),
    ])  # fmt: skip
    lists = {"t1w_hashes": hashes} | {
        f"anatomy_{one}": [(node, one) for node in told] for one in ("record", "notices")
    }
    for output, sources in lists.items():
        graph.connect(merge(graph, f"all_{output}", sources), "out", sink, output)
    return graph


def _lesions_on_t1w(
    graph: pe.Workflow, check: pe.Node, lesioned: Unit, settings: Settings, stages: Stages, n_threads: int
) -> tuple[pe.Node, pe.Node, pe.Node]:
    """A lesion mask drawn on a unit's MEGRE brought to the T1w: its check, the alignment, and the mask."""
    mask = next(one for one in lesioned.derived_as("lesions") if one.world == "MEGRE")
    megre = make_node(
        "check_megre", make_check(lesioned, settings), stages.next("checking the lesions' MEGRE", 0.02)
    )
    combine = make_node("combine", steps.CombineEchoes(), stages.next("combining echoes"))
    step = steps.AlignMegreToT1w(random_seed=settings.random_seed, sloppy=settings.sloppy)
    stage = stages.next("bringing lesions to the T1w", share=0.1)
    aligned = make_node("align_megre", step, stage, n_threads=n_threads, mem_gb=2)
    graph.connect([
        (megre, combine, [("magnitude", "magnitude")]),
        (combine, aligned, [("image", "megre_reference")]),
        (check, aligned, [("t1w", "t1w")]),
    ])  # fmt: skip
    way = merge(graph, "megre_to_t1w", [(aligned, "megre_to_t1w")])
    return megre, aligned, connect_lesions_on_t1w(graph, mask, (check, "t1w"), (way, "out"), stages)
