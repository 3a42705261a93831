"""Nipype's SLURMGraph, which hands a whole graph to SLURM at once and returns: here it waits, and tells of each node.

Imports nipype.
"""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nipype.pipeline.engine.utils import topological_sort
from nipype.pipeline.plugins import SLURMGraphPlugin

from r2star.workflows.watcher import DEAD_WORKER, ERROR_FILE

POLL_S = 5.0


class WaitingSLURMGraphPlugin(SLURMGraphPlugin):
    """SLURMGraph that ends when its jobs have ended. Jobs behind a failed one are given up, not kept waiting."""

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        arguments = dict(plugin_args)
        self._tell: Callable[[Any, str], None] = arguments.pop("status_callback")
        self._mark = f"r2star-{uuid.uuid4().hex}"
        own = f"--comment={self._mark} --kill-on-invalid-dep=yes"
        arguments["sbatch_args"] = f"{arguments.get('sbatch_args', '')} {own}".strip()
        super().__init__(plugin_args=arguments)

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Submit a job a node, wait for all, and tell of each node whether it ended or failed."""
        super().run(graph, config, updatehash=updatehash)
        while self._is_in_queue():
            time.sleep(POLL_S)
        for node in topological_sort(graph)[0]:
            folder = Path(node.output_dir())
            has_error = (folder / ERROR_FILE).exists()
            if any(folder.glob("result_*.pklz")) and not has_error:
                self._tell(node, "end")
                continue
            node.failure = [] if has_error else [DEAD_WORKER]
            self._tell(node, "exception")

    def _is_in_queue(self) -> bool:
        """Whether a job of this graph waits or runs; a scheduler that gives no answer has not lost them."""
        command = ["squeue", "--noheader", "--me", "--format=%k"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode != 0 or self._mark in done.stdout
