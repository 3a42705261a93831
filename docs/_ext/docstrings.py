"""Sphinx extension: docstrings as this project writes them, for a parser that knows reStructuredText only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def prepare(lines: list[str]) -> list[str]:
    r"""Bars as bars (|F(t)| is an absolute value here), and examples under a heading of their own.

    >>> prepare(["The factor |F(t)|.", "", ">>> 1 | 2", "3"])
    ['The factor \\\\|F(t)\\\\|.', '', 'Examples', '--------', '>>> 1 | 2', '3']
    """
    first = next((k for k, line in enumerate(lines) if line.startswith(">>>")), len(lines))
    text = [line.replace("|", "\\|") for line in lines[:first]]
    has_heading = "Examples" in text
    return text + ([] if has_heading or first == len(lines) else ["Examples", "--------"]) + lines[first:]


def _on_docstring(_app: Sphinx, _what: str, _name: str, _thing: Any, _options: Any, lines: list[str]) -> None:
    lines[:] = prepare(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Prepare docstrings before napoleon reads their sections."""
    app.connect("autodoc-process-docstring", _on_docstring, priority=400)
    return {"parallel_read_safe": True}
