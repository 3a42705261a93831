"""The sections of a participant's page. A new section is one module, one template, and one line in `SECTIONS`.

A section's ``make`` takes the `UnitFacts` and returns what its template shows, or ``None`` where there is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from r2star.report.facts import UnitFacts
from r2star.report.participant import (
    alignment,
    field,
    fit,
    maps,
    methods,
    provenance,
    regions,
    summary,
    viewer,
    warnings,
)


class Section(NamedTuple):
    """A heading, and the function that prepares what stands under it."""

    title: str
    make: Callable[[UnitFacts], dict[str, Any] | None]


#: In the order of the page; the name is that of the template ``participant/<name>.html``.
SECTIONS: Mapping[str, Section] = {
    "summary": Section("Summary", summary.make),
    "warnings": Section("Warnings", warnings.make),
    "maps": Section("R2* map", maps.make),
    "regions": Section("Regions", regions.make),
    "alignment": Section("Alignment", alignment.make),
    "fit": Section("Quality of the fit", fit.make),
    "field": Section("Static field", field.make),
    "viewer": Section("Viewer", viewer.make),
    "methods": Section("Methods", methods.make),
    "provenance": Section("Provenance", provenance.make),
}
