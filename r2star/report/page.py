"""A page that needs nothing but itself: templates, style, scripts, and a policy that lets nothing else in.

May import files and jinja2. Every value is escaped by the templates; scripts and style are let in by
their hashes, pictures only as data URIs, and no request goes anywhere.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any, Generic, NamedTuple, TypeVar

from r2star.report.facts import in_prose

VIEWER = "niivue.umd.js.gz"

Facts = TypeVar("Facts")


class Section(NamedTuple, Generic[Facts]):
    """A heading, and the function that prepares what stands under it from facts; ``None`` where there is nothing."""

    title: str
    make: Callable[[Facts], dict[str, Any] | None]


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("r2star.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_finalized,
    )  # fmt: skip
    environment.filters["in_prose"] = in_prose
    return environment


def render_page(template: str, *, with_viewer: bool = False, **context: Any) -> str:
    """A whole HTML page from a template, with its style, its script and its content security policy."""
    style, script = static_text("page.css"), static_text("page.js")
    if with_viewer:
        script = f"{script}\n{static_text('viewer.js')}"
    allowed = [_hash_of(script)] + ([_hash_of(_viewer_text())] if with_viewer else [])
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash_of(style)}; script-src {' '.join(allowed)}; "
        "base-uri 'none'; form-action 'none'"
    )
    library = base64.b64encode(_static(VIEWER)).decode() if with_viewer else ""
    page = _environment().get_template(template)
    text: str = page.render(
        policy=policy, style=_markup(style), script=_markup(script), library=library, **context
    )
    return text


def render_part(template: str, **context: Any) -> Any:
    """A part of a page, as markup that other templates take as it is."""
    return _markup(_environment().get_template(template).render(**context))


def _finalized(value: Any) -> Any:
    """What a template shows: text from anywhere is made plain, our own markup stays."""
    return shown(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def shown(text: object) -> str:
    r"""Text from a file without the characters that turn or hide the text around them.

    >>> shown("a\u202eb")
    'a\ufffdb'
    """
    return "".join(
        "\ufffd" if character in _TURNING or (ord(character) < 32 and character not in "\t\n") else character
        for character in str(text)
    )


_TURNING = frozenset(
    "\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
)


def _markup(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - our own files, and what the templates have escaped


@cache
def _static(name: str) -> bytes:
    return (resources.files("r2star.report") / "static" / name).read_bytes()


def static_text(name: str) -> str:
    """A text file of the package's own style and scripts."""
    return _static(name).decode("utf-8").replace("\r\n", "\n")


@cache
def _viewer_text() -> str:
    return gzip.decompress(_static(VIEWER)).decode("utf-8")


def _hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def sections_of(
    table: Mapping[str, Section[Facts]], facts: Facts, folder: str, prefix: str, **more: Any
) -> list[dict[str, Any]]:
    """The sections of a table for which there is something to show: id, title and markup."""
    made = []
    for name, section in table.items():
        context = section.make(facts)
        if context is not None:
            body = render_part(f"{folder}/{name}.html", facts=facts, prefix=prefix, **more, **context)
            made.append({"id": f"{prefix}{name}", "title": section.title, "body": body})
    return made
