"""Check a built site: every link inside it leads somewhere, and no page loads anything from elsewhere.

``python docs/_ext/check_site.py SITE`` prints what is wrong and ends with 1, or says how much was checked.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: what a browser fetches unasked: tag → attribute
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}


class Page(HTMLParser):
    """The anchors of a page, the links that it has, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note anchors, links and loads."""
        values = {name: value for name, value in attrs if value is not None}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        address = values.get(LOADED.get(tag, ""), "")
        if address and values.get("rel") not in ("canonical", "prev", "next", "search", "index"):
            self.loaded.append(address)


def problems(site: Path) -> list[str]:
    """One line for each link that leads nowhere and each thing that is loaded from elsewhere."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        found += [f"{name}: loads {address}" for address in page.loaded if is_elsewhere(address)]
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                found.append(f"{name}: no file {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{name}: no anchor {link}")
    return found


def is_elsewhere(address: str) -> bool:
    """Whether an address leaves the site; data written into the page does not."""
    parts = urlsplit(address)
    return parts.scheme not in ("", "data") or bool(parts.netloc)


def main() -> int:
    """Check the site that the command line names."""
    site = Path(sys.argv[1])
    found = problems(site)
    print(
        "\n".join(found)
        or f"{sum(1 for _ in site.rglob('*.html'))} pages: every link inside them leads somewhere"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
