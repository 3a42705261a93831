"""The sections of the cohort's page. A new section is one module, one template, and one line in `SECTIONS`."""

from __future__ import annotations

from collections.abc import Mapping

from r2star.report.cohort import cohort, effects, figures, methods, missing, provenance, quality, summary
from r2star.report.cohort_facts import CohortFacts
from r2star.report.page import Section

#: In the order of the page; the name is that of the template ``cohort/<name>.html``.
SECTIONS: Mapping[str, Section[CohortFacts]] = {
    "summary": Section("Summary", summary.make),
    "cohort": Section("Cohort", cohort.make),
    "effects": Section("Effects", effects.make),
    "figures": Section("Figures", figures.make),
    "quality": Section("Quality", quality.make),
    "missing": Section("Exclusions and missing values", missing.make),
    "methods": Section("Methods", methods.make),
    "provenance": Section("Provenance", provenance.make),
}
