"""The graph of one unit: verify, fit, align, map the field, place regions, tabulate, publish.

Its ``inputnode`` takes the registration of the anatomy that units of a participant share (a T1w, or the MEGRE of a
session) to the first template, ``inputnode_2`` to the second, and so on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from r2star.bids.queries import dataset_names
from r2star.bids.units import Unit
from r2star.settings import Settings
from r2star.workflows import interfaces as steps
from r2star.workflows.alignment import init_alignment_wf
from r2star.workflows.denoising import connect_echoes
from r2star.workflows.derived import init_derived_wf
from r2star.workflows.field import (
    has_field,
    is_corrected,
    make_b0_node,
    make_bias_node,
)
from r2star.workflows.fitting import make_check, make_fit
from r2star.workflows.nodes import make_node, merge, node_name
from r2star.workflows.quality import connect_anatomy, connect_maps, make_quality_node
from r2star.workflows.regions import MAPS, first, init_segmentation_wf, init_template_wf
from r2star.workflows.shared import ANATOMY, anatomy_node, shared_anatomy
from r2star.workflows.stage import Stages
from r2star.workflows.templates import Template
from r2star.workflows.ways import Parts, add_way, collect, connect_alignment


def init_unit_wf(
    unit: Unit, settings: Settings, templates: Sequence[Template], n_threads: int
) -> pe.Workflow:
    """The graph of one unit; without a template (``--fit-only``) it ends with the maps."""
    graph = pe.Workflow(node_name("unit", unit.label))
    stages = Stages((unit.label,))
    check = make_node("check", make_check(unit, settings), stages.next("checking inputs", 0.02))
    fit = make_node("fit", make_fit(unit, settings), stages.next("fitting R2*", 0.04), n_threads=n_threads)
    publish = make_node(
        "publish", _publish(unit, settings), stages.next("writing results", 0.02, is_last=True)
    )
    between = connect_echoes(graph, (check, fit), unit, settings, stages)
    parts: Parts = {"files": [(fit, "derivatives")], "records": [(check, "record"), (fit, "record")]}
    parts |= {"notices": [(check, "notices"), (fit, "notices")], "hashes": [(check, "hashes")]}
    for node in between:
        parts["records"].append((node, "record"))
        parts["notices"].append((node, "notices"))
    quality = make_quality_node(unit, templates, stages)
    connect_maps(graph, check, fit, quality)
    if templates:
        _add_anatomy(graph, (check, fit, quality), parts, unit, settings, templates, stages, n_threads)
    parts["files"].append((quality, "derivatives"))
    parts["records"].append((quality, "record"))
    for name in ("files", "records", "hashes"):
        graph.connect(merge(graph, name, parts[name]), "out", publish, name)
    return graph


def _add_anatomy(
    graph: pe.Workflow, nodes: tuple[pe.Node, ...], parts: Parts, unit: Unit, settings: Settings,
    templates: Sequence[Template], stages: Stages, n_threads: int,
) -> None:  # fmt: skip
    """Everything that needs to know where the brain is: alignment, field, regions."""
    check, fit, quality = nodes
    corrected = is_corrected(unit, settings)
    driver, shared = fit, shared_anatomy(unit)
    if corrected and unit.reference is None:
        # a corrected fit waits for the brain mask, so it can't drive the registration that gives the mask
        first_fit = stages.next("fitting R2* for the registration", 0.04)
        driver = make_node("first_fit", make_fit(unit, settings), first_fit, n_threads=n_threads)
        graph.connect([(check, driver, [("magnitude", "magnitude"), ("noise", "noise")])])
    align = init_alignment_wf(unit, settings, templates[0], stages, n_threads)
    fields = ANATOMY[shared.kind if shared else "t1w"]
    sources = [pe.Node(IdentityInterface(fields), anatomy_node(number)) for number in range(len(templates))]
    connect_alignment(graph, (sources[0], check, driver), align, parts, shared)
    if unit.derived_as("brain_mask"):
        collect(parts, align, "hashes")
    ways = [(align, "outputnode.to_megre", "outputnode.to_template")]
    for source, template in zip(sources[1:], templates[1:], strict=True):
        ends = (source, driver, align)
        ways.append(add_way(graph, ends, parts, unit, settings, template, stages, n_threads))
    derived = init_derived_wf(unit, stages)
    if derived is not None:
        _connect_derived(graph, check, align, derived, parts, has_lesions=bool(unit.derived_as("lesions")))
    field = has_field(unit, settings)
    measured = [init_template_wf(unit, settings, one, stages, with_field=field) for one in templates]
    for way, one in zip(ways, measured, strict=True):
        graph.connect([(way[0], one, [(way[1], "inputnode.to_megre"), (way[2], "inputnode.to_template")])])
    for segmentation in unit.derived_as("segmentation"):
        own = init_segmentation_wf(unit, settings, segmentation, stages, with_field=field)
        _connect_segmentation(graph, check, align, own, parts, in_t1w=segmentation.world == "T1w")
        measured.append(own)
    if field:
        b0 = make_b0_node(unit, settings, stages, n_threads)
        bias = make_bias_node(unit, settings, stages, n_threads)
        _connect_field(graph, (check, fit, b0, bias), align, measured, parts, corrected=corrected)
        graph.connect(bias, "bias_map", quality, "bias_map")
    _connect_measured(graph, (check, fit), derived, measured, parts, unit)
    regions = measured[0] if templates[0].measured else None
    measures = [] if unit.is_reference else [(align, "outputnode.measures")]
    measures += [(sources[0], f"{shared.kind}_measures")] if shared else []
    connect_anatomy(graph, quality, align, regions, measures)


def _connect_derived(
    graph: pe.Workflow, check: pe.Node, align: pe.Workflow, derived: pe.Workflow, parts: Parts, *,
    has_lesions: bool,
) -> None:  # fmt: skip
    graph.connect([
        (check, derived, [(("magnitude", first), "inputnode.like")]),
        (align, derived, [("outputnode.from_t1w", "inputnode.from_t1w")]),
    ])  # fmt: skip
    collect(parts, derived, "records", "notices", "hashes", *(["files"] if has_lesions else []))


def _connect_segmentation(
    graph: pe.Workflow, check: pe.Node, align: pe.Workflow, own: pe.Workflow, parts: Parts, *, in_t1w: bool
) -> None:
    graph.connect([(check, own, [(("magnitude", first), "inputnode.like")])])
    if in_t1w:
        ways = [(f"outputnode.{name}", f"inputnode.{name}") for name in ("from_t1w", "to_t1w")]
        graph.connect([(align, own, ways)])
    collect(parts, own, "hashes")


def _connect_field(
    graph: pe.Workflow, nodes: tuple[pe.Node, ...], align: pe.Workflow, measured: Sequence[pe.Workflow],
    parts: Parts, *, corrected: bool,
) -> None:  # fmt: skip
    """The field between alignment and table; a corrected fit waits for it."""
    check, fit, b0, bias = nodes
    graph.connect([
        (check, b0, [("phase", "phase"), ("magnitude", "magnitude")]),
        (align, b0, [("outputnode.brain_mask", "brain_mask")]),
        (b0, bias, [("gradient_map", "gradient_map"), ("facts", "facts")]),
        (fit, bias, [("r2star_map", "r2star_map")]),
        *[(bias, one, [("bias_map", "inputnode.bias_map")]) for one in measured],
    ])  # fmt: skip
    if corrected:
        graph.connect([(b0, fit, [("gradient_map", "gradient_map"), ("facts", "field_facts")])])
    for node in (b0, bias):
        parts["files"].append((node, "derivatives"))
        parts["records"].append((node, "record"))
        parts["notices"].append((node, "notices"))


def _connect_measured(
    graph: pe.Workflow, nodes: tuple[pe.Node, pe.Node], derived: pe.Workflow | None,
    measured: Sequence[pe.Workflow], parts: Parts, unit: Unit,
) -> None:  # fmt: skip
    """What every table is made from."""
    check, fit = nodes
    notices = merge(graph, "notices", parts["notices"])
    names = ["lesions", "lesion_volume_mm3"] if unit.derived_as("lesions") else []
    names += ["maps"] if unit.derived_as("map") else []
    for one in measured:
        graph.connect([
            (check, one, [(name, f"inputnode.{name}") for name in ("magnitude", "noise")]),
            (fit, one, [(name, f"inputnode.{name}") for name in MAPS]),
            (notices, one, [("out", "inputnode.notices")]),
        ])  # fmt: skip
        if derived is not None:
            graph.connect([(derived, one, [(f"outputnode.{name}", f"inputnode.{name}") for name in names])])
        collect(parts, one, "files", "records")


def _publish(unit: Unit, settings: Settings) -> steps.PublishUnit:
    """Where and under which settings the results count."""
    return steps.PublishUnit(
        unit=unit,
        output_dir=str(settings.output_dir),
        bids_dir=str(settings.bids_dir),
        datasets={name: str(path) for name, path in dataset_names(settings.derivatives).items()},
        settings=json.dumps(settings.result_settings(), sort_keys=True),
        settings_sha256=settings.result_key,
    )
