"""Strict checks of an atlas's TOML file: every key known, every type right, every path inside its folder.

May import errors and its sibling. Each refusal is a `UsageError` that names the file and the key.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from r2star.atlas import templateflow
from r2star.errors import UsageError

MAX_LABEL = 65535  # label images are uint8 or uint16
_REGION_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_BIDS_LABEL = re.compile(r"[A-Za-z0-9]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def read_toml(path: Path) -> dict[str, Any]:
    """Tables of a TOML file; `UsageError` where it cannot be read."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise UsageError(
            "E450", f"the atlas file cannot be read ({error.strerror})", fix="check the path", path=path
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError("E451", f"not a TOML file: {error}", fix="mend the line named", path=path) from None


def check_keys(
    table: Mapping[str, Any], where: str, known: frozenset[str], needed: frozenset[str], path: Path
) -> None:
    """Refuse unknown and missing keys."""
    unknown, missing = sorted(set(table) - known), sorted(needed - set(table))
    if unknown:
        found = f"unknown key {', '.join(unknown)} in {where}"
        raise UsageError(
            "E452", found, f"known are {', '.join(sorted(known))}", nearest(unknown[0], known), path=path
        )
    if missing:
        raise UsageError("E452", f"{where} has no {', '.join(missing)}", fix="add it", path=path)


def nearest(word: str, known: Iterable[str]) -> str:
    """What a misspelt word may have meant, as advice; empty where nothing comes near.

    >>> nearest("lefft", ["left", "right"])
    'did you mean left?'
    """
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]}?" if close else ""


def text(table: Mapping[str, Any], key: str, path: Path, default: str = "") -> str:
    """A text value."""
    value = table.get(key, default)
    if not isinstance(value, str):
        raise UsageError("E452", f"{key} = {value!r}", "text was needed", path=path)
    return value


def bids_label(table: Mapping[str, Any], key: str, path: Path) -> str:
    """A text value that can stand in a BIDS file name: letters and digits only."""
    value = text(table, key, path)
    if not _BIDS_LABEL.fullmatch(value):
        raise UsageError("E452", f"{key} = {value!r}", "letters and digits only, as in BIDS names", path=path)
    return value


def region_name(table: Mapping[str, Any], path: Path) -> str:
    """A region's name: lower case, digits and single underscores."""
    value = text(table, "name", path)
    if not _REGION_NAME.fullmatch(value):
        raise UsageError(
            "E452", f"region name {value!r}", "lower case with underscores was needed", path=path
        )
    return value


def label_numbers(table: Mapping[str, Any], key: str, region: str, path: Path) -> tuple[int, ...]:
    """Label numbers of one hemisphere: whole numbers from 1, each once; empty where the key is absent."""
    values = table.get(key, [])
    ok = isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_LABEL for value in values
    )
    if not ok:
        raise UsageError(
            "E456",
            f"{key} of region {region} is {values!r}",
            f"a list of whole numbers 1–{MAX_LABEL}",
            path=path,
        )
    if len(set(values)) != len(values):
        raise UsageError("E456", f"{key} of region {region} names a label twice", path=path)
    return tuple(values)


def file_inside(value: object, key: str, description: Path) -> Path:
    """The file that ``files.<key>`` names: a path, or a table of ``path`` or ``templateflow`` and of ``sha256``.

    A hash is verified. Paths are relative to the TOML file's folder and stay inside it, so that an atlas from
    elsewhere cannot name files of this machine. Links inside the folder are followed, as annexed datasets need.
    """
    table = {"path": value} if isinstance(value, str) else value
    if not isinstance(table, dict):
        raise UsageError("E452", f"files.{key} = {value!r}", "a path was needed", path=description)
    source = "templateflow" if "templateflow" in table else "path"
    check_keys(table, f"files.{key}", frozenset({source, "sha256"}), frozenset({source}), description)
    named = text(table, source, description)
    find = _beside if source == "path" else templateflow.find_image
    file = find(named, key, description)
    _verify(file, text(table, "sha256", description), key, description)
    return file


def _beside(relative: str, key: str, description: Path) -> Path:
    posix, windows = PurePosixPath(relative), PureWindowsPath(relative)
    escapes = ".." in posix.parts or ".." in windows.parts
    rooted = posix.is_absolute() or windows.anchor or ":" in relative
    if not relative or rooted or escapes or "\0" in relative:
        raise UsageError(
            "E453",
            f"files.{key} = {relative!r}",
            "a path inside the folder of the TOML file",
            "put the image beside the TOML file and name it without folders above",
            path=description,
        )
    file = description.parent / relative
    try:
        there = file.is_file()
    except OSError:  # a name that is too long
        there = False
    if not there:
        raise UsageError(
            "E454",
            f"files.{key}: there is no file {relative[:200]}",
            path=description,
            fix=nearest(file.name, _names_in(file.parent)) or "check the path",
        )
    return file


def _names_in(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir()] if folder.is_dir() else []


def named_files(description: Path) -> dict[str, Path]:
    """The files of a sound description, by where they stand in a copy of it that needs nothing else."""
    files = {}
    for key, value in read_toml(description)["files"].items():
        table = value if isinstance(value, dict) else {"path": value}
        name = table.get("templateflow") or table["path"]
        files[name] = file_inside(value, key, description)
    return files


def _verify(file: Path, expected: str, key: str, description: Path) -> None:
    if not expected:
        return
    if not _SHA256.fullmatch(expected):
        raise UsageError(
            "E452", f"sha256 of files.{key}", "64 lower-case hexadecimal digits", path=description
        )
    if sha256_of(file) != expected:
        raise UsageError(
            "E455",
            f"files.{key}: {file.name} is not the file that was described (SHA-256 differs)",
            fix="get the file again, or describe the new one",
            path=description,
        )


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
