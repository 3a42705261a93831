"""The bytes of an image file, verified to the last one. Imports isal, errors and files.

One rule for .nii and .nii.gz: content is handed out in order, every byte of the file is hashed as it is
read, and the end of the content is only reported once everything that follows it has been checked.

gzip (RFC 1952): the header is parsed strictly, the deflate stream is unpacked by ISA-L, and CRC-32 and
length of every member are compared here, whatever the library does. What a flipped bit may change without
being refused is what has no bearing on the content: the header's time, name, comment, extra field,
operating system and compression hint, the text flag, and the padding bits between deflate blocks and bytes;
such a file has the same voxels. Several members are one content, as the RFC says (bgzip writes so).
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import BinaryIO, Protocol

from isal import igzip_lib, isal_zlib

from r2star.errors import InputError
from r2star.files import read_fault

GZIP_MAGIC = b"\x1f\x8b"
RECOPY = "copy the file again from its source and compare the checksums"

_IsalError: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]
_FILE_CHUNK = 1 << 16
_BLOCK = 1 << 18
_LONGEST_FIELD = 1 << 16
_HEADER_CRC, _EXTRA, _NAME, _COMMENT, _RESERVED = 2, 4, 8, 16, 0xE0


class Source(Protocol):
    """Content of a file, read once from its start to its end."""

    def read_into(self, view: memoryview) -> int:
        """Fill ``view`` as far as the content goes; the number of bytes, short only at its verified end."""

    @property
    def part(self) -> int:
        """Number of the gzip member that is being read, from 1; always 1 for a plain file."""

    @property
    def sha256(self) -> str:
        """Hash of the bytes read from the disk so far."""


class PlainSource:
    """A file that is its own content."""

    part = 1

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._hash = hashlib.sha256()

    def read_into(self, view: memoryview) -> int:
        """Fill ``view`` as far as the file goes."""
        filled = 0
        while filled < len(view):
            piece = view[filled : filled + _BLOCK]
            try:
                count = self._file.readinto(piece)  # type: ignore[attr-defined]
            except OSError as error:
                raise read_fault(error, self._path) from error
            if not count:
                break
            self._hash.update(piece[:count])
            filled += count
        return filled

    @property
    def sha256(self) -> str:
        """Hash of the bytes read so far."""
        return self._hash.hexdigest()


class GzipSource:
    """The content of a gzip file, every member checked against its CRC-32 and length."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._hash = hashlib.sha256()
        self._pending = b""
        self._inflate: igzip_lib.IgzipDecompressor | None = None
        self._crc = self._length = 0
        self.part = 0

    @property
    def sha256(self) -> str:
        """Hash of the compressed bytes read so far."""
        return self._hash.hexdigest()

    def read_into(self, view: memoryview) -> int:
        """Fill ``view`` as far as the content goes."""
        filled = 0
        while filled < len(view):
            block = self._next_block(min(len(view) - filled, _BLOCK))
            if not block:
                break
            view[filled : filled + len(block)] = block
            filled += len(block)
        return filled

    def _next_block(self, limit: int) -> bytes:
        """Content of at most ``limit`` bytes; empty only at the verified end of the file."""
        while True:
            if self._inflate is None:
                if not self._start_member():
                    return b""
            elif block := self._unpack(self._inflate, limit):
                return block

    def _unpack(self, inflate: igzip_lib.IgzipDecompressor, limit: int) -> bytes:
        if inflate.eof:
            self._end_member(inflate.unused_data)
            return b""
        packed = self._take() if inflate.needs_input else b""
        if inflate.needs_input and not packed:
            raise self._cut_off()
        try:
            block: bytes = inflate.decompress(packed, limit)
        except _IsalError as error:
            raise self._damaged("the compressed data break off in the middle") from error
        self._crc = isal_zlib.crc32(block, self._crc)
        self._length += len(block)
        return block

    def _read_file(self) -> bytes:
        try:
            data = self._file.read(_FILE_CHUNK)
        except OSError as error:
            raise read_fault(error, self._path) from error
        self._hash.update(data)
        return data

    def _take(self) -> bytes:
        data, self._pending = self._pending, b""
        return data or self._read_file()

    def _exactly(self, count: int) -> bytes:
        while len(self._pending) < count:
            more = self._read_file()
            if not more:
                raise self._cut_off()
            self._pending += more
        data, self._pending = self._pending[:count], self._pending[count:]
        return data

    def _start_member(self) -> bool:
        """Read a member's header; False at the end of the file."""
        if not self._pending:
            self._pending = self._read_file()
        if self.part and not self._pending:
            return False
        if self.part and not (GZIP_MAGIC.startswith(self._pending) or self._pending.startswith(GZIP_MAGIC)):
            raise InputError(
                "E110",
                "other bytes follow the compressed image",
                "the file must end where its gzip stream ends",
                RECOPY,
                path=self._path,
            )
        self._parse_member_header()
        self.part += 1
        self._crc = self._length = 0
        self._inflate = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)
        return True

    def _parse_member_header(self) -> None:
        fixed = self._exactly(10)
        flags = fixed[3]
        if fixed[:2] != GZIP_MAGIC or fixed[2] != 8 or flags & _RESERVED:
            raise self._damaged("its gzip header is invalid")
        header = fixed
        if flags & _EXTRA:
            size = self._exactly(2)
            header += size + self._exactly(*struct.unpack("<H", size))
        for flag in (_NAME, _COMMENT):
            if flags & flag:
                header += self._text_field()
        if flags & _HEADER_CRC:
            (stated,) = struct.unpack("<H", self._exactly(2))
            if stated != isal_zlib.crc32(header) & 0xFFFF:
                raise self._damaged("the check sum of its gzip header is wrong")

    def _text_field(self) -> bytes:
        while (end := self._pending.find(b"\0")) < 0:
            if len(self._pending) > _LONGEST_FIELD:
                raise self._damaged("its gzip header is invalid")
            more = self._read_file()
            if not more:
                raise self._cut_off()
            self._pending += more
        return self._exactly(end + 1)

    def _end_member(self, unused: bytes) -> None:
        self._inflate = None
        self._pending = unused
        crc, length = struct.unpack("<II", self._exactly(8))
        if crc != self._crc or length != self._length & 0xFFFFFFFF:
            raise self._damaged("its check sum is wrong")

    def _cut_off(self) -> InputError:
        return InputError(
            "E109", "the file is cut off: its gzip stream has no end", "", RECOPY, path=self._path
        )

    def _damaged(self, what: str) -> InputError:
        return InputError("E108", f"the file is damaged: {what}", "", RECOPY, path=self._path)
