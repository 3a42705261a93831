"""The figures of the second level, as the files in ``group/figures`` hold them."""

from __future__ import annotations

import base64
from typing import Any

from r2star.report.cohort_facts import CohortFacts

#: A drawing larger than this goes into the page as a picture, bytes.
MOST_SVG_BYTES = 600_000


def make(cohort: CohortFacts) -> dict[str, Any] | None:
    """Each figure with its caption; as SVG, or as PNG where that would make the page heavy."""
    drawn = []
    for name, (path, caption, alternative) in cohort.figures.items():
        kind, content = "svg+xml", path.read_bytes()
        if len(content) > MOST_SVG_BYTES and path.with_suffix(".png").is_file():
            kind, content = "png", path.with_suffix(".png").read_bytes()
        uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        title = name.replace("_", " ").capitalize()
        drawn.append({"title": title, "uri": uri, "caption": caption, "alternative": alternative})
    return {"figures": drawn} if drawn else None
