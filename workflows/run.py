"""Running a graph of several units, and what came of each unit: an error, or none."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

# before nipype's first import: it must not call home, and no library may start more threads than this run allows
os.environ.update({"NO_ET": "1", "NIPYPE_NO_ET": "1"})

from nipype import config as nipype_config
from nipype.pipeline import engine as pe

from r2star.bids.units import Unit
from r2star.errors import ERROR_KINDS, EnvironmentFault, ProcessingError, R2starError
from r2star.runs.records import read_marker, record_failure
from r2star.settings import Settings
from r2star.workflows.participant import init_participant_wf
from r2star.workflows.plugin import DEAD_WORKER, SlotsPlugin
from r2star.workflows.plugin_file import read_plugin_file
from r2star.workflows.step import ERROR_FILE

EXECUTION = {
    "hash_method": "content",
    "crashfile_format": "txt",
    "poll_sleep_duration": 0.1,
    "check_version": False,
    "remove_unnecessary_outputs": False,
    "job_finished_timeout": 30,
}


class ProgressLike(Protocol):
    """What the graph layer tells the command line."""

    def begin_stage(self, unit: str, words: str, number: int, n_stages: int) -> None:
        """A stage of a unit starts."""

    def end_stage(self, share: float) -> None:
        """Work that is ``share`` of a unit's usual work is done."""

    def end_unit(self, unit: str, error: R2starError | None) -> None:
        """A unit is complete, or failed."""

    def seconds(self, unit: str) -> float:
        """Time since the unit began."""


def run_graph(
    units: Sequence[Unit], settings: Settings, n_threads: int, progress: ProgressLike
) -> dict[str, R2starError | None]:
    """Run units in one graph; returns for each that ended its error, or None where it is complete."""
    set_threads(n_threads)
    quieten(settings)
    graph = init_dataset_wf(units, settings, n_threads)
    watcher = Watcher(settings.output_dir, progress)
    plugin = _plugin(settings, watcher)
    try:
        graph.run(plugin=plugin)
    except R2starError:
        raise
    except Exception as error:  # nipype re-raises the first failed node's traceback; the watcher has them all
        if not any(watcher.results.values()):
            watcher.fail_rest(units, ProcessingError("E498", f"the engine stopped: {_last_line(str(error))}", fix="see logs/ for the traceback"))
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


def set_threads(n_threads: int) -> None:
    """Set what libraries read once, at the start of a worker process."""
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(n_threads)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(n_threads)


def quieten(settings: Settings) -> None:
    """The engine's own log goes to a file in logs/, and to the screen only with ``-vv``."""
    nipype_config.update_config({"execution": EXECUTION, "logging": {"log_to_file": False}})
    folder = settings.output_dir / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(folder / "engine.log", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    for name in ("nipype", "nipype.workflow", "nipype.interface", "nipype.utils"):
        logger = logging.getLogger(name)
        if settings.verbosity < 2:
            logger.handlers = [handler] if name == "nipype" else []
        logger.setLevel(logging.INFO if settings.verbosity > 1 else logging.WARNING)


def _plugin(settings: Settings, watcher: Watcher) -> Any:
    """The engine's plugin: ours on this machine, or the one of ``--nipype-plugin-file``."""
    if settings.nipype_plugin_file is not None:
        return read_plugin_file(settings.nipype_plugin_file, status_callback=watcher)
    arguments = {"n_procs": settings.n_procs, "memory_gb": settings.mem_gb or 1.0, "status_callback": watcher}
    return SlotsPlugin(arguments)


class Watcher:
    """Follows the nodes of a graph and turns their ends into the ends of units."""

    def __init__(self, output_dir: Path, progress: ProgressLike) -> None:
        self._output_dir = output_dir
        self._progress = progress
        self.results: dict[str, R2starError | None] = {}

    def __call__(self, node: Any, event: str) -> None:
        """Nipype's status callback: ``event`` is start, end or exception."""
        stage = getattr(node, "stage", None)
        if stage is None:
            return
        if event == "start":
            for unit in stage.units:
                self._progress.begin_stage(unit, stage.words, stage.number, stage.n_stages)
        elif event == "end":
            self._progress.end_stage(stage.share)
            if stage.is_last:
                self._end(stage.units[0], None)
        elif event == "exception":
            error = error_of(node)
            for unit in stage.units:
                self._end(unit, error)

    def _end(self, unit: str, error: R2starError | None) -> None:
        if unit in self.results:
            return
        self.results[unit] = error
        if error is not None:
            error = type(error)(**{**error.as_dict(), "unit": unit})
            self.results[unit] = error
            record_failure(self._output_dir, unit, error, seconds=self._progress.seconds(unit))
        self._progress.end_unit(unit, error)

    def fail_rest(self, units: Sequence[Unit], error: R2starError) -> None:
        """The engine itself failed: so did every unit that has not ended."""
        for unit in units:
            self._end(unit.label, error)

    def check_all(self, units: Sequence[Unit], *, stopped: bool) -> None:
        """No unit may end without a marker or an error, whatever the plugin told."""
        for unit in units:
            label = unit.label
            ended_well = self.results.get(label, "") is None
            if ended_well and read_marker(self._output_dir, label) is None:
                del self.results[label]
            if label in self.results or (stopped and any(self.results.values())):
                continue
            self._end(label, ProcessingError("E499", "the unit ended without a result", fix="see logs/ and run again"))


def error_of(node: Any) -> R2starError:
    """What made a node fail: the step's own error, a dead worker, or something unexpected."""
    failure = "".join(getattr(node, "failure", ()) or ())
    if DEAD_WORKER in failure:
        return EnvironmentFault("E608", f"{DEAD_WORKER} in the stage '{node.stage.words}' (killed, or out of memory)",
                                f"this stage needs about {node.mem_gb:.0f} GB", "give more memory or fewer --nprocs, and run again")  # fmt: skip
    try:
        parts = json.loads((Path(node.output_dir()) / ERROR_FILE).read_text())
        return ERROR_KINDS[parts.pop("kind")](**parts)
    except (OSError, ValueError, KeyError):
        return ProcessingError("E499", f"the stage '{node.stage.words}' failed: {_last_line(failure) or 'unknown cause'}",
                               fix="see the crash report in logs/")  # fmt: skip


def _last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
