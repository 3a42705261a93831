"""Sphinx extension: a line ``% generated: NAME [ARGUMENT]`` in a page becomes text made from the code.

`PAGES` names what can be made; a test makes all of it. Text is MyST Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import command_line
import error_codes
import result_tables

if TYPE_CHECKING:
    from sphinx.application import Sphinx

#: name in a marker → function of its argument
PAGES: dict[str, Callable[[str], str]] = {
    "command": command_line.command,
    "codes": error_codes.codes,
    "exit-codes": error_codes.exit_codes,
    "region-columns": result_tables.region_columns,
    "model-columns": result_tables.model_columns,
    "derivatives": result_tables.derivatives,
    "fit-status": result_tables.fit_status,
    "estimators": result_tables.estimators,
    "model-schema": result_tables.model_schema,
    "calibrations": result_tables.calibrations,
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
