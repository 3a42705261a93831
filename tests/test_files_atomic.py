"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from pathlib import Path

import pytest

from r2star.errors import EnvironmentFault
from r2star.files import (
    TEMPORARY_PREFIX,
    AtomicFile,
    fault_in_text,
    sha256_of,
    sweep_temporary,
    write_bytes_atomically,
    write_text_atomically,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_bytes_and_text_and_their_hash(tmp_path):
    content = bytes(range(256)) * 9000
    path = write_bytes_atomically(tmp_path / "a", content)
    assert path.read_bytes() == content
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()
    assert write_text_atomically(tmp_path / "b", "µ\r\nn\n").read_bytes() == "µ\r\nn\n".encode()
    assert names(tmp_path) == ["a", "b"]


def test_rights_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        path = write_bytes_atomically(tmp_path / "a", b"")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_link_is_replaced(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "table.tsv").symlink_to(victim)
    write_text_atomically(tmp_path / "table.tsv", "new")
    assert victim.read_text() == "precious"
    assert (tmp_path / "table.tsv").read_text() == "new"
    assert not (tmp_path / "table.tsv").is_symlink()


def test_old_file_is_there_until_the_commit(tmp_path):
    path = write_text_atomically(tmp_path / "a", "old")
    with AtomicFile(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
        file.commit()
        assert path.read_text() == "new"
    with AtomicFile(path) as file:
        file.write(b"not committed")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a"]


def test_descriptors_are_closed(tmp_path):
    before = len(names(Path("/proc/self/fd")))
    for _ in range(20):
        write_bytes_atomically(tmp_path / "a", b"x")
    assert len(names(Path("/proc/self/fd"))) == before


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "E601"), (errno.EDQUOT, "E601"), (errno.EFBIG, "E601"),
        (errno.EROFS, "E602"), (errno.EACCES, "E602"), (errno.EPERM, "E602"), (errno.EIO, "E607"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_faults_have_their_code_and_leave_nothing(tmp_path, monkeypatch, call, number, code):
    path = write_text_atomically(tmp_path / "a", "old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(EnvironmentFault) as caught:
        write_text_atomically(path, "new")
    monkeypatch.undo()
    assert (caught.value.code, caught.value.path, caught.value.exit_code) == (code, str(path), 4)
    assert os.strerror(number) in str(caught.value)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_the_right_to_write(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(EnvironmentFault, match="R2S-E602"):
        write_text_atomically(tmp_path / "a", "new")
    tmp_path.chmod(0o700)


def test_missing_folder(tmp_path):
    with pytest.raises(EnvironmentFault, match=r"R2S-E607.*No such file"):
        write_text_atomically(tmp_path / "nowhere" / "a", "new")
    with pytest.raises(EnvironmentFault, match=r"R2S-E606.*No such file"):
        sha256_of(tmp_path / "nowhere")


def test_writes_that_take_only_a_part(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    assert write_bytes_atomically(tmp_path / "a", b"0123456789" * 5).read_bytes() == b"0123456789" * 5


def orphan(folder: Path, age_s: float = 0.0) -> Path:
    path = folder / f"{TEMPORARY_PREFIX}0123.json"
    path.write_text("half")
    os.utime(path, (path.stat().st_mtime - age_s,) * 2)
    return path


def test_sweep_takes_orphans_and_nothing_else(tmp_path):
    kept = write_text_atomically(tmp_path / "a", "x")
    path = orphan(tmp_path)
    (tmp_path / f"{TEMPORARY_PREFIX}link").symlink_to(kept)
    with AtomicFile(tmp_path / "b") as file:
        assert sweep_temporary(tmp_path) == (path,)
        assert not path.exists()
        assert file.temporary.exists()
        file.write(b"y")
        file.commit()
    assert kept.read_text() == "x"
    assert (tmp_path / "b").read_text() == "y"


def test_sweep_without_locks_goes_by_age(tmp_path, monkeypatch):
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert write_text_atomically(tmp_path / "a", "x").read_text() == "x"
    path = orphan(tmp_path, age_s=100)
    assert sweep_temporary(tmp_path) == ()
    assert sweep_temporary(tmp_path, orphan_age_s=99) == (path,)


def test_name_swept_before_it_was_locked_is_made_anew(tmp_path, monkeypatch):
    lock, swept = fcntl.flock, []

    def sweep_first(descriptor: int, operation: int) -> None:
        if not swept:
            swept.extend(tmp_path.glob(f"{TEMPORARY_PREFIX}*"))
            swept[0].unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    assert write_text_atomically(tmp_path / "a", "x").read_text() == "x"
    assert len(swept) == 1


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("OSError: [Errno 28] No space left on device", ""),
        ("OSError: [Errno 28] No space left on device: '/a b/c'", "/a b/c"),
        ('OSError: [Errno 28] No space left on device: "/it\'s"', "/it's"),
        ("OSError: [Errno 28] No space left on device: '/a/from' -> '/a/to'", "/a/to"),
        (str(["OSError: [Errno 28] No space left on device\n", "\n", "When creating this crashfile"]), ""),
        (str(["OSError: [Errno 28] No space left on device: '/a/c'\n", "\n", "and more: 'x'"]), "/a/c"),
        ("OSError: [Errno 28] Driver write failed (file write failed: time = 7, filename = '/a/c')", ""),
    ],
)
def test_the_fault_in_a_text_is_told_in_its_own_words(text: str, path: str) -> None:
    fault = fault_in_text(f"Traceback\n{text}\nand the rest")
    assert fault is not None
    assert (fault.code, fault.found, fault.path) == (
        "E601",
        "no room to write (No space left on device)",
        path,
    )
    assert fault_in_text(text.replace("28", "2")) is None
