"""Making nodes: a step's interface with what the engine and the progress line need to know of it."""

from __future__ import annotations

import re

from nipype.pipeline import engine as pe

from r2star.settings import Settings
from r2star.workflows.stage import Stage
from r2star.workflows.step import ListNode, Step, StepNode

#: An output of a node.
Output = tuple[pe.Node, str]

#: How the engine runs our graphs: results count by the content of their inputs.
EXECUTION = {
    "hash_method": "content",
    "crashfile_format": "txt",
    "poll_sleep_duration": 2.0,
    "check_version": False,
    "remove_unnecessary_outputs": False,
    "job_finished_timeout": 30,
}


def make_node(name: str, step: Step, stage: Stage, *, n_threads: int = 1, mem_gb: float = 0.5) -> StepNode:
    """A node for a step, which tells its step how many threads it may use."""
    node = StepNode(step, name=name, n_procs=n_threads, mem_gb=mem_gb)
    if "n_threads" in node.inputs.copyable_trait_names():
        node.inputs.n_threads = n_threads
    node.stage = stage
    return node


def merge(graph: pe.Workflow, name: str, sources: list[tuple[pe.Node, str]]) -> pe.Node:
    """A node that joins outputs (single or lists) into one list."""
    node = ListNode(len(sources), name)
    for number, (source, output) in enumerate(sources, start=1):
        graph.connect(source, output, node, f"in{number}")
    return node


def orientation_rule(settings: Settings) -> dict[str, object]:
    """What the input checks are told about contradictory or missing orientations."""
    rule: dict[str, object] = {"assume_orientation": settings.assume_orientation}
    return rule | ({} if settings.xform is None else {"xform": settings.xform})


def node_name(kind: str, label: str) -> str:
    """A name that the engine takes: letters, digits and underscores.

    >>> node_name("unit", "sub-01_ses-02")
    'unit_sub_01_ses_02'
    """
    return re.sub(r"[^0-9A-Za-z]+", "_", f"{kind}_{label}")
