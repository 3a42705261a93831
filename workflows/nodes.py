"""Making nodes: a step's interface with what the engine and the progress line need to know of it."""

from __future__ import annotations

from typing import Any

from r2star.workflows.stage import Stage
from r2star.workflows.step import Step, StepNode

#: How the engine runs our graphs: results count by the content of their inputs.
EXECUTION = {
    "hash_method": "content",
    "crashfile_format": "txt",
    "poll_sleep_duration": 0.1,
    "check_version": False,
    "remove_unnecessary_outputs": False,
    "job_finished_timeout": 30,
}


def make_node(
    name: str,
    step: Step,
    *,
    units: tuple[str, ...],
    words: str,
    place: tuple[int, int],
    share: float = 0.02,
    mem_gb: float = 0.5,
    n_threads: int = 1,
    is_last: bool = False,
    **inputs: Any,
) -> StepNode:
    """A node for a step; ``place`` is its number among a unit's stages, ``inputs`` are set unless None."""
    node = StepNode(step, name=name, n_procs=n_threads, mem_gb=mem_gb)
    for key, value in inputs.items():
        if value is not None:
            setattr(node.inputs, key, value)
    if "n_threads" in node.inputs.copyable_trait_names():
        node.inputs.n_threads = n_threads
    node.stage = Stage(units, words, *place, share, is_last)
    return node
