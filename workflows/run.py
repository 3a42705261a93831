"""Running a graph of several units, and what came of each unit: an error, or none."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# before nipype's first import: it must not call home, and no library may start more threads than this run allows
os.environ.update({"NO_ET": "1", "NIPYPE_NO_ET": "1"})

from nipype.pipeline import engine as pe

from r2star.bids.units import Unit
from r2star.errors import R2starError
from r2star.settings import Settings
from r2star.workflows.logs import quieten_engine
from r2star.workflows.nodes import EXECUTION
from r2star.workflows.participant import init_participant_wf
from r2star.workflows.plugin import Slot, SlotsPlugin, open_slots
from r2star.workflows.plugin_file import read_plugin_file
from r2star.workflows.watcher import ProgressLike, Watcher, fault_of


class Engine:
    """Runs one graph after the other, over workers that live as long as `open_engine`."""

    def __init__(self, settings: Settings, n_threads: int, slots: list[Slot]) -> None:
        self._settings, self._n_threads, self._slots = settings, n_threads, slots

    def run(self, units: Sequence[Unit], progress: ProgressLike) -> dict[str, R2starError | None]:
        """Run units in one graph; returns for each that ended its error, or None where it is complete."""
        settings = self._settings
        graph = init_dataset_wf(units, settings, self._n_threads)
        progress.expect(work_per_unit(graph, len(units)))
        watcher = Watcher(settings.output_dir, progress)
        try:
            graph.run(plugin=self._plugin(watcher))
        except R2starError:
            raise
        except Exception as error:  # a failed node's, of which the watcher knows, or the engine's own
            if not (settings.stop_on_first_crash and any(watcher.results.values())):
                told = "".join(traceback.format_exception(error))
                watcher.fail_rest(units, fault_of(told, "the engine stopped"))
        watcher.check_all(units, stopped=settings.stop_on_first_crash)
        return watcher.results

    def _plugin(self, watcher: Watcher) -> Any:
        """The engine's plugin: ours on this machine, or the one of ``--nipype-plugin-file``."""
        if self._settings.nipype_plugin_file is not None:
            return read_plugin_file(self._settings.nipype_plugin_file, status_callback=watcher)
        memory_gb = self._settings.mem_gb or 1.0
        return SlotsPlugin({"slots": self._slots, "memory_gb": memory_gb, "status_callback": watcher})


@contextmanager
def open_engine(settings: Settings, n_threads: int) -> Iterator[Engine]:
    """The engine with its workers; at the end nothing of them runs any more."""
    limits = thread_limits(n_threads)
    os.environ.update(limits)
    quieten_engine(settings.output_dir / "logs" / "engine.log", show=settings.verbosity > 1)
    n_slots = 0 if settings.nipype_plugin_file is not None else settings.n_procs
    with open_slots(n_slots, limits) as slots:
        yield Engine(settings, n_threads, slots)


def init_dataset_wf(units: Sequence[Unit], settings: Settings, n_threads: int) -> pe.Workflow:
    """The graph of some units: one sub-graph a participant."""
    graph = pe.Workflow("r2star", base_dir=str(settings.work_dir))
    graph.config["execution"] = {
        **EXECUTION,
        "crashdump_dir": str(settings.output_dir / "logs"),
        "stop_on_first_crash": settings.stop_on_first_crash,
    }
    if settings.nipype_plugin_file is None:
        graph.config["execution"]["poll_sleep_duration"] = 0.0  # our plugin waits for a task's end by itself
    by_participant: dict[str, list[Unit]] = {}
    for unit in units:
        by_participant.setdefault(unit.participant, []).append(unit)
    graph.add_nodes([init_participant_wf(own, settings, n_threads) for own in by_participant.values()])
    return graph


def work_per_unit(graph: pe.Workflow, n_units: int) -> float:
    """What the shares of all stages in a graph add up to, for each unit."""
    nodes = (graph.get_node(name) for name in graph.list_node_names())
    return sum(node.stage.share for node in nodes if hasattr(node, "stage")) / n_units


def thread_limits(n_threads: int) -> dict[str, str]:
    """What libraries read once, at the start of a worker process."""
    names = ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {name: str(n_threads) for name in (*names, "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
