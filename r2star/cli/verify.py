"""``r2star-verify``: whether everything that was written still is what was written."""

from __future__ import annotations

import argparse
from pathlib import Path

from r2star import __version__
from r2star.cli.common import Parser, run_command, say
from r2star.errors import DatasetError
from r2star.files import sha256_of
from r2star.runs.records import changed_outputs, read_markers, read_root_files, unreadable_markers
from r2star.runs.reports import changed_report, read_reports
from r2star.runs.status import status_stands


def build_parser() -> Parser:
    """The parser of ``r2star-verify``."""
    parser = Parser(
        prog="r2star-verify",
        description="Re-hash every result of every complete unit; exit code 1 where any is missing or changed.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output_dir", type=Path, metavar="OUTPUT_DIR", help="what r2star wrote")
    parser.add_argument("--version", action="version", version=f"r2star {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``r2star-verify``."""
    return run_command(_run, argv)


def _run(arguments: list[str]) -> int:
    output_dir = build_parser().parse_args(arguments).output_dir
    markers, damaged = read_markers(output_dir), unreadable_markers(output_dir)
    if not markers and not damaged:
        raise DatasetError(
            "E528",
            "no complete unit is recorded here",
            "the output folder of r2star is needed",
            path=output_dir,
        )
    found = [f"CHANGED {path.relative_to(output_dir)}: the marker is damaged" for path in damaged]
    for marker in markers:
        names = changed_outputs(output_dir, marker)
        found += [f"{_kind(output_dir / name)} {name} ({marker.unit})" for name in names]
    found += _changed_at_root(output_dir)
    reports = read_reports(output_dir)
    pages = (one["page"] for one in reports if changed_report(output_dir, one))
    found += [f"{_kind(output_dir / page)} {page}" for page in pages]
    for line in found:
        say(line)
    n_files = sum(len(marker.outputs) for marker in markers) + len(reports)
    verdict = f"{len(found)} missing or changed." if found else "all as written."
    say(f"{n_files} files of {len(markers)} units: {verdict}")
    return 1 if found else 0


def _kind(path: Path) -> str:
    return "CHANGED" if path.exists() else "MISSING"


def _changed_at_root(output_dir: Path) -> list[str]:
    """What stands once for all units, and is not as it was written."""
    recorded = read_root_files(output_dir)
    if recorded is None:
        record = output_dir / "logs" / "root_files.json"
        return [f"CHANGED {record.relative_to(output_dir)}: the record is damaged"] if record.exists() else []
    found = [
        f"{_kind(output_dir / name)} {name}"
        for name, digest in recorded.items()
        if not (output_dir / name).is_file() or sha256_of(output_dir / name) != digest
    ]
    if not status_stands(output_dir):
        found.append(f"{_kind(output_dir / 'status.tsv')} status.tsv: it is not what the records say")
    return found
