"""Running a graph of several units, and what came of each unit: an error, or none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

# before nipype's first import: it must not call home, and no library may start more threads than this run allows
os.environ.update({"NO_ET": "1", "NIPYPE_NO_ET": "1"})

from nipype.pipeline import engine as pe

from r2star.bids.units import Unit
from r2star.errors import ProcessingError, R2starError
from r2star.settings import Settings
from r2star.workflows.logs import quieten_engine
from r2star.workflows.nodes import EXECUTION
from r2star.workflows.participant import init_participant_wf
from r2star.workflows.plugin import SlotsPlugin
from r2star.workflows.plugin_file import read_plugin_file
from r2star.workflows.watcher import ProgressLike, Watcher, last_line


def run_graph(
    units: Sequence[Unit], settings: Settings, n_threads: int, progress: ProgressLike
) -> dict[str, R2starError | None]:
    """Run units in one graph; returns for each that ended its error, or None where it is complete."""
    set_threads(n_threads)
    quieten_engine(settings.output_dir / "logs" / "engine.log", show=settings.verbosity > 1)
    graph = init_dataset_wf(units, settings, n_threads)
    progress.expect(work_per_unit(graph, len(units)))
    watcher = Watcher(settings.output_dir, progress)
    plugin = _plugin(settings, watcher)
    try:
        graph.run(plugin=plugin)
    except R2starError:
        raise
    except Exception as error:  # nipype re-raises the first failed node's traceback; the watcher has them all
        if not any(watcher.results.values()):
            watcher.fail_rest(
                units,
                ProcessingError(
                    "E498", f"the engine stopped: {last_line(str(error))}", fix="see logs/ for the traceback"
                ),
            )
    finally:
        if isinstance(plugin, SlotsPlugin):
            plugin.close(kill=True)
    watcher.check_all(units, stopped=settings.stop_on_first_crash)
    return watcher.results


def init_dataset_wf(units: Sequence[Unit], settings: Settings, n_threads: int) -> pe.Workflow:
    """The graph of some units: one sub-graph a participant."""
    graph = pe.Workflow("r2star", base_dir=str(settings.work_dir))
    graph.config["execution"] = {
        **EXECUTION,
        "crashdump_dir": str(settings.output_dir / "logs"),
        "stop_on_first_crash": settings.stop_on_first_crash,
    }
    by_participant: dict[str, list[Unit]] = {}
    for unit in units:
        by_participant.setdefault(unit.participant, []).append(unit)
    graph.add_nodes([init_participant_wf(own, settings, n_threads) for own in by_participant.values()])
    return graph


def work_per_unit(graph: pe.Workflow, n_units: int) -> float:
    """What the shares of all stages in a graph add up to, for each unit."""
    nodes = (graph.get_node(name) for name in graph.list_node_names())
    return sum(node.stage.share for node in nodes if hasattr(node, "stage")) / n_units


def set_threads(n_threads: int) -> None:
    """Set what libraries read once, at the start of a worker process."""
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(n_threads)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(n_threads)


def _plugin(settings: Settings, watcher: Watcher) -> Any:
    """The engine's plugin: ours on this machine, or the one of ``--nipype-plugin-file``."""
    if settings.nipype_plugin_file is not None:
        return read_plugin_file(settings.nipype_plugin_file, status_callback=watcher)
    arguments = {"n_procs": settings.n_procs, "memory_gb": settings.mem_gb or 1.0, "status_callback": watcher}
    return SlotsPlugin(arguments)
