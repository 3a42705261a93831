"""Sphinx extension: a line ``% generated: NAME [ARGUMENT]`` in a page becomes text made from the code.

`PAGES` names what can be made; a test makes all of it. Text is MyST Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import command_line
from sphinx.application import Sphinx

#: name in a marker → function of its argument
PAGES: dict[str, Callable[[str], str]] = {
    "command": command_line.command,
}

_MARKER = re.compile(r"^% generated: (?P<name>[a-z-]+)(?: (?P<argument>\S+))?$", re.MULTILINE)


def fill(text: str) -> str:
    """A page's text with every marker replaced; `KeyError` for a marker that nothing answers to."""
    return _MARKER.sub(lambda match: PAGES[match["name"]](match["argument"] or ""), text)


def _on_source_read(_app: Sphinx, _name: str, source: list[str]) -> None:
    source[0] = fill(source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Fill pages as they are read."""
    app.connect("source-read", _on_source_read)
    return {"parallel_read_safe": True}
