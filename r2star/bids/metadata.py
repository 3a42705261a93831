"""Sidecars by BIDS inheritance, and which of their keys may leave. May import errors and its siblings."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from r2star.bids.entities import BidsName, natural_key, parse_name, printable
from r2star.errors import InputError, Notice

#: The only keys that are ever kept of an input sidecar: physics of the acquisition, no identity or free text.
ALLOWED_SIDECAR_KEYS = frozenset(
    {
        "EchoTime", "EffectiveEchoTime", "RepetitionTime", "RepetitionTimeExcitation", "FlipAngle",
        "MagneticFieldStrength", "ImagingFrequency", "Manufacturer", "ManufacturersModelName",
        "MRAcquisitionType", "SliceThickness", "SpacingBetweenSlices", "PixelBandwidth", "DwellTime",
        "EchoTrainLength", "PhaseEncodingDirection", "SliceEncodingDirection", "ScanningSequence",
        "SequenceVariant", "NonlinearGradientCorrection", "MTState", "SpoilingState", "PartialFourier",
        "ParallelReductionFactorInPlane", "ParallelReductionFactorOutOfPlane", "Units",
        "AcquisitionVoxelSize", "AcquisitionMatrixPE", "ReconMatrixPE",
    }
)  # fmt: skip

_MAX_JSON_BYTES = 4_000_000
_READABLE = "give this user the right to read it"
_PLAIN_TEXT = re.compile(r"[\w .,+*/()-]{0,64}", re.ASCII)


def allowed_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what may be written out: allowed keys with a number, a short plain word, or a list of these.

    >>> allowed_metadata({"EchoTime": 0.004, "PatientName": "x", "Manufacturer": "<script>"})
    {'EchoTime': 0.004}
    """
    return {
        key: metadata[key]
        for key in sorted(ALLOWED_SIDECAR_KEYS & metadata.keys())
        if _is_plain(metadata[key])
    }


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return len(value) <= 64 and all(_is_plain(item) and not isinstance(item, list) for item in value)
    if isinstance(value, str):
        return _PLAIN_TEXT.fullmatch(value) is not None
    return isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))


