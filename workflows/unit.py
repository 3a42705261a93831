"""The graph of one unit: verify, fit, align, map the field, place regions, tabulate, publish.

Its ``inputnode`` takes the T1w's registration to the template, which all units of a participant share.
"""

from __future__ import annotations

import json

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from r2star.atlas import Atlas
from r2star.bids.units import Unit
from r2star.settings import Settings
from r2star.workflows import interfaces as steps
from r2star.workflows.alignment import init_alignment_wf
from r2star.workflows.denoising import connect_echoes
from r2star.workflows.field import (
    has_field,
    is_corrected,
    make_b0_node,
    make_bias_node,
    phase_rule,
    uncorrected_notices,
)
from r2star.workflows.nodes import make_node, merge, node_name, orientation_rule
from r2star.workflows.quality import connect_anatomy, connect_maps, make_quality_node
from r2star.workflows.regions import MAPS, first, init_regions_wf
from r2star.workflows.stage import Stages

#: What the units of a participant share, and take in their ``inputnode``.
ANATOMY = [
    "t1w", "t1w_to_template", "template_to_t1w", "t1w_brain_mask", "t1w_measures", "t1w_hashes", "anatomy_record",
    "anatomy_notices",
]  # fmt: skip
#: Warnings of finding a unit that speak of its T1w.
ANATOMY_NOTICES = frozenset({"W205", "W206", "W207"})
#: What is published: name → (node, output) of each part.
Parts = dict[str, list[tuple[pe.Node, str]]]


def init_unit_wf(
    unit: Unit, settings: Settings, atlas: Atlas | None, atlas_name: str, n_threads: int
) -> pe.Workflow:
    """The graph of one unit; without an atlas (``--fit-only``) it ends with the maps."""
    graph = pe.Workflow(node_name("unit", unit.label))
    source = pe.Node(IdentityInterface(ANATOMY), "inputnode")
    stages = Stages((unit.label,))
    check = make_node("check", _check(unit, settings), stages.next("checking inputs", 0.02))
    fit = make_node("fit", _fit(unit, settings), stages.next("fitting R2*", 0.04), n_threads=n_threads)
    publish = make_node(
        "publish", _publish(unit, settings), stages.next("writing results", 0.02, is_last=True)
    )
    between = connect_echoes(graph, (check, fit), unit, settings, stages)
    parts: Parts = {"files": [(fit, "derivatives")], "records": [(check, "record"), (fit, "record")]}
    parts |= {"notices": [(check, "notices"), (fit, "notices")], "hashes": [(check, "hashes")]}
    for node in between:
        parts["records"].append((node, "record"))
        parts["notices"].append((node, "notices"))
    quality = make_quality_node(unit, settings, stages)
    connect_maps(graph, check, fit, quality)
    if atlas is not None:
        corrected = is_corrected(unit, settings)
        kind = {"has_t1w": unit.t1w is not None, "by_iron": True}
        driver = fit
        if corrected:
            # a corrected fit waits for the brain mask, so it can't drive the registration that gives the mask
            first_fit = stages.next("fitting R2* for the registration", 0.04)
            driver = make_node("first_fit", _fit(unit, settings), first_fit, n_threads=n_threads)
            graph.connect([(check, driver, [("magnitude", "magnitude"), ("noise", "noise")])])
        align = init_alignment_wf(settings, atlas, atlas_name, stages, n_threads, **kind)
        regions = init_regions_wf(unit, settings, atlas, stages, with_field=has_field(unit, settings))
        _connect_alignment(graph, (source, check, driver), align, parts, **kind)
        if has_field(unit, settings):
            b0 = make_b0_node(unit, settings, stages, n_threads)
            bias = make_bias_node(unit, settings, stages, n_threads)
            _connect_field(graph, (check, fit, b0, bias), align, regions, parts, corrected=corrected)
            graph.connect(bias, "bias_map", quality, "bias_map")
        _connect_regions(graph, check, fit, align, regions, parts)
        connect_anatomy(graph, quality, align, regions, (source, "t1w_measures") if unit.t1w else None)
    parts["files"].append((quality, "derivatives"))
    parts["records"].append((quality, "record"))
    for name in ("files", "records", "hashes"):
        graph.connect(merge(graph, name, parts[name]), "out", publish, name)
    return graph


