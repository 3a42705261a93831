"""From a path to a source of verified bytes, or the reason why there is none. Imports errors and streams."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from r2star.errors import InputError
from r2star.files import read_fault
from r2star.images.headers import header_size
from r2star.images.streams import GZIP_MAGIC, RECOPY, GzipSource, PlainSource, Source

_START = 512


def is_gzip_name(path: Path) -> bool:
    """Whether a name promises gzip; a name that promises no NIfTI at all is refused (E113)."""
    name = path.name.lower()
    if name.endswith(".nii.gz"):
        return True
    if name.endswith(".nii"):
        return False
    raise InputError(
        "E113", "the name ends in neither .nii nor .nii.gz", "", "convert it to NIfTI", path=path
    )


def open_source(path: Path) -> tuple[BinaryIO, Source, int]:
    """Open an image file after a look at its first bytes: the file, its content, its size on the disk.

    Raises
    ------
    InputError
        E101 missing, E102 broken link, E103 no regular file, E104 empty, E105 a pointer or a text,
        E106 not gzipped as its name says, E107 gzipped though its name does not say so, E113 another name.
    EnvironmentFault
        E606 where the file can't be read.
    """
    gzipped = is_gzip_name(path)
    size = _size(path)
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise read_fault(error, path) from error
    try:
        start = _first_bytes(file, path)
        _check_kind(start, gzipped, path)
    except BaseException:
        file.close()
        raise
    return file, GzipSource(file, path) if gzipped else PlainSource(file, path), size


def _size(path: Path) -> int:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise _missing(path) from error
    except OSError as error:
        raise read_fault(error, path) from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError("E103", "this is no regular file", "an image file is needed", path=path)
    if status.st_size == 0:
        raise InputError("E104", "the file is empty (0 bytes)", "", RECOPY, path=path)
    return status.st_size


def _missing(path: Path) -> InputError:
    if not path.is_symlink():
        return InputError("E101", "there is no such file", "", "check the path", path=path)
    fix = "restore what the link points to"
    if "annex" in str(path.readlink()):
        fix = f"fetch the content with `datalad get {path}`"
    return InputError("E102", "the link is broken: its content is not here", "", fix, path=path)


def _first_bytes(file: BinaryIO, path: Path) -> bytes:
    try:
        start = file.read(_START)
        file.seek(0, os.SEEK_SET)
    except OSError as error:
        raise read_fault(error, path) from error
    return start


def _check_kind(start: bytes, gzipped: bool, path: Path) -> None:
    if start.startswith(GZIP_MAGIC):
        if not gzipped:
            raise InputError(
                "E107", "the file is gzipped but its name ends in .nii", "", "rename it to .nii.gz", path=path
            )
        return
    if pointer := _pointer(start, path):
        raise pointer
    if not gzipped:
        return
    if _is_nifti(start, path):
        raise InputError(
            "E106",
            "the file is a NIfTI image that is not gzipped",
            "its name ends in .nii.gz",
            "rename it to .nii, or gzip it",
            path=path,
        )
    raise InputError("E106", "the file is not gzipped", "its name ends in .nii.gz", RECOPY, path=path)


def _is_nifti(start: bytes, path: Path) -> bool:
    try:
        header_size(start, path)
    except InputError:
        return False
    return True


def _pointer(start: bytes, path: Path) -> InputError | None:
    """The error for a text that stands where an image should, if it is one."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    fix = f"fetch the content, for example with `datalad get {path}`"
    if text.startswith(b"version https://git-lfs"):
        what, fix = "a Git LFS pointer", "fetch the content with `git lfs pull`"
    elif b"annex/objects" in text and len(start) < _START:
        what = "a git-annex pointer"
    elif text.startswith((b"<!doctype", b"<html", b"<?xml")):
        what, fix = "a web page (the download failed)", "download it again"
    elif all(byte >= 0x20 or byte in b"\t\r\n" for byte in start):
        what, fix = "text", "copy or fetch the image again (`datalad get`, `git lfs pull`)"
    else:
        return None
    return InputError(
        "E105", f"the file looks like a pointer: it holds {what} instead of an image", "", fix, path=path
    )
