"""Following the nodes of a running graph: what each end means for the units. Imports no engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from r2star.bids.units import Unit
from r2star.errors import ERROR_KINDS, NO_THREAD, EnvironmentFault, ProcessingError, R2starError
from r2star.files import fault_in_text
from r2star.runs.records import read_marker, record_failure

DEAD_WORKER = "the worker process died"
#: What nipype's cluster plugins say of a job that was killed.
LOST_JOB = "results file does not exist"
ERROR_FILE = "error.json"
#: How Python, numpy and the system say that memory ran out, in the last line of a traceback.
MEMORY_RAN_OUT = ("MemoryError", NO_THREAD, "Cannot allocate memory", "bad_alloc")


class ProgressLike(Protocol):
    """What the graph layer tells the command line."""

    def expect(self, work_per_unit: float) -> None:
        """How much work a unit of the coming graph is."""

    def begin_stage(self, unit: str, words: str) -> None:
        """A stage of a unit starts."""

    def end_stage(self, units: Sequence[str], share: float) -> None:
        """Work that is ``share`` of a unit's usual work is done, for some units at once."""

    def end_unit(self, unit: str, error: R2starError | None) -> None:
        """A unit is complete, or failed."""

    def seconds(self, unit: str) -> float:
        """Time since the unit began."""


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
                self._progress.begin_stage(unit, stage.words)
        elif event == "end":
            self._progress.end_stage(stage.units, stage.share)
            if stage.is_last:
                self._end(stage.units[0], None)
        elif event == "exception":
            error = error_of(node)
            for unit in stage.units:
                self._end(unit, error)

    def _end(self, unit: str, error: R2starError | None) -> None:
        if unit in self.results:
            return
        if error is not None:
            # one failed node may end several units: each gets the error under its own name
            error = type(error)(**{**error.as_dict(), "unit": unit})
            record_failure(self._output_dir, unit, error, seconds=self._progress.seconds(unit))
        self.results[unit] = error
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
            self._end(
                label,
                ProcessingError("E499", "the unit ended without a result", fix="see logs/ and run again"),
            )


def error_of(node: Any) -> R2starError:
    """What made a node fail: the step's own error, a dead worker, or something unexpected."""
    failure = "".join(getattr(node, "failure", ()) or ())
    if DEAD_WORKER in failure or LOST_JOB in failure:
        return EnvironmentFault(
            "E608",
            f"{DEAD_WORKER} in the stage '{node.stage.words}' (killed, or out of memory)",
            f"this stage needs about {node.mem_gb:.1f} GB",
            "give more memory or fewer --nprocs, and run again",
        )
    try:
        parts = json.loads((Path(node.output_dir()) / ERROR_FILE).read_text())
        return ERROR_KINDS[parts.pop("kind")](**parts)
    except (OSError, ValueError, KeyError):
        return fault_of(failure, f"the stage '{node.stage.words}' failed", node.mem_gb)


def fault_of(traceback: str, what: str, mem_gb: float = 1.0) -> R2starError:
    """What a traceback of the engine itself means: disk or memory, else the program's own fault."""
    cause = last_line(traceback)
    if any(words in cause for words in MEMORY_RAN_OUT):
        needed = f"about {mem_gb:.1f} GB are needed"
        return EnvironmentFault("E603", "memory ran out", needed, "raise the limit or lower --nprocs")
    return fault_in_text(traceback) or ProcessingError(
        "E499", f"{what}: {cause or 'unknown cause'}", fix="see the crash report in logs/"
    )


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
