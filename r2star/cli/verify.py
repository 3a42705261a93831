"""``r2star-verify``: whether everything that was written still is what was written."""

from __future__ import annotations

import argparse
from pathlib import Path

from r2star import __version__
from r2star.cli.common import Parser, run_command, say
from r2star.errors import DatasetError
from r2star.runs.records import changed_outputs, read_markers, unreadable_markers


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
    n_changed = len(damaged)
    for path in damaged:
        say(f"CHANGED {path.relative_to(output_dir)}: the marker can't be read")
    for marker in markers:
        for name in changed_outputs(output_dir, marker):
            n_changed += 1
            say(f"{'CHANGED' if (output_dir / name).exists() else 'MISSING'} {name} ({marker.unit})")
    n_files = sum(len(marker.outputs) for marker in markers)
    say(
        f"{n_files} files of {len(markers)} units: "
        + (f"{n_changed} missing or changed." if n_changed else "all as written.")
    )
    return 1 if n_changed else 0
