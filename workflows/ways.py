"""How a unit comes to each template: the anatomy that it shares, the alignment, and the way to further templates."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from r2star.bids.units import Unit
from r2star.settings import Settings
from r2star.workflows.alignment import (
    MOVES,
    PLACED,
    REFINED,
    make_joined,
    make_megre_to_template,
    make_refinement,
)
from r2star.workflows.nodes import Output, merge
from r2star.workflows.regions import first
from r2star.workflows.shared import Shared, shared_anatomy
from r2star.workflows.stage import Stages
from r2star.workflows.templates import Template

#: What is published: name → (node, output) of each part.
Parts = dict[str, list[Output]]


def connect_alignment(
    graph: pe.Workflow,
    nodes: tuple[pe.Node, ...],
    align: pe.Workflow,
    parts: Parts,
    shared: Shared | None,
) -> None:
    """Echoes, R2* and the shared anatomy into the alignment; what it makes is published."""
    source, check, fit = nodes
    like = (("magnitude", first), "inputnode.like")
    graph.connect([(check, align, [("magnitude", "inputnode.magnitude"), like])])
    if shared is None or shared.kind == "t1w":  # else R2* of the session that is shared has driven the warp
        graph.connect([(fit, align, [("r2star_map", "inputnode.r2star_map")])])
    if shared is not None:
        graph.connect([(source, align, [(name, f"inputnode.{name}") for name in PLACED[shared.kind]])])
        collect_anatomy(parts, source, shared)
    collect(parts, align, "files", "records", "notices")


def collect_anatomy(parts: Parts, source: pe.Node, shared: Shared) -> None:
    """Remember what the shared anatomy gives for publishing."""
    parts["hashes"].append((source, f"{shared.kind}_hashes"))
    parts["records"].append((source, "anatomy_record"))
    parts["notices"].append((source, "anatomy_notices"))


def add_way(
    graph: pe.Workflow, nodes: tuple[pe.Node, ...], parts: Parts, unit: Unit, settings: Settings,
    template: Template, stages: Stages, n_threads: int,
) -> tuple[pe.Node, str, str]:  # fmt: skip
    """The way to a further template: through what is shared, or by a registration of its own."""
    source, fit, align = nodes
    shared = shared_anatomy(unit)
    placed: pe.Node = source
    if shared is not None:
        collect_anatomy(parts, source, shared)
    if shared is None:
        placed = make_megre_to_template(unit, settings, template, stages, n_threads)
        placed.name = f"register_{template.space}"
        graph.connect([(align, placed, [("outputnode.megre_reference", "megre_reference")])])
        back, there = [(placed, "template_to_image")], [(placed, "image_to_template")]
    elif shared.kind == "reference":
        back, there = _through_reference(graph, source, align, unit, f"join_{template.space}", stages)
    else:
        if not settings.sloppy:
            placed = _refined(graph, source, align, unit, template, stages, n_threads)
        back = [(align, "outputnode.from_t1w"), (placed, "template_to_t1w")]
        there = [(placed, "t1w_to_template"), (align, "outputnode.to_t1w")]
    parts["files"] += [back[-1], there[0]]
    if placed is not source:
        parts["records"].append((placed, "record"))
        parts["notices"].append((placed, "notices"))
        graph.connect(fit, "r2star_map", placed, "r2star_map")
    way = pe.Node(IdentityInterface(["to_megre", "to_template"]), f"way_{template.space}")
    for name, chain in (("to_megre", back), ("to_template", there)):
        graph.connect(merge(graph, f"{name}_{template.space}", chain), "out", way, name)
    return way, "to_megre", "to_template"


def _refined(
    graph: pe.Workflow, source: pe.Node, align: pe.Workflow, unit: Unit, template: Template, stages: Stages,
    n_threads: int,
) -> pe.Node:  # fmt: skip
    """The T1w's way to a further template as the unit's iron corrects it; lesions of either image are left out."""
    placed = make_refinement(f"refine_{template.space}", unit, template, stages, n_threads)
    graph.connect([
        (source, placed, [(name, name) for name in REFINED]),
        (align, placed, [(("outputnode.to_t1w", first), "megre_to_t1w")]),
    ])  # fmt: skip
    if any(one.world == "MEGRE" for one in unit.derived_as("lesions")):
        graph.connect([(align, placed, [("outputnode.lesions_on_t1w", "lesion_mask")])])
    return placed


def _through_reference(
    graph: pe.Workflow, source: pe.Node, align: pe.Workflow, unit: Unit, name: str, stages: Stages
) -> tuple[list[Output], list[Output]]:
    """To a further template and back by the rigid motion between sessions, which is there already."""
    there, back = PLACED["reference"][1:3]
    if unit.is_reference:
        return [(source, back)], [(source, there)]
    joined = make_joined(name, stages)
    graph.connect([
        (source, joined, [(there, there), (back, back)]),
        (align, joined, [(f"outputnode.{move}", move) for move in MOVES]),
    ])  # fmt: skip
    return [(joined, "template_to_image")], [(joined, "image_to_template")]


def collect(parts: Parts, part: pe.Workflow, *names: str) -> None:
    """Remember what a sub-graph gives for publishing."""
    for name in names:
        parts[name].append((part, f"outputnode.{name}"))
