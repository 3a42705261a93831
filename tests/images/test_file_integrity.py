"""Files that are not what they seem: every fault has its own name, and names the file."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from r2star.errors import EnvironmentFault, InputError
from r2star.images import open_image, read_grid, read_image


def refused(path: Path, code: str, words: str) -> InputError:
    with pytest.raises(InputError) as caught:
        read_image(path)
    error = caught.value
    assert error.code == code
    assert error.path == str(path)
    assert words in str(error)
    return error


def test_empty_file(put):
    assert "copy the file again" in refused(put(b"", packed=False), "E104", "0 bytes").fix


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_cut_gzip(put, nifti, values, share):
    whole = gzip.compress(nifti(values), mtime=0)
    path = put(whole[: max(2, int(len(whole) * share))], packed=False)
    refused(path, "E109", "cut off")


@pytest.mark.parametrize("missing", range(1, 9))
def test_every_byte_of_the_trailer_is_needed(put, nifti, values, missing):
    refused(put(gzip.compress(nifti(values), mtime=0)[:-missing], packed=False), "E109", "cut off")


@pytest.mark.parametrize("length", [2, 100, 347, 348, 352, 353, 5000])
def test_cut_plain_file(put, nifti, values, length):
    refused(put(nifti(values)[:length], "image.nii"), "E109", "cut off")


def test_content_shorter_than_the_header_says(put, nifti, values):
    """A sound gzip stream around half an image."""
    content = nifti(values)
    refused(put(content[: len(content) // 2]), "E109", "fewer bytes than its header promises")


def test_wrong_check_sum_and_wrong_length(put, nifti, values):
    whole = gzip.compress(nifti(values), mtime=0)
    crc, length = struct.unpack("<II", whole[-8:])
    for trailer in ((crc ^ 1, length), (crc, length + 1)):
        refused(put(whole[:-8] + struct.pack("<II", *trailer), packed=False), "E108", "check sum")


@pytest.mark.parametrize("garbage", [b"\0", b"x", b"\0" * 512, b"\x1f", b"\x1f\x8c123", b"junk" * 99])
def test_bytes_after_the_gzip_stream(put, nifti, values, garbage):
    """Refused, whatever they are."""
    path = put(gzip.compress(nifti(values), mtime=0) + garbage, packed=False)
    refused(
        path, "E109" if garbage == b"\x1f" else "E110", "other bytes" if garbage != b"\x1f" else "cut off"
    )


def test_second_image_in_the_same_file(put, nifti, values):
    refused(put(gzip.compress(nifti(values), mtime=0) * 2, packed=False), "E111", "second gzip stream")


def test_one_image_in_several_members_is_legal(put, nifti, values):
    """RFC 1952, 2.2; bgzip writes so, and ends with an empty member."""
    content = nifti(values)
    members = [content[:100], content[100:353], content[353:4000], content[4000:], b""]
    path = put(b"".join(map(gzip.compress, members)), packed=False)
    assert np.array_equal(read_image(path).data, values)
    damaged = bytearray(path.read_bytes())
    damaged[len(gzip.compress(members[0])) - 6] ^= 1
    refused(put(bytes(damaged), packed=False), "E108", "check sum")


@pytest.mark.parametrize("flags", [1, 2, 4, 8, 16, 31])
def test_optional_fields_of_the_gzip_header(put, nifti, values, flags):
    content = nifti(values)
    header = b"\x1f\x8b\x08" + bytes([flags]) + b"\1\2\3\4\0\3"
    header += b"\x05\0extra" if flags & 4 else b""
    header += b"name.nii\0" if flags & 8 else b""
    header += b"a comment\0" if flags & 16 else b""
    header += struct.pack("<H", zlib.crc32(header) & 0xFFFF) if flags & 2 else b""
    body = gzip.compress(content)[10:]
    assert np.array_equal(read_image(put(header + body, packed=False)).data, values)
    if flags & 2:
        wrong = header[:-1] + bytes([header[-1] ^ 1])
        refused(put(wrong + body, packed=False), "E108", "gzip header")


@pytest.mark.parametrize("flags", [0x20, 0x40, 0x80])
def test_reserved_flags_are_refused(put, nifti, values, flags):
    whole = bytearray(gzip.compress(nifti(values), mtime=0))
    whole[3] |= flags
    refused(put(bytes(whole), packed=False), "E108", "gzip header")


def test_name_without_end(put):
    refused(put(b"\x1f\x8b\x08\x08" + b"\0" * 6 + b"n" * 300_000, packed=False), "E108", "gzip header")


def test_plain_image_named_gz(put, nifti, values):
    assert "rename it to .nii" in refused(put(nifti(values), packed=False), "E106", "not gzipped").fix


def test_gzipped_image_named_nii(put, nifti, values):
    error = refused(put(gzip.compress(nifti(values), mtime=0), "image.nii"), "E107", "gzipped")
    assert "rename it to .nii.gz" in error.fix


def test_other_bytes_named_gz(put):
    refused(put(bytes(range(256)) * 9, packed=False), "E106", "not gzipped")


@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
@pytest.mark.parametrize("count", [1, 1000, 4096])
def test_some_bytes_after_the_values(put, nifti, values, name, count):
    """A notice; the values are those of the header."""
    image = read_image(put(nifti(values) + b"\0" * count, name))
    assert [notice.code for notice in image.notices] == ["W101"]
    assert f"{count} bytes" in image.notices[0].message
    assert np.array_equal(image.data, values)


@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
def test_many_bytes_after_the_values(put, nifti, values, name):
    """More than padding: the header and the file tell two stories."""
    refused(put(nifti(values) + b"\0" * 4097, name), "E112", "more values than its header says")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        (b"/annex/objects/MD5E-s1234--0123456789abcdef.nii.gz\n", "datalad get"),
        (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "download it again"),
        (b"\n <HTML><title>404</title>", "download it again"),
        (b"Not Found", "datalad get"),
        (b"../../.git/annex/objects/Xk/9p/MD5E-s1234--01.nii.gz/MD5E-s1234--01.nii.gz", "datalad get"),
    ],
)
@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
def test_text_in_place_of_an_image(put, text, words, name):
    assert words in refused(put(text, name, packed=False), "E105", "looks like a pointer").fix


def test_broken_annex_link(tmp_path):
    path = tmp_path / "sub-01_echo-1_MEGRE.nii.gz"
    path.symlink_to("../../.git/annex/objects/Xk/9p/MD5E-s1--0.nii.gz/MD5E-s1--0.nii.gz")
    assert f"datalad get {path}" in refused(path, "E102", "link is broken").fix


def test_other_broken_link(tmp_path):
    path = tmp_path / "x.nii"
    path.symlink_to("nowhere.nii")
    assert "datalad" not in refused(path, "E102", "link is broken").fix


def test_missing_file_folder_and_pipe(tmp_path):
    refused(tmp_path / "x.nii", "E101", "no such file")
    (tmp_path / "folder.nii").mkdir()
    refused(tmp_path / "folder.nii", "E103", "no regular file")
    os.mkfifo(tmp_path / "pipe.nii.gz")
    refused(tmp_path / "pipe.nii.gz", "E103", "no regular file")


@pytest.mark.parametrize("name", ["image.mgz", "image.img", "image.gz", "image"])
def test_name_that_promises_no_nifti(put, nifti, values, name):
    refused(put(nifti(values), name), "E113", ".nii.gz")


def test_unreadable_file(put, nifti, values, monkeypatch):
    path = put(nifti(values))

    def forbid(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbid)
    with pytest.raises(EnvironmentFault, match=r"R2S-E606.*Permission denied"):
        read_image(path)


@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
def test_hash_is_of_the_bytes_on_the_disk(put, nifti, values, name):
    path = put(nifti(values) + b"tail", name)
    assert read_image(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    with open_image(path) as reader, pytest.raises(ValueError, match="read to its end"):
        _ = reader.sha256
    assert reader.verified
    assert reader.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_closing_early_verifies_the_rest(put, nifti, values):
    whole = bytearray(gzip.compress(nifti(values), mtime=0))
    whole[-5] ^= 4
    for n_read in (1, 5, 7, 11):
        reader = open_image(put(bytes(whole), packed=False))
        assert np.array_equal(reader.read_slices(n_read), values[:, :, :n_read])
        with pytest.raises(InputError, match="R2S-E108"):
            reader.close()
        assert not reader.verified
        with open_image(put(nifti(values))) as sound:
            sound.read_slices(n_read)
        assert sound.verified


def test_an_error_of_the_caller_is_not_hidden_by_the_verdict(put, nifti, values):
    whole = bytearray(gzip.compress(nifti(values), mtime=0))
    whole[-5] ^= 4
    with pytest.raises(KeyError), open_image(put(bytes(whole), packed=False)):
        raise KeyError


def test_grid_comes_from_the_header_alone(put, nifti, values, oblique):
    whole = gzip.compress(nifti(np.tile(values, (1, 1, 40))), mtime=0)
    grid = read_grid(put(whole[: len(whole) // 2], packed=False))
    assert grid.shape == (23, 17, 480)
    assert np.abs(grid.affine - oblique).max() < 1e-5
