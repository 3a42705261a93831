"""Sphinx extension: what a cell printed, as it printed it.

A kernel hands on long output in pieces of some bytes. MyST-NB ends each piece with a new line when it merges them,
which breaks lines in their middle; here pieces are joined as they came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def merge_streams(outputs: list[Any]) -> list[Any]:
    r"""Outputs of a cell with all pieces of a stream in the place of its first one.

    >>> pieces = [{"output_type": "stream", "name": "stdout", "text": text} for text in ("one\ntw", "o\n")]
    >>> merge_streams(pieces)
    [{'output_type': 'stream', 'name': 'stdout', 'text': 'one\ntwo\n'}]
    """
    merged: list[Any] = []
    streams: dict[str, Any] = {}
    for output in outputs:
        if output["output_type"] != "stream":
            merged.append(output)
        elif output["name"] in streams:
            streams[output["name"]]["text"] += output["text"]
        else:
            streams[output["name"]] = output
            merged.append(output)
    return merged


def setup(app: Sphinx) -> dict[str, bool]:
    """Put `merge_streams` in the place of MyST-NB's own."""
    from myst_nb.core import render

    render.coalesce_streams = merge_streams
    return {"parallel_read_safe": True}
