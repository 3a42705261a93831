"""``r2star-simulate cohort OUT``: a cohort with planted effects as the first level would leave it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from r2star.errors import UsageError


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the ``cohort`` subcommand."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "cohort", help="tables of patients and controls with known effects, ready for the group level"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the dataset (new or empty)")
    parser.add_argument(
        "--seed", type=int, default=20140, help="equal seeds give equal cohorts (default: %(default)s)"
    )
    parser.add_argument(
        "--controls", type=int, default=81, metavar="N", help="healthy controls (default: %(default)s)"
    )
    parser.add_argument(
        "--patients", type=int, default=97, metavar="N", help="patients (default: %(default)s)"
    )
    parser.add_argument("--sites", type=int, default=7, metavar="N", help="centres (default: %(default)s)")
    parser.add_argument(
        "--unbalanced", action="store_true", help="the share of patients differs between centres"
    )
    parser.add_argument(
        "--sessions",
        type=int,
        default=1,
        metavar="N",
        help="sessions of each participant (default: %(default)s)",
    )
    parser.add_argument(
        "--interval-years",
        type=float,
        default=2.0,
        metavar="YEARS",
        help="between sessions (default: %(default)s)",
    )
    parser.add_argument(
        "--missing",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of missing scores, volumes and blood values (default: %(default)s)",
    )
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Write the cohort; 0 when it stands."""
    from r2star.files import write_fault
    from r2star.simulate.cohort import simulate_cohort
    from r2star.steps.cohort import write_cohort

    if min(args.controls, args.patients) < 1 or args.sites < 1 or args.sessions < 1:
        raise UsageError("E510", "controls, patients, sites and sessions must be 1 or more", fix="see --help")
    if args.seed < 0:
        raise UsageError("E510", f"--seed {args.seed}", "0 or more", "choose another number")
    if not 0 <= args.missing < 1 or not args.interval_years > 0:
        raise UsageError(
            "E510", "--missing is a share below 1, and --interval-years is positive", fix="see --help"
        )
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise UsageError(
            "E720", "the folder is not empty", "a new or empty folder", "name another", path=args.out
        )
    cohort = simulate_cohort(
        args.seed, n_controls=args.controls, n_patients=args.patients, n_sites=args.sites,
        balanced=not args.unbalanced, n_sessions=args.sessions, interval_years=args.interval_years,
        missing_fraction=args.missing,
    )  # fmt: skip
    try:
        write_cohort(cohort, args.out)
    except OSError as error:
        raise write_fault(error, args.out) from error
    return 0