def require_regular_file(path: Path, shown: str) -> None:
    """Refuse a link whose target is absent, what is no regular file and what can't be read, before it is opened."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if path.is_symlink():
            raise InputError(
                "E213",
                "the link's target is absent",
                "its content is needed",
                f"datalad get {shown}",
                path=shown,
            ) from error
        fix = "check the path" if isinstance(error, FileNotFoundError) else _READABLE
        raise InputError("E220", f"can't be read ({error.strerror})", "", fix, path=shown) from error
    if not stat.S_ISREG(mode):
        raise InputError(
            "E220", "not a regular file", "a file is needed", "put the file in its place", path=shown
        )
    if not os.access(path, os.R_OK):
        raise InputError("E220", "can't be read (Permission denied)", "", _READABLE, path=shown)


def read_json(path: Path, shown: str) -> tuple[dict[str, Any], tuple[Notice, ...]]:
    """Read a JSON object; a byte-order mark is fine, and text that is not UTF-8 is read with a warning.

    Raises `InputError`, with the line, for what is not JSON, for a key given twice and for all but an object.
    """
    require_regular_file(path, shown)
    notices: tuple[Notice, ...] = ()
    try:
        size = path.stat().st_size
        raw = path.read_bytes() if size <= _MAX_JSON_BYTES else b""
    except OSError as error:
        raise InputError("E220", f"can't be read ({error.strerror})", "", _READABLE, path=shown) from error
    if size > _MAX_JSON_BYTES:
        raise _bad_json(shown, f"{size} bytes are too many for a sidecar")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
        notices = (Notice("W211", "text is not UTF-8; read as Latin-1", "save it as UTF-8", shown),)
    try:
        content = json.loads(text, object_pairs_hook=_unique_keys, parse_int=_whole_number)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise _bad_json(shown, f"not valid JSON at {where}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise _bad_json(shown, f"not usable JSON: {error}") from error
    if not isinstance(content, dict):
        raise _bad_json(shown, "no JSON object at line 1")
    return content, notices


def _bad_json(shown: str, found: str) -> InputError:
    return InputError("E210", found, "a JSON object is needed", "mend the file at that line", path=shown)


def _whole_number(text: str) -> int | float:
    """An integer; infinity where it is beyond all floats, as for a number with a point."""
    return int(text) if math.isfinite(float(text)) else float(text)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} is given twice")
    return content


@dataclass
class SidecarTree:
    """The JSON files of one suffix in the folders of a dataset; each is listed and read once."""

    root: Path
    suffix: str
    _listings: dict[Path, list[tuple[BidsName, Path]]] = field(default_factory=dict)
    _contents: dict[Path, tuple[dict[str, Any], tuple[Notice, ...]] | InputError] = field(
        default_factory=dict
    )

    def shown(self, path: Path) -> str:
        """The path as it stands in messages: relative to the dataset."""
        return printable(path.relative_to(self.root).as_posix())

    def only_root(self) -> SidecarTree:
        """A tree that keeps what was read at the root and forgets the rest, so that memory stays flat."""
        kept = {folder: files for folder, files in self._listings.items() if folder == self.root}
        read = {path: content for path, content in self._contents.items() if path.parent == self.root}
        return SidecarTree(self.root, self.suffix, kept, read)

    def own(self, image: Path, extension: str) -> Mapping[str, Any]:
        """Metadata of the sidecar that has the image's own name, or nothing where there is none."""
        path = image.with_name(image.name.removesuffix(extension) + ".json")
        return next((self._content(path)[0] for _, other in self._listing(image.parent) if other == path), {})

    def inherited(
        self, name: BidsName, folders: Sequence[Path]
    ) -> tuple[dict[str, Any], tuple[Path, ...], tuple[Notice, ...]]:
        """Metadata of an image: of every applicable file from the root down, the nearest wins key by key.

        Inside one folder a file with more entities is nearer; two of one rank that disagree are refused.
        """
        metadata: dict[str, Any] = {}
        paths: list[Path] = []
        notices: list[Notice] = []
        for folder in folders:
            level: dict[str, Any] = {}
            for _, peers in groupby(self._applicable(name, folder), key=lambda item: item[0]):
                same_rank: dict[str, Any] = {}
                for _, path in peers:
                    content, warned = self._content(path)
                    self._refuse_clash(same_rank, content, path)
                    same_rank |= content
                    paths.append(path)
                    notices.extend(warned)
                level |= same_rank
            metadata |= level
        return metadata, tuple(paths), tuple(notices)

    def shared_echo_time(self, paths: Sequence[Path], shown: str) -> list[Notice]:
        """A warning where an echo's time is that of a file which holds for all echoes: its own was lost."""
        holding = [path for path in paths if "EchoTime" in self._content(path)[0]]
        name = parse_name(holding[-1].name) if holding else None
        if name is None or "echo" in name.entities:
            return []
        found = f"EchoTime is that of {self.shown(holding[-1])}, which holds for all echoes"
        return [Notice("W217", found, "write each echo's time into its own sidecar", shown)]

    def _refuse_clash(self, peers: Mapping[str, Any], content: Mapping[str, Any], path: Path) -> None:
        for key in sorted(peers.keys() & content.keys() & _DECISIVE):
            if peers[key] != content[key]:
                found = f"{key} has two values from files of one folder that apply alike"
                fix = f"delete {key} from one of them"
                raise InputError("E223", found, "one is needed", fix, path=self.shown(path))

    def _applicable(self, name: BidsName, folder: Path) -> Iterator[tuple[int, Path]]:
        found = [
            (len(sidecar.entities), path)
            for sidecar, path in self._listing(folder)
            if sidecar.entities.items() <= name.entities.items()
        ]
        yield from sorted(found, key=lambda item: (item[0], natural_key(item[1].name)))

    def _listing(self, folder: Path) -> list[tuple[BidsName, Path]]:
        if folder not in self._listings:
            try:
                with os.scandir(folder) as entries:
                    names = [entry.name for entry in entries if entry.name.endswith(f"{self.suffix}.json")]
            except OSError as error:
                found = f"can't be read ({error.strerror})"
                raise InputError("E220", found, "", _READABLE, path=self.shown(folder)) from error
            parsed = [(parse_name(name), folder / name) for name in names if not name.startswith(".")]
            self._listings[folder] = [
                (name, path) for name, path in parsed if name is not None and name.suffix == self.suffix
            ]
        return self._listings[folder]

    def _content(self, path: Path) -> tuple[dict[str, Any], tuple[Notice, ...]]:
        if path not in self._contents:
            try:
                self._contents[path] = read_json(path, self.shown(path))
            except InputError as error:
                self._contents[path] = error
        content = self._contents[path]
        if isinstance(content, InputError):
            raise InputError(**content.as_dict())
        return content


_DECISIVE = frozenset({"EchoTime", "EffectiveEchoTime", "MagneticFieldStrength"})
