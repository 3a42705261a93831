"""The group level of ``r2star``: runs the step, prints its warnings, gives the exit code."""

from __future__ import annotations

from pathlib import Path

from r2star.cli.common import say, say_notice
from r2star.errors import UsageError
from r2star.settings import GroupOptions

_MOST_WARNINGS = 20


def run_group(
    bids_dir: Path,
    output_dir: Path,
    options: GroupOptions | None = None,
) -> int:
    """Run the second level; 0 where every model that was asked for has its numbers, 1 where one was refused."""
    from r2star.steps.group import analyse_group

    bids_dir, output_dir = Path(bids_dir), Path(output_dir)
    if not bids_dir.is_dir():
        raise UsageError("E501", "no such folder", "the BIDS dataset", path=bids_dir)
    outputs = analyse_group(bids_dir, output_dir, options)
    for notice in outputs.notices[:_MOST_WARNINGS]:
        say_notice(notice)
    if len(outputs.notices) > _MOST_WARNINGS:
        say(f"{len(outputs.notices) - _MOST_WARNINGS} more warnings in {outputs.folder / 'warnings.tsv'}")
    for refusal in outputs.refused:
        say(f"not fitted: {refusal}")
    say(f"{len(outputs.results)} models in {outputs.folder}")
    return 1 if outputs.refused else 0