def _connect_alignment(
    graph: pe.Workflow,
    nodes: tuple[pe.Node, ...],
    align: pe.Workflow,
    parts: Parts,
    *,
    has_t1w: bool,
    by_iron: bool,
) -> None:
    source, check, fit = nodes
    like = (("magnitude", first), "inputnode.like")
    graph.connect([(check, align, [("magnitude", "inputnode.magnitude"), like])])
    if by_iron:
        graph.connect([(fit, align, [("r2star_map", "inputnode.r2star_map")])])
    if has_t1w:
        graph.connect([(source, align, [(name, f"inputnode.{name}") for name in ANATOMY[:4]])])
        parts["hashes"].append((source, "t1w_hashes"))
        parts["records"].append((source, "anatomy_record"))
        parts["notices"].append((source, "anatomy_notices"))
    _collect(parts, align, "files", "records", "notices")


def _connect_field(
    graph: pe.Workflow, nodes: tuple[pe.Node, ...], align: pe.Workflow, regions: pe.Workflow, parts: Parts,
    *, corrected: bool,
) -> None:  # fmt: skip
    """The field between alignment and table; a corrected fit waits for it."""
    check, fit, b0, bias = nodes
    graph.connect([
        (check, b0, [("phase", "phase"), ("magnitude", "magnitude")]),
        (align, b0, [("outputnode.brain_mask", "brain_mask")]),
        (b0, bias, [("gradient_map", "gradient_map"), ("facts", "facts")]),
        (fit, bias, [("r2star_map", "r2star_map")]),
        (bias, regions, [("bias_map", "inputnode.bias_map")]),
    ])  # fmt: skip
    if corrected:
        graph.connect([(b0, fit, [("gradient_map", "gradient_map"), ("facts", "field_facts")])])
    for node in (b0, bias):
        parts["files"].append((node, "derivatives"))
        parts["records"].append((node, "record"))
        parts["notices"].append((node, "notices"))


def _connect_regions(
    graph: pe.Workflow, check: pe.Node, fit: pe.Node, align: pe.Workflow, regions: pe.Workflow, parts: Parts
) -> None:
    placed = ("to_megre", "to_template", "brain_mask")
    graph.connect([
        (check, regions, [(name, f"inputnode.{name}") for name in ("magnitude", "noise")]),
        (fit, regions, [(name, f"inputnode.{name}") for name in MAPS]),
        (align, regions, [(f"outputnode.{name}", f"inputnode.{name}") for name in placed]),
        (merge(graph, "notices", parts["notices"]), regions, [("out", "inputnode.notices")]),
    ])  # fmt: skip
    _collect(parts, regions, "files", "records")


def _collect(parts: Parts, part: pe.Workflow, *names: str) -> None:
    """Remember what a sub-graph gives for publishing."""
    for name in names:
        parts[name].append((part, f"outputnode.{name}"))


def _check(unit: Unit, settings: Settings) -> steps.CheckInputs:
    """The input check, with every file of the unit."""
    images = ("magnitude", "phase", "real", "imaginary")
    # without a registration, a T1w is not missed
    notices = [one for one in unit.notices if not (settings.fit_only and one.code in ANATOMY_NOTICES)]
    notices += uncorrected_notices(unit, settings)
    paths = {name: [str(echo.path) for echo in getattr(unit, name)] for name in images}
    echoes = (*unit.magnitude, *unit.phase, *unit.real, *unit.imaginary)
    return steps.CheckInputs(
        **{name: value for name, value in paths.items() if value or name == "magnitude"},
        echo_times_s=list(unit.echo_times_s),
        sidecars=[str(path) for path in dict.fromkeys(one for echo in echoes for one in echo.sidecar_paths)],
        found_notices=json.dumps([notice.as_dict() for notice in notices]),
        **phase_rule(unit, settings),
        **orientation_rule(settings),
    )


def _fit(unit: Unit, settings: Settings) -> steps.FitMaps:
    """The fit, with the unit's echo times."""
    return steps.FitMaps(
        echo_times_s=list(unit.echo_times_s),
        method=settings.fit_method,
    )


def _publish(unit: Unit, settings: Settings) -> steps.PublishUnit:
    """Where and under which settings the results count."""
    return steps.PublishUnit(
        unit=unit,
        output_dir=str(settings.output_dir),
        bids_dir=str(settings.bids_dir),
        settings=json.dumps(settings.result_settings(), sort_keys=True),
        settings_sha256=settings.result_key,
    )
