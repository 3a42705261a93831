"""``r2star-fit``: maps from files, no BIDS needed."""

from __future__ import annotations

import argparse
import atexit
import json
import math
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path

from r2star import __version__
from r2star.bids.echo_checks import SAME_ECHO_TIME_S, SHORTEST_ECHO_TIME_S, SHORTEST_LAST_ECHO_TIME_S
from r2star.cli.common import Parser, run_command, say, say_notice
from r2star.errors import UsageError
from r2star.files import write_fault
from r2star.fit import METHODS
from r2star.runs.resources import available_processors

EPILOG = """\
examples:
  r2star-fit echo1.nii.gz echo2.nii.gz echo3.nii.gz --echo-times 0.004 0.008 0.012 -o maps
  r2star-fit all_echoes_4d.nii.gz --echo-times 0.004 0.008 0.012 -o maps
"""


def build_parser() -> Parser:
    """The parser of ``r2star-fit``."""
    parser = Parser(
        prog="r2star-fit",
        description="Fit R2* (1/s) with its standard error, T2* (s), S0 and the status of each voxel.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "magnitude", nargs="+", type=Path, metavar="MAGNITUDE", help="one file an echo, or one 4D file"
    )
    parser.add_argument(
        "--echo-times",
        nargs="+",
        type=float,
        required=True,
        metavar="S",
        help="echo times in seconds, in the order of the files",
    )
    parser.add_argument(
        "-o", "--output-dir", type=Path, required=True, metavar="DIR", help="where the maps go"
    )
    parser.add_argument(
        "--fit", choices=tuple(METHODS), default="nonlinear", help="estimator (default: %(default)s)"
    )
    parser.add_argument(
        "--denoise",
        choices=("none", "mppca"),
        default="none",
        help="denoise the echoes before the fit: MP-PCA, slow, three echoes or more (default: %(default)s)",
    )
    parser.add_argument(
        "--noise-sigma",
        type=float,
        metavar="SIGMA",
        help="noise of the real part, in the images' unit (default: estimated for two echoes, rician and denoising)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=available_processors(),
        metavar="N",
        help="threads (default: the processors of this job, %(default)s)",
    )
    parser.add_argument(
        "--assume-orientation", action="store_true", help="accept images whose header has no orientation"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.add_argument("--version", action="version", version=f"r2star {__version__}")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``r2star-fit``."""
    return run_command(_run, argv)


def _run(arguments: list[str]) -> int:
    options = build_parser().parse_args(arguments)
    check_echo_times(options.echo_times)
    if options.noise_sigma is not None and not 0 < options.noise_sigma < math.inf:
        found = f"--noise-sigma is {options.noise_sigma}"
        raise UsageError("E521", found, "a positive number is needed", "leave it out to have it estimated")
    from r2star.steps.fit import fit_maps

    scratch = Path(tempfile.mkdtemp(prefix="r2star-fit-"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    noise = look_at_noise(options, scratch)
    try:
        options.output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_fault(error, options.output_dir) from error
    magnitude, denoising = tuple(options.magnitude), None
    if options.denoise == "mppca":
        magnitude, denoising = denoise(options, noise, scratch)
    result = fit_maps(
        magnitude,
        tuple(options.echo_times),
        options.output_dir,
        method=options.fit,
        n_threads=options.threads,
        assume_orientation=options.assume_orientation,
        noise=noise,
        denoising=denoising,
        checked=False,
    )
    for notice in result.notices:
        say_notice(notice)
    say(
        f"Maps are in {options.output_dir}: "
        + ", ".join(path.name for path in result.derivatives if path.name.endswith(".nii.gz"))
    )
    return 0


def denoise(options: argparse.Namespace, noise: Path, scratch: Path) -> tuple[tuple[Path, ...], Path]:
    """The echoes denoised, and the record of it; says how the residuals changed."""
    from r2star.fit.denoise import require_dipy
    from r2star.steps.denoise import denoise_echoes

    require_dipy()
    done = denoise_echoes(
        tuple(options.magnitude),
        tuple(options.echo_times),
        scratch,
        method=options.fit,
        n_threads=options.threads,
        assume_orientation=options.assume_orientation,
        noise=noise,
    )
    for notice in done.notices:
        say_notice(notice)
    ratio = json.loads(done.denoising.read_text())["ResidualRatio"]
    say(f"MP-PCA: residuals are {ratio} times what they were.")
    return done.magnitude, done.denoising


def look_at_noise(options: argparse.Namespace, scratch: Path) -> Path:
    """Saturation, and σ as given, or estimated where it is needed: two echoes, the Rician model, denoising.

    It takes reading all images once more, so more echoes tell their own error.
    """
    from r2star.steps.noise import find_noise

    needed = (
        len(options.echo_times) == 2 or METHODS[options.fit].uses_noise_model or options.denoise != "none"
    )
    found = find_noise(
        options.magnitude,
        options.echo_times,
        scratch,
        options.noise_sigma,
        estimate=needed,
        assume_orientation=options.assume_orientation,
    )
    for notice in found.notices:
        say_notice(notice)
    return found.noise


def check_echo_times(echo_times_s: list[float]) -> None:
    """Echo times are in seconds, positive and distinct; milliseconds are refused, never converted."""
    if any(not 0 < time < 0.5 for time in echo_times_s):
        raise UsageError(
            "E522",
            f"--echo-times {' '.join(map(str, echo_times_s))}",
            "seconds between 0 and 0.5 are needed",
            "divide milliseconds by 1000",
        )
    ordered = sorted(echo_times_s)
    if ordered[0] < SHORTEST_ECHO_TIME_S or ordered[-1] < SHORTEST_LAST_ECHO_TIME_S:
        raise UsageError(
            "E522",
            f"--echo-times {' '.join(map(str, echo_times_s))}",
            "no gradient echoes are that early: seconds are needed",
            "give seconds",
        )
    if len(ordered) < 2 or any(after - before < SAME_ECHO_TIME_S for before, after in pairwise(ordered)):
        raise UsageError(
            "E522",
            f"--echo-times {' '.join(map(str, echo_times_s))}",
            "two or more different ones are needed",
        )
