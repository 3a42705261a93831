"""Tables in Markdown whose cells may hold anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def cell(text: str) -> str:
    r"""Text that stands for itself in a cell.

    >>> cell("a | b < c*")
    'a \\| b &lt; c\\*'
    """
    for sign in ("\\", "|", "*", "_", "`", "[", "]", "{", "}", "$"):
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.replace("<", "&lt;").replace(">", "&gt;").split())


def code(text: str) -> str:
    """Text as code in a cell."""
    return f"`{text}`" if text else ""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown already."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
