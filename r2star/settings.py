"""What a run was asked to do: one frozen dataclass a level, made once from the command line. Imports nothing.

Functions never take the whole of it; each takes what it uses. ``result_key`` hashes exactly the settings that
can change a result, so that results of different settings never mix.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

DEFAULT_ATLAS = "CIT168"
AnatomicalReference = Literal["first-lex", "sessionwise"]

#: Settings that change how fast or how loudly, never what.
_NOT_IN_RESULTS = frozenset(
    {
        "bids_dir", "output_dir", "work_dir", "participant_labels", "session_labels", "bids_filter_file",
        "n_procs", "omp_n_threads", "mem_gb", "nipype_plugin_file", "stop_on_first_crash",
        "skip_bids_validation", "verbosity", "debug", "force", "derivatives",
    }
)  # fmt: skip


@dataclass(frozen=True)
class GroupOptions:
    """What a run of the second level was asked for, beside its two folders."""

    model_file: Path | None = None  # the built-in models without one
    allow_mixed_field: bool = False
    iron: str | None = None  # a calibration's name or TOML file
    strict: bool = False


@dataclass(frozen=True)
class Settings:
    """Settings of one run of the first level."""

    bids_dir: Path
    output_dir: Path
    work_dir: Path
    participant_labels: tuple[str, ...] = ()
    session_labels: tuple[str, ...] = ()
    bids_filter_file: Path | None = None
    n_procs: int = 1
    omp_n_threads: int = 1
    mem_gb: float | None = None
    nipype_plugin_file: Path | None = None
    random_seed: int = 20140
    stop_on_first_crash: bool = False
    skip_bids_validation: bool = False
    sloppy: bool = False
    fit_method: str = "nonlinear"
    field_gradient: str = "report"
    denoise: str = "none"
    atlases: tuple[str, ...] = (DEFAULT_ATLAS,)  # none where a segmentation stands in their place
    anatomical_reference: AnatomicalReference = "first-lex"
    derivatives: tuple[Path, ...] = ()
    segmentations: tuple[str, ...] = ()
    brain_mask: str | None = None
    lesions: str | None = None
    maps: tuple[str, ...] = ()
    iron: str | None = None
    content: tuple[str, ...] = ()  # SHA-256 of the files that atlases and iron name
    fit_only: bool = False
    xform: str | None = None
    assume_orientation: bool = False
    force: bool = False
    verbosity: int = 0
    debug: bool = False

    def result_settings(self) -> dict[str, Any]:
        """The settings that can change a result, as plain JSON values; files and folders by their names."""
        kept = {key: value for key, value in asdict(self).items() if key not in _NOT_IN_RESULTS}
        for key in ("brain_mask", "lesions", "iron"):
            kept[key] = None if kept[key] is None else Path(kept[key]).name
        for key in ("atlases", "segmentations"):
            kept[key] = [Path(text).name for text in kept[key]]
        return json.loads(json.dumps(kept, default=str))  # type: ignore[no-any-return]

    @property
    def result_key(self) -> str:
        """SHA-256 over `result_settings`: equal keys mean results that may stand side by side."""
        text = json.dumps(self.result_settings(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
