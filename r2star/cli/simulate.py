"""``r2star-simulate brain OUT`` and ``r2star-simulate cohort OUT``: data with known truth. Writes only into OUT."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2star import __version__
from r2star.cli import simulate_cohort
from r2star.cli.common import Parser, run_command, say
from r2star.errors import UsageError

if TYPE_CHECKING:
    from r2star.simulate.brain import BrainPlan

EPILOG = """\
examples:
  r2star-simulate brain demo --participants 2 --seed 1
  r2star-simulate brain quick --small --no-t1w --echoes 3
  r2star-simulate cohort tables --seed 1
"""

#: Acquisition of ``--small``: a few seconds a participant, for tests.
SMALL_RESOLUTION_MM = (2.0, 2.0, 3.0)
SMALL_T1W_MM = 2.0
DEFAULT_T1W_MM = 1.0
FIRST_ECHO_S, ECHO_SPACING_S = 0.005, 0.0048


def build_parser() -> Parser:
    """The parser of ``r2star-simulate``; each subcommand adds itself."""
    parser = Parser(
        prog="r2star-simulate",
        description="Datasets with known truth: brains as images, cohorts as tables.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"r2star {__version__}")
    subparsers = parser.add_subparsers(dest="what", metavar="{brain,cohort}", required=True)
    add_brain_parser(subparsers)
    simulate_cohort.add_parser(subparsers)
    return parser


def add_brain_parser(subparsers: Any) -> None:
    """Add the ``brain`` subcommand."""
    parser = subparsers.add_parser("brain", help="a BIDS dataset of synthetic heads: T1w, echoes and truth")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the dataset (new or empty)")
    parser.add_argument("--participants", type=int, default=2, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--sessions", type=int, default=1, metavar="N", help="of each participant (default: %(default)s)"
    )
    parser.add_argument(
        "--interval-years",
        type=float,
        default=2.0,
        metavar="YEARS",
        help="between sessions (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=20140, help="equal seeds give equal bytes (default: %(default)s)"
    )
    parser.add_argument(
        "--small", "--sloppy", action="store_true", help="coarse voxels, seconds a participant; for tests"
    )
    _add_acquisition(parser.add_argument_group("acquisition"))
    parser.set_defaults(run=run_brain)


def _add_acquisition(group: Any) -> None:
    group.add_argument(
        "--resolution-mm",
        type=float,
        nargs=3,
        metavar=("X", "Y", "Z"),
        help="voxels of the echoes (default: 1 1 1.5, small: 2 2 3)",
    )
    group.add_argument("--t1w-mm", type=float, metavar="MM", help="voxels of the T1w (default: 1, small: 2)")
    group.add_argument("--no-t1w", action="store_true", help="leave the T1w out")
    group.add_argument(
        "--echoes", type=int, metavar="N", help="echoes from 5 ms on, 4.8 ms apart (default: 6)"
    )
    group.add_argument(
        "--echo-times", type=float, nargs="+", metavar="S", help="echo times in seconds, in place of --echoes"
    )
    group.add_argument(
        "--snr",
        type=float,
        default=60.0,
        help="white matter's signal at t = 0 over the noise's sigma (default: %(default)s)",
    )
    group.add_argument(
        "--field-strength", type=float, default=3.0, metavar="TESLA", help="(default: %(default)s)"
    )
    group.add_argument(
        "--oblique-deg",
        type=float,
        default=8.0,
        metavar="DEG",
        help="tilt of the slices (default: %(default)s)",
    )
    group.add_argument(
        "--b0-gradient",
        choices=("on", "off"),
        default="on",
        help="whether field gradients across a voxel take signal (default: %(default)s)",
    )
    group.add_argument("--phase", action="store_true", help="write the phase of the echoes too")


def run_brain(args: argparse.Namespace) -> int:
    """Write the dataset; 0 when it stands."""
    from r2star.steps.simulate import write_brains

    plan = make_plan(args)
    if args.participants < 1 or args.participants > 99:
        raise UsageError(
            "E510", f"--participants {args.participants}", "1 to 99", fix="choose another number"
        )
    if args.seed < 0:
        raise UsageError("E510", f"--seed {args.seed}", "0 or more", fix="choose another number")
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise UsageError(
            "E511", "the folder is not empty", "a new or empty folder", "name another", path=args.out
        )
    args.out.mkdir(parents=True, exist_ok=True)
    written = write_brains(
        args.out,
        plan,
        n_participants=args.participants,
        seed=args.seed,
        on_written=lambda name: say(f"wrote {name}"),
    )
    say(f"truth: {written.truth}")
    return 0


def make_plan(args: argparse.Namespace) -> BrainPlan:
    """The acquisition that the options describe, each in its range."""
    from r2star.simulate.brain import BrainPlan

    resolution = tuple(args.resolution_mm or (SMALL_RESOLUTION_MM if args.small else BrainPlan.resolution_mm))
    t1w_mm = args.t1w_mm if args.t1w_mm is not None else SMALL_T1W_MM if args.small else DEFAULT_T1W_MM
    _check_range("--resolution-mm", resolution, 0.5, 6.0)
    _check_range("--t1w-mm", (t1w_mm,), 0.5, 6.0)
    _check_range("--snr", (args.snr,), 1.0, 1e6)
    _check_range("--field-strength", (args.field_strength,), 0.5, 12.0)
    _check_range("--oblique-deg", (args.oblique_deg,), -45.0, 45.0)
    _check_range("--sessions", (args.sessions,), 1, 20)
    _check_range("--interval-years", (args.interval_years,), 0.0, 50.0)
    return BrainPlan(
        echo_times_s=_echo_times(args),
        resolution_mm=resolution,
        t1w_mm=None if args.no_t1w else t1w_mm,
        snr=args.snr,
        field_strength_tesla=args.field_strength,
        oblique_deg=args.oblique_deg,
        dephasing=args.b0_gradient == "on",
        phase=args.phase,
        n_sessions=args.sessions,
        interval_years=args.interval_years,
    )


def _echo_times(args: argparse.Namespace) -> tuple[float, ...]:
    if args.echo_times is not None and args.echoes is not None:
        raise UsageError("E510", "--echoes and --echo-times are both given", "one of them", "leave one out")
    if args.echo_times is None:
        n_echoes = 6 if args.echoes is None else args.echoes
        _check_range("--echoes", (n_echoes,), 2, 32)
        return tuple(round(FIRST_ECHO_S + echo * ECHO_SPACING_S, 5) for echo in range(n_echoes))
    times = tuple(args.echo_times)
    _check_range("--echo-times", times, 0.0002, 0.2)
    if len(times) < 2 or sorted(set(times)) != list(times):
        raise UsageError("E510", "--echo-times", "two or more, ascending, in seconds", "sort them")
    return times


def _check_range(option: str, values: tuple[float, ...], low: float, high: float) -> None:
    if not all(low <= value <= high for value in values):
        given = " ".join(f"{value:g}" for value in values)
        raise UsageError(
            "E510", f"{option} {given}", f"{low:g} to {high:g} was needed", "choose a value in range"
        )


def _run(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    status: int = args.run(args)
    return status


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``r2star-simulate``."""
    return run_command(_run, argv)
