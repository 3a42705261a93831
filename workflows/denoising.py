"""Between the input check and the fit: the echoes as they are, or denoised where that was asked for."""

from __future__ import annotations

from nipype.pipeline import engine as pe

from r2star.bids.units import Unit
from r2star.settings import Settings
from r2star.workflows import interfaces as steps
from r2star.workflows.nodes import make_node
from r2star.workflows.stage import Stages


def connect_echoes(
    graph: pe.Workflow, nodes: tuple[pe.Node, pe.Node], unit: Unit, settings: Settings, stages: Stages
) -> list[pe.Node]:
    """Echoes and σ from the check to the fit; the node between them, if there is one.

    Only the fit reads the denoised echoes.
    """
    check, fit = nodes
    graph.connect([(check, fit, [("noise", "noise")])])
    if settings.denoise == "none":
        graph.connect([(check, fit, [("magnitude", "magnitude")])])
        return []
    # it fits with the same method before and after, to tell what it changed
    step = steps.DenoiseEchoes(echo_times_s=list(unit.echo_times_s), method=settings.fit_method)
    denoise = make_node("denoise", step, stages.next("denoising", 0.5), n_threads=fit.n_procs, mem_gb=4)
    graph.connect([
        (check, denoise, [("magnitude", "magnitude"), ("noise", "noise")]),
        (denoise, fit, [("magnitude", "magnitude"), ("denoising", "denoising")]),
    ])  # fmt: skip
    return [denoise]
