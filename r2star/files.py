"""Writing a file so that it is there whole or not at all; hashing it. Imports only errors.

A file is written under a hidden temporary name in its own folder, flushed to the disk, and renamed over its
target: a reader sees the old file or the new one. The rename replaces a symbolic link, it never follows
one. While it is written the temporary file is locked (``flock``), so that `sweep_temporary` can tell an
orphan of a killed process from a file that a live one, on whatever host or in whatever container, is still
writing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from r2star.errors import EnvironmentFault

TEMPORARY_PREFIX = ".r2star-tmp-"

_CHUNK = 1 << 20
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}
# "[Errno 28] No space left on device: 'from' -> 'to'", alone or within the text of another error
_ERRNO = re.compile(
    r"""\[Errno (\d+)\] [^:'"\\]*(?:: (['"])(?P<path>.+?)\2(?: -> (['"])(?P<target>.+?)\4)?)?"""
)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


class AtomicFile:
    """A file being written under a temporary name; `commit` puts it in place, anything else leaves nothing.

    Used as a context manager: leaving without `commit`, by an error or not, removes the temporary file.

    Raises
    ------
    EnvironmentFault
        E601 disk or quota full, E602 no right to write there, E607 any other fault of the file system.
    """

    def __init__(self, path: str | Path, *, suffix: str = "") -> None:
        self.path = Path(path)
        self._suffix = suffix
        try:
            self._descriptor, self.temporary = self._create()
        except OSError as error:
            raise write_fault(error, self.path) from error

    def _create(self) -> tuple[int, Path]:
        while True:
            temporary = self.path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{self._suffix}"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(temporary, flags, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    os.close(descriptor)
                    raise
            # a sweep that came between the two calls has taken the name away: make another
            if os.fstat(descriptor).st_nlink:
                return descriptor, temporary
            os.close(descriptor)

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise write_fault(error, self.path) from error

    def flush(self) -> None:
        """Have the bytes on the disk."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise write_fault(error, self.path) from error

    def commit(self) -> None:
        """Flush, put the file in its place and flush the folder."""
        self.flush()
        try:
            self.temporary.replace(self.path)
            _flush_folder(self.path.parent)
        except OSError as error:
            raise write_fault(error, self.path) from error

    def close(self) -> None:
        """Remove the temporary file if it is still there. May be called again."""
        if self._descriptor < 0:
            return
        with contextlib.suppress(OSError):
            self.temporary.unlink()
        os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_bytes_atomically(path: str | Path, data: bytes) -> Path:
    """Write a whole file or none of it; what stood there before, a symbolic link too, is replaced.

    Raises
    ------
    EnvironmentFault
        E601 disk or quota full, E602 no right to write there, E607 any other fault of the file system.
    """
    with AtomicFile(path) as file:
        file.write(data)
        file.commit()
    return Path(path)


def write_text_atomically(path: str | Path, text: str) -> Path:
    """Write text as UTF-8, line ends as they are; see `write_bytes_atomically`."""
    return write_bytes_atomically(path, text.encode("utf-8"))


def copy_atomically(source: str | Path, target: str | Path) -> Path:
    """Copy a file whole or not at all; see `write_bytes_atomically`. Rights and times are not copied."""
    with Path(source).open("rb") as reader, AtomicFile(target) as file:
        while chunk := reader.read(_CHUNK):
            file.write(chunk)
        file.commit()
    return Path(target)


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits.

    Raises
    ------
    EnvironmentFault
        E606 where the file can't be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise read_fault(error, path) from error


def sweep_temporary(folder: str | Path, *, orphan_age_s: float = 86_400.0) -> tuple[Path, ...]:
    """Remove what killed processes left half written in a folder (not below it); returns what was removed.

    A temporary file that a live process is writing is locked, and stays. On a file system without locks a
    file is an orphan when nothing was written to it for ``orphan_age_s`` seconds.
    """
    removed = []
    for path in sorted(Path(folder).glob(f"{TEMPORARY_PREFIX}*")):
        with contextlib.suppress(OSError):
            if _is_orphan(path, orphan_age_s):
                path.unlink()
                removed.append(path)
    return tuple(removed)


def _is_orphan(path: Path, orphan_age_s: float) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return time.time() - os.fstat(descriptor).st_mtime > orphan_age_s
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some network file systems can't flush a folder; the rename stands there all the same
        if error.errno not in _NO_LOCKS:
            raise
    finally:
        os.close(descriptor)


def is_write_fault(error: OSError) -> bool:
    """Whether an `OSError` is of a full or closed disk, not of the program."""
    return error.errno in _FULL | _FORBIDDEN


def fault_in_text(text: str) -> EnvironmentFault | None:
    """The environment fault that a traceback tells of, if it does."""
    for line in reversed(text.splitlines()):
        found = _ERRNO.search(line)
        if found is not None:
            number = int(found[1])
            error = OSError(number, os.strerror(number))
            path = found["target"] or found["path"] or ""
            return write_fault(error, path) if is_write_fault(error) else None
    return None


def write_fault(error: OSError, path: str | Path) -> EnvironmentFault:
    """The environment fault behind an `OSError` met in writing."""
    if error.errno in _FULL:
        return EnvironmentFault(
            "E601",
            f"no room to write ({error.strerror})",
            fix="free space or raise the quota, then run again: finished units are kept",
            path=path,
        )
    if error.errno in _FORBIDDEN:
        return EnvironmentFault(
            "E602",
            f"no right to write ({error.strerror})",
            fix="choose a folder that this user may write to",
            path=path,
        )
    return EnvironmentFault(
        "E607",
        f"can't be written ({error.strerror or error})",
        fix="check the folder and the file system",
        path=path,
    )


def read_fault(error: OSError, path: str | Path) -> EnvironmentFault:
    """The environment fault behind an `OSError` met in reading."""
    return EnvironmentFault(
        "E606",
        f"can't be read ({error.strerror or error})",
        fix="check the file's rights and the file system",
        path=path,
    )
