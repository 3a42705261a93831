"""How a unit comes to each template: the shared anatomy of its T1w, the alignment, and the way to further templates."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from r2star.bids.units import Unit
from r2star.settings import Settings
from r2star.workflows.alignment import REFINED, make_megre_to_template, make_refinement
from r2star.workflows.nodes import merge
from r2star.workflows.regions import first
from r2star.workflows.stage import Stages
from r2star.workflows.templates import Template

#: What the units of a participant share, and take in their ``inputnode``.
ANATOMY = [
    "t1w", "t1w_to_template", "template_to_t1w", "t1w_brain_mask", "t1w_measures", "t1w_hashes", "anatomy_record",
    "anatomy_notices",
]  # fmt: skip
#: What is published: name → (node, output) of each part.
Parts = dict[str, list[tuple[pe.Node, str]]]


def anatomy_node(number: int) -> str:
    """The node that takes the T1w's registration to a template, by the template's place."""
    return f"inputnode_{number + 1}" if number else "inputnode"


def connect_alignment(
    graph: pe.Workflow,
    nodes: tuple[pe.Node, ...],
    align: pe.Workflow,
    parts: Parts,
    *,
    has_t1w: bool,
) -> None:
    """Echoes, R2* and the shared anatomy into the alignment; what it makes is published."""
    source, check, fit = nodes
    like = (("magnitude", first), "inputnode.like")
    graph.connect([(check, align, [("magnitude", "inputnode.magnitude"), like])])
    graph.connect([(fit, align, [("r2star_map", "inputnode.r2star_map")])])
    if has_t1w:
        graph.connect([(source, align, [(name, f"inputnode.{name}") for name in ANATOMY[:4]])])
        collect_anatomy(parts, source)
    collect(parts, align, "files", "records", "notices")


def collect_anatomy(parts: Parts, source: pe.Node) -> None:
    """Remember what the shared anatomy gives for publishing."""
    parts["hashes"].append((source, "t1w_hashes"))
    parts["records"].append((source, "anatomy_record"))
    parts["notices"].append((source, "anatomy_notices"))


def add_way(
    graph: pe.Workflow, nodes: tuple[pe.Node, ...], parts: Parts, unit: Unit, settings: Settings,
    template: Template, stages: Stages, n_threads: int,
) -> tuple[pe.Node, str, str]:  # fmt: skip
    """The way to a further template: through the T1w, or by a registration of its own."""
    source, fit, align = nodes
    if unit.t1w is None:
        placed = make_megre_to_template(unit, settings, template, stages, n_threads)
        placed.name = f"register_{template.space}"
        graph.connect([(align, placed, [("outputnode.megre_reference", "megre_reference")])])
        back, there = [(placed, "template_to_image")], [(placed, "image_to_template")]
    else:
        collect_anatomy(parts, source)
        placed = source
        if not settings.sloppy:
            placed = make_refinement(f"refine_{template.space}", unit, template, stages, n_threads)
            graph.connect([
                (source, placed, [(name, name) for name in REFINED]),
                (align, placed, [(("outputnode.to_t1w", first), "megre_to_t1w")]),
            ])  # fmt: skip
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


def collect(parts: Parts, part: pe.Workflow, *names: str) -> None:
    """Remember what a sub-graph gives for publishing."""
    for name in names:
        parts[name].append((part, f"outputnode.{name}"))
