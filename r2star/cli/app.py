"""``r2star BIDS_DIR OUTPUT_DIR {participant,group}``: the BIDS App. Heavy parts are imported once they are needed."""

from __future__ import annotations

import argparse
import math

from r2star.cli.common import run_command
from r2star.cli.options import build_parser
from r2star.errors import UsageError
from r2star.fit import METHODS
from r2star.runs.resources import available_memory_gib, available_processors
from r2star.settings import DEFAULT_ATLAS, GroupOptions, Settings


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``r2star``."""
    return run_command(_run, argv)


def _run(arguments: list[str]) -> int:
    options = build_parser().parse_args(arguments)
    if options.analysis_level == "group":
        from r2star.cli.group import run_group

        # a second level is always made anew, so --force changes nothing
        asked = GroupOptions(options.model, options.allow_mixed_field, options.iron, options.strict)
        return run_group(options.bids_dir, options.output_dir, asked)
    from r2star.cli.participant import run_participant_level

    return run_participant_level(settings_from(options))


def settings_from(options: argparse.Namespace) -> Settings:
    """The settings of a first-level run; `UsageError` for values that can't be."""
    for name in ("nprocs", "omp_nthreads", "mem_gb"):
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError("E521", f"--{name.replace('_', '-')} is {value}", "a positive number is needed")
    if not 0 < options.random_seed < 2**31:  # 0 is ITK's word for a seed by the clock
        found = f"--random-seed is {options.random_seed}"
        raise UsageError("E521", found, f"1 to {2**31 - 1} is needed", "choose another seed")
    _check_correction(options)
    output_dir = options.output_dir.resolve()
    n_procs = options.nprocs or available_processors()
    return Settings(
        bids_dir=options.bids_dir.resolve(),
        output_dir=output_dir,
        work_dir=(options.work_dir or output_dir.parent / f"{output_dir.name}_work").resolve(),
        participant_labels=tuple(options.participant_label),
        session_labels=tuple(options.session_label),
        bids_filter_file=options.bids_filter_file,
        n_procs=n_procs,
        omp_n_threads=options.omp_nthreads or n_procs,
        mem_gb=options.mem_gb or available_memory_gib(),
        nipype_plugin_file=options.nipype_plugin_file,
        random_seed=options.random_seed,
        stop_on_first_crash=options.stop_on_first_crash,
        skip_bids_validation=options.skip_bids_validation,
        sloppy=options.sloppy,
        fit_method=options.fit,
        field_gradient=options.field_gradient,
        denoise=options.denoise,
        atlases=tuple(dict.fromkeys(options.atlas or ([] if options.segmentation else [DEFAULT_ATLAS]))),
        anatomical_reference=options.subject_anatomical_reference,
        derivatives=tuple(path.resolve() for path in options.derivatives),
        segmentations=tuple(dict.fromkeys(options.segmentation)),
        brain_mask=options.brain_mask,
        lesions=options.lesions,
        maps=tuple(dict.fromkeys(options.maps)),
        iron=options.iron,
        fit_only=options.fit_only,
        xform=options.xform,
        assume_orientation=options.assume_orientation,
        force=options.force,
        verbosity=options.verbose,
        debug=options.debug,
    )


def _check_correction(options: argparse.Namespace) -> None:
    """Refuse a correction for field gradients that nothing would carry out."""
    if options.field_gradient != "correct":
        return
    takers = [name for name, method in METHODS.items() if method.takes_dephasing]
    if options.fit not in takers:
        found = f"--fit {options.fit} can't be corrected for field gradients"
        raise UsageError("E529", found, f"{', '.join(takers)} can", "choose one, or --field-gradient report")
    if options.fit_only:
        found = "--fit-only leaves out the brain mask, without which the field can't be mapped"
        raise UsageError(
            "E530", found, "correction needs both", "drop --fit-only or --field-gradient correct"
        )
