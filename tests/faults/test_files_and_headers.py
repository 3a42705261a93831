"""Battery, parts A and B: what the files hold, what their headers say."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import battery as b
import nibabel as nib
import numpy as np
from battery import fine, refused, warned

DIM, DATATYPE, VOX_OFFSET, SLOPE, MAGIC = 40, 70, 108, 112, 344


def to_plain(folder: Path, number: int = 2) -> Path:
    """Unpack an echo to x.nii beside x.nii.gz."""
    path = b.image(folder, number, ".nii")
    path.write_bytes(bytes(b.content_of(folder, number)))
    return path


def cut(share: float) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        data = b.image(folder, 2).read_bytes()
        b.image(folder, 2).write_bytes(data[: int(share * len(data))])

    return spoil


def flip_bit(folder: Path) -> None:
    path = b.image(folder, 3)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))


def append(tail: bytes) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        with b.image(folder, 2).open("ab") as file:
            file.write(tail)

    return spoil


def second_member(folder: Path) -> None:
    append(b.image(folder, 3).read_bytes())(folder)


def two_members(folder: Path) -> None:
    content = bytes(b.content_of(folder, 2))
    packed = gzip.compress(content[:400], mtime=0) + gzip.compress(content[400:], mtime=0)
    b.image(folder, 2).write_bytes(packed)


def replace_by(data: bytes) -> Callable[[Path], None]:
    return lambda folder: b.image(folder, 2).write_bytes(data)


def plain_named_gz(folder: Path) -> None:
    b.image(folder, 2).write_bytes(bytes(b.content_of(folder, 2)))


def packed_named_nii(folder: Path) -> None:
    b.image(folder, 2).rename(b.image(folder, 2, ".nii"))


def plain(folder: Path, tail: bytes = b"") -> None:
    path = to_plain(folder)
    b.image(folder, 2).unlink()
    with path.open("ab") as file:
        file.write(tail)


def both(folder: Path, change: bool = False) -> None:
    path = to_plain(folder)
    if change:
        path.write_bytes(path.read_bytes()[:-1] + b"\x01")


def link_to(target: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        b.image(folder, 2).unlink()
        b.image(folder, 2).symlink_to(target)

    return spoil


def linked_content(folder: Path) -> None:
    """As git-annex stores: the name is a link to a file with another name."""
    store = folder.parents[1] / ".git/annex/objects" / folder.parent.name
    store.mkdir(parents=True)
    for path in sorted(folder.glob("*.nii.gz")):
        shutil.move(path, store / path.name)
        path.symlink_to(Path("../../.git/annex/objects") / folder.parent.name / path.name)


def clutter(folder: Path) -> None:
    for name in (f"._{b.stem(folder, 1)}.nii.gz", ".DS_Store", "Thumbs.db", f".{b.stem(folder, 9)}.json"):
        (folder / name).write_bytes(b"\0\5\x16\7junk")


def folder_named_image(folder: Path) -> None:
    b.image(folder, 2).unlink()
    b.image(folder, 2).mkdir()


def claims_the_moon(folder: Path) -> None:
    content = b.content_of(folder, 2)
    content[DIM : DIM + 8] = np.array([3, 32767, 32767, 32767], "<i2").tobytes()
    b.image(folder, 2).unlink()
    b.image(folder, 2, ".nii").write_bytes(bytes(content[:400]))


def as_type(kind: str, order: str = "<") -> Callable[[Path], None]:
    """The values in another type and byte order."""

    def change(folder: Path, number: int, values: np.ndarray) -> None:
        new = nib.Nifti1Image(values.astype(kind), b.AFFINE)
        swapped = nib.Nifti1Image(new.dataobj, b.AFFINE, new.header.as_byteswapped(order))
        nib.save(swapped, b.image(folder, number))

    return b.each_echo(change)


def scaled(slopes: tuple[float, ...], inter: float = 0.0) -> Callable[[Path], None]:
    """The values, stored as integers that each echo scales by its own slope."""

    def change(folder: Path, number: int, values: np.ndarray) -> None:
        stored = ((values - inter) / slopes[number - 1]).astype(np.int16)
        header = nib.Nifti1Image(stored, b.AFFINE).header
        header["scl_slope"], header["scl_inter"], header["vox_offset"] = slopes[number - 1], inter, 352
        b.pack(folder, number, header.binaryblock + bytes(4) + stored.tobytes(order="F"))

    return b.each_echo(change)


def nifti2(folder: Path, number: int, values: np.ndarray) -> None:
    b.rewrite(folder, number, values, kind=nib.Nifti2Image)


def complex_values(folder: Path, number: int, values: np.ndarray) -> None:
    b.rewrite(folder, number, (values * np.exp(0.7j)).astype(np.complex64))


def dims(lengths: tuple[int, ...]) -> Callable[[Path], None]:
    return lambda folder: b.poke(folder, 2, DIM, "8h", *(lengths + (1,) * 8)[:8])


def field(offset: int, form: str, *values: float) -> Callable[[Path], None]:
    return lambda folder: b.poke(folder, 2, offset, form, *values)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1\n"

ROWS = [
    refused("A01", "no byte", replace_by(b""), "E104", "echo-2", "copy the file again"),
    refused("A02", "cut at 50 %", cut(0.5), "E109", "echo-2", "copy the file again"),
    refused("A02b", "the last byte lost", cut(0.9999), "E109", "echo-2"),
    refused("A02c", "cut in the gzip header", replace_by(b"\x1f\x8b\x08"), "E109", "echo-2"),
    refused("A05", "one bit flipped", flip_bit, "E108", "echo-3"),
    refused("A07", "garbage after the stream", append(b"garbage"), "E110", "echo-2"),
    refused("A07b", "zeros after the stream", append(bytes(512)), "E110", "echo-2"),
    refused("A07c", "another image after the stream", second_member, "E111", "echo-2"),
    fine("A08", "one image in two members", two_members),
    refused("A10", "plain image named .nii.gz", plain_named_gz, "E106", "echo-2", "gzip", "rename"),
    refused("A11", "gzipped image named .nii", packed_named_nii, "E107", "echo-2", "rename it to .nii.gz"),
    fine("A12", "one plain echo among packed ones", plain),
    warned("A13", "1000 bytes too many", partial(plain, tail=bytes(1000)), "W101"),
    refused("A13b", "many bytes too many", partial(plain, tail=bytes(9000)), "E112", "echo-2"),
    refused("A14", "web page", replace_by(b"<html>404</html>"), "E105", "echo-2", "pointer"),
    refused("A14b", "LFS pointer", replace_by(LFS), "E105", "echo-2", "git lfs pull"),
    refused("A14c", "annex pointer", replace_by(b"/annex/objects/MD5E-s12--ab.nii.gz\n"), "E105", "echo-2",
            "datalad get"),
    refused("A14d", "a JSON error", replace_by(b'{"error": "403"}'), "E105", "echo-2"),
    refused("A15", "broken annex link", link_to("../../.git/annex/objects/x/y"), "E213", "echo-2", "datalad get"),
    refused("A15b", "link to itself", lambda f: link_to(b.image(f, 2).name)(f), "E213", "echo-2"),
    fine("A16", "annexed content behind links", linked_content),
    refused("A17", "folder of an image's name", folder_named_image, "E220", "echo-2"),
    refused("A18", "x.nii beside another x.nii.gz", partial(both, change=True), "E212", "echo-2"),
    warned("A18b", "x.nii beside an equal x.nii.gz", both, "W204"),
    fine("A19", "files of other systems", clutter),
    refused("B01", "magic xxx", field(MAGIC, "4s", b"xxx\0"), "E120", "echo-2", "xxx"),
    refused("B02", "magic of a pair", field(MAGIC, "4s", b"ni1\0"), "E120", "echo-2", "pair"),
    refused("B03", "sizeof_hdr 0", field(0, "i", 0), "E120", "echo-2"),
    fine("B04", "NIfTI-2", b.each_echo(nifti2)),
    refused("B05", "dim[0] = 0", dims((0, 6, 5, 4)), "E121", "echo-2"),
    refused("B05b", "dim[0] = 9", dims((9, 6, 5, 4)), "E121", "echo-2"),
    refused("B05c", "dim[1] = -5", dims((3, -5, 5, 4)), "E121", "echo-2"),
    refused("B05d", "dim[3] = 0", dims((3, 6, 5, 0)), "E121", "echo-2"),
    refused("B05e", "two axes", dims((2, 6, 20)), "E121", "echo-2"),
    refused("B06", "400 bytes that claim 32767³ voxels", claims_the_moon, "E126", "echo-2"),
    refused("B07", "more slices than content", dims((3, 6, 5, 400)), "E109", "echo-2"),
    refused("B08", "far fewer slices than content", dims((3, 6, 1, 1)), "E306", "", "6×1×1", "6×5×4"),
    refused("B09", "datatype 0", field(DATATYPE, "h", 0), "E122", "echo-2", "0"),
    refused("B09b", "datatype 1", field(DATATYPE, "h", 1), "E122", "echo-2", "1"),
    refused("B09c", "datatype 9999", field(DATATYPE, "h", 9999), "E122", "echo-2", "9999"),
    refused("B09d", "datatype 1536", field(DATATYPE, "h", 1536), "E122", "echo-2", "1536"),
    refused("B09e", "colours", field(DATATYPE, "2h", 128, 24), "E122", "echo-2", "128"),
    refused("B10", "bitpix against datatype", field(DATATYPE + 2, "h", 16), "E123", "echo-2"),
    refused("B11", "vox_offset 0", field(VOX_OFFSET, "f", 0), "E124", "echo-2"),
    refused("B11b", "vox_offset NaN", field(VOX_OFFSET, "f", np.nan), "E124", "echo-2"),
    refused("B11c", "vox_offset one value late", field(VOX_OFFSET, "f", 356), "E109", "echo-2"),
    fine("B13", "slope 0.5", scaled((0.5,) * 4)),
    fine("B13b", "slope 2, intercept 100", scaled((2.0,) * 4, 100.0)),
    fine("B14", "slope 0, intercept 0", lambda f: b.poke_all(f, SLOPE, "2f", 0, 0)),
    fine("B14b", "slope NaN", lambda f: b.poke_all(f, SLOPE, "2f", np.nan, np.nan)),
    fine("B14c", "slope 0, intercept 5", lambda f: b.poke_all(f, SLOPE, "2f", 0, 5)),
    refused("B15", "slope without intercept", field(SLOPE, "2f", 2.0, np.nan), "E125", "echo-2"),
    fine("B17", "each echo its own slope", scaled((0.25, 0.5, 2.0, 4.0))),
    fine("B20", "big-endian int16", as_type("i2", ">")),
    fine("B20b", "float64", as_type("f8")),
    fine("B20c", "int32", as_type("i4")),
    fine("B20d", "uint16", as_type("u2")),
    fine("B20e", "big-endian float32", as_type("f4", ">")),
    refused("B21", "complex values", b.each_echo(complex_values), "E128", "echo-1", "complex"),
]  # fmt: skip


test_row, test_the_others_are_untouched_and_the_exit_code_says_1, test_row_alone = b.tests_of(
    ROWS, alone=("A02",)
)
