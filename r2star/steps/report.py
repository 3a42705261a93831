"""Step: a participant's page ``sub-X.html`` from the markers of its units and the files that they name.

The page is derived: it is made after the numbers stand, and its failure loses none of them. A record of what a
page was made from tells whether it is still true. Time and memory, which differ between equal runs, get a page
of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from r2star import __version__
from r2star.bids.names import report_path
from r2star.files import write_text_atomically
from r2star.report.facts import UnitFacts
from r2star.report.page import render_page, sections_of
from r2star.report.participant import SECTIONS
from r2star.runs.records import Marker, read_failures, read_marker, units_folder
from r2star.runs.reports import changed_report, read_report_record, reports_folder, write_report_record
from r2star.steps.report_facts import facts_of, facts_of_failure
from r2star.steps.report_norms import age_of

#: Voxels of the viewers of a whole page: with the pictures it stays below 15 MB.
VIEWER_VOXELS = 6_000_000
_SHAPE = 1  # raised when pages look different, so that old ones are made anew
_TRIES = 3


class Report(NamedTuple):
    """The page, and the page of timing."""

    page: Path
    timing: Path


def is_current(output_dir: Path, bids_dir: Path, participant: str) -> bool:
    """Whether a participant's page shows what stands now, and nobody has changed it; so it is where nothing stands."""
    markers, failures = _units(output_dir, participant)
    if not markers and not failures:
        return True
    record = read_report_record(output_dir, participant)
    if record is None or changed_report(output_dir, record):
        return False
    return bool(record["key"] == _key(markers, failures, bids_dir, participant))


def has_pictures(output_dir: Path, participant: str) -> bool:
    """Whether a page takes more than text: maps of a brain."""
    return any(not one.settings.get("fit_only") for one in _units(output_dir, participant)[0])


def write_participant_report(participant: str, output_dir: Path, bids_dir: Path) -> Report:
    """Write ``sub-X.html`` over all units of a participant, complete or not, and its page of timing."""
    for _ in range(_TRIES):
        markers, failures = _units(output_dir, participant)
        key = _key(markers, failures, bids_dir, participant)
        page = _write_page(participant, output_dir, bids_dir, markers, failures)
        write_report_record(output_dir, participant, page, key)
        if is_current(output_dir, bids_dir, participant):
            break  # else another job has ended a unit of this participant meanwhile
    return Report(page, _write_timing(output_dir, participant, markers))


def _write_page(
    participant: str,
    output_dir: Path,
    bids_dir: Path,
    markers: Sequence[Marker],
    failures: Sequence[Mapping[str, Any]],
) -> Path:
    age = age_of(bids_dir, participant)
    units = [facts_of(one, output_dir, bids_dir, age) for one in markers]
    units += [facts_of_failure(one, __version__, bids_dir) for one in failures]
    return write_text_atomically(output_dir / report_path(participant), page_text(participant, units))


def page_text(participant: str, units: Sequence[UnitFacts]) -> str:
    """The page over some units, in the order of their labels."""
    most = VIEWER_VOXELS // max(1, sum(one.volumes is not None for one in units))
    parts = [
        _unit_part(replace(one, max_viewer_voxels=most), participant)
        for one in sorted(units, key=lambda one: one.label)
    ]
    return render_page(
        "participant.html",
        with_viewer=any(part["has_viewer"] for part in parts),
        title=f"sub-{participant}: R2*",
        participant=participant,
        version=__version__,
        units=parts,
    )


def _unit_part(facts: UnitFacts, participant: str) -> dict[str, Any]:
    prefix = f"{facts.label}-".replace("_", "-")
    wanted = dict(SECTIONS)
    if facts.error is not None:
        wanted["warnings"] = wanted["warnings"]._replace(title="What went wrong")
    sections = sections_of(
        wanted, facts, "participant", prefix, timing=f"logs/reports/sub-{participant}_timing.html"
    )
    return {
        "id": prefix.rstrip("-"),
        "label": facts.label,
        "verdict": "skipped" if facts.state == "skipped" else facts.verdict,
        "sections": sections,
        "has_viewer": facts.volumes is not None,
    }


def _units(output_dir: Path, participant: str) -> tuple[list[Marker], list[dict[str, Any]]]:
    """Markers and records of failure of a participant's units."""
    # a participant's own files only: of a thousand others none is opened
    names = (f"sub-{participant}.json", f"sub-{participant}_*.json")
    found = sorted(path for name in names for path in units_folder(output_dir).glob(name))
    markers = [one for path in found if (one := read_marker(output_dir, path.stem)) is not None]
    complete = {one.unit for one in markers}
    failures = [one for one in read_failures(output_dir, names) if one["unit"] not in complete]
    return markers, failures


def _key(
    markers: Sequence[Marker], failures: Sequence[Mapping[str, Any]], bids_dir: Path, participant: str
) -> str:
    """Hash over everything that a page shows; time is not among it."""
    told: dict[str, Any] = {
        "shape": _SHAPE,
        "version": __version__,
        "age": age_of(bids_dir, participant),
        "markers": [{name: value for name, value in asdict(one).items() if name != "timing"} for one in markers],
        "failures": [{name: value for name, value in one.items() if name != "seconds"} for one in failures],
    }  # fmt: skip
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=list).encode()).hexdigest()


def _write_timing(output_dir: Path, participant: str, markers: Sequence[Marker]) -> Path:
    units = []
    for marker in sorted(markers, key=lambda one: one.unit):
        steps = {
            name: value for name, value in marker.timing.items() if name.endswith("_s") and name != "total_s"
        }
        longest = max(steps.values(), default=0.0) or 1.0
        rows = [
            {
                "name": name.removesuffix("_s").replace("_", " "),
                "seconds": f"{value:.1f}",
                "width": 200 * value / longest,
            }
            for name, value in sorted(steps.items(), key=lambda item: -item[1])
        ]
        units.append({
            "label": marker.unit, "rows": rows, "total": f"{marker.timing.get('total_s', 0.0):.0f}",
            "memory": f"{marker.timing.get('peak_memory_gib', 0.0):.2f}",
        })  # fmt: skip
    text = render_page(
        "timing.html", title=f"sub-{participant}: time and memory", participant=participant, units=units
    )
    path = reports_folder(output_dir) / f"sub-{participant}_timing.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_text_atomically(path, text)
