"""The options of ``r2star``, in the groups in which its help shows them."""

from __future__ import annotations

import argparse
from pathlib import Path

from r2star import __version__
from r2star.cli.common import Parser
from r2star.fit import METHODS
from r2star.settings import DEFAULT_ATLAS

EPILOG = """\
examples:
  r2star /data/study /data/study/derivatives/r2star participant
  r2star study out participant --participant-label 01 02 --nprocs 4 -w /scratch/work
  r2star study out group

exit codes: 0 all requested units complete; 1 at least one failed; 2 usage; 3 dataset unusable;
4 environment (resumable); 75 another run holds the unit; 130/143 interrupted
"""


def build_parser() -> Parser:
    """The parser of ``r2star``; the reference page is made from it."""
    parser = Parser(
        prog="r2star",
        description="Multi-echo gradient-echo MRI in BIDS to R2* maps, regional iron and cohort statistics.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bids_dir", type=Path, metavar="BIDS_DIR", help="the BIDS dataset")
    parser.add_argument(
        "output_dir", type=Path, metavar="OUTPUT_DIR", help="where the derivative dataset goes"
    )
    parser.add_argument(
        "analysis_level",
        choices=("participant", "group"),
        metavar="{participant,group}",
        help="participant: maps, regions and a table per unit; group: the cohort's statistics",
    )
    parser.add_argument("--version", action="version", version=f"r2star {__version__}")
    _add_selection(parser)
    _add_method(parser)
    _add_anatomy(parser)
    _add_execution(parser)
    _add_group_level(parser)
    return parser


def _add_selection(parser: Parser) -> None:
    group = parser.add_argument_group("which data")
    group.add_argument(
        "--participant-label",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="only these participants (with or without sub-)",
    )
    group.add_argument(
        "--session-label",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="only these sessions (with or without ses-)",
    )
    group.add_argument(
        "--bids-filter-file",
        type=Path,
        metavar="FILE.json",
        help='entities to select by, e.g. {"megre": {"acquisition": "highres"}, "t1w": {"run": "1"}}',
    )
    group.add_argument(
        "--skip-bids-validation",
        action="store_true",
        help="accepted for compatibility; r2star checks what it reads by itself",
    )


def _add_method(parser: Parser) -> None:
    group = parser.add_argument_group("R2* and iron")
    group.add_argument(
        "--fit", choices=tuple(METHODS), default="nonlinear", help="estimator (default: %(default)s)"
    )
    group.add_argument(
        "--field-gradient",
        choices=("off", "report", "correct"),
        default="report",
        help="field gradients where there is phase: report their effect on R2*, or correct it (default: %(default)s)",
    )
    group.add_argument(
        "--denoise",
        choices=("none", "mppca"),
        default="none",
        help="denoise the echoes before the fit: MP-PCA, slow, three echoes or more (default: %(default)s)",
    )
    group.add_argument(
        "--iron",
        metavar="CALIBRATION",
        help="give iron in mg/kg by a named calibration or TOML file, at either level; never unasked",
    )
    group.add_argument("--fit-only", action="store_true", help="maps only: no registration, no regions")


def _add_anatomy(parser: Parser) -> None:
    group = parser.add_argument_group("anatomy")
    group.add_argument(
        "--atlas",
        nargs="+",
        action="extend",
        metavar="NAME|FILE.toml",
        help=f"atlas, one table each (default: {DEFAULT_ATLAS}, unless --segmentation stands in its place)",
    )
    group.add_argument(
        "--subject-anatomical-reference",
        choices=("first-lex", "sessionwise"),
        default="first-lex",
        help="the T1w (without any, the MEGRE) that places the regions in all sessions of a participant: the first, or "
        "each session's own (default: %(default)s)",
    )
    group.add_argument(
        "--derivatives",
        nargs="+",
        action="extend",
        type=Path,
        default=[],
        metavar="DIR",
        help="BIDS datasets of other programs' results, in which the options below look",
    )
    group.add_argument(
        "--segmentation",
        nargs="+",
        action="extend",
        default=[],
        metavar="DERIVATIVE",
        help="regions of the participant's own, e.g. desc-aseg_dseg, or the folder of a dataset with one dseg each",
    )
    group.add_argument(
        "--brain-mask",
        metavar="DERIVATIVE",
        help="brain mask, e.g. desc-brain_mask, or the folder of a dataset",
    )
    group.add_argument(
        "--lesions",
        metavar="DERIVATIVE",
        help="lesion masks, on any grid, e.g. label-lesion_mask, or the folder of a dataset",
    )
    group.add_argument(
        "--maps",
        nargs="+",
        action="extend",
        default=[],
        metavar="SUFFIX",
        help="other quantitative maps to measure in the same regions, e.g. Chimap T1map space-T1w_MTsat",
    )
    group.add_argument(
        "--xform",
        choices=("sform", "qform"),
        help="which to believe in images whose sform and qform contradict each other",
    )
    group.add_argument(
        "--assume-orientation",
        action="store_true",
        help="accept images whose header has no orientation (qform and sform codes 0)",
    )


def _add_execution(parser: Parser) -> None:
    group = parser.add_argument_group("how to run")
    group.add_argument(
        "-w",
        "--work-dir",
        type=Path,
        metavar="DIR",
        help="intermediate results, for resuming (default: OUTPUT_DIR with _work after its name)",
    )
    group.add_argument(
        "--nprocs", type=int, metavar="N", help="processes at a time (default: the processors of this job)"
    )
    group.add_argument(
        "--omp-nthreads",
        type=int,
        metavar="N",
        help="threads of one process (default: what nprocs leaves for one participant)",
    )
    group.add_argument(
        "--mem-gb", type=float, metavar="GB", help="memory in all (default: what this job has)"
    )
    group.add_argument(
        "--nipype-plugin-file",
        type=Path,
        metavar="FILE",
        help="run the graph with another nipype plugin (JSON or YAML with plugin and plugin_args)",
    )
    group.add_argument(
        "--random-seed",
        type=int,
        default=20140,
        metavar="N",
        help="seed of the registration (default: %(default)s)",
    )
    group.add_argument("--stop-on-first-crash", action="store_true", help="stop at the first unit that fails")
    group.add_argument(
        "--force", action="store_true", help="redo units that another version or other settings made"
    )
    group.add_argument("--sloppy", action="store_true", help="fast and rough registration, for tests only")
    group.add_argument(
        "-v", "--verbose", action="count", default=0, help="say more; -vv shows the engine's own log"
    )
    group.add_argument("--debug", action="store_true", help="show tracebacks")


def _add_group_level(parser: Parser) -> None:
    group = parser.add_argument_group("group level")
    group.add_argument(
        "--model", type=Path, metavar="FILE.toml", help="models to fit (default: the built-in ones)"
    )
    group.add_argument(
        "--allow-mixed-field", action="store_true", help="accept units of different field strengths"
    )
    group.add_argument("--strict", action="store_true", help="warnings that may touch a number become errors")
