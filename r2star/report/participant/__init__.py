"""The sections of a participant's page. A new section is one module, one template, and one line in `SECTIONS`.

A section's ``make`` takes the `UnitFacts` and returns what its template shows, or ``None`` where there is nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from r2star.report.facts import UnitFacts
from r2star.report.page import Section
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

#: In the order of the page; the name is that of the template ``participant/<name>.html``.
SECTIONS: Mapping[str, Section[UnitFacts]] = {
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
