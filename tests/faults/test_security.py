"""No way in and nothing out: no shell, no code from data, no path outside, no identity copied, no network."""

from __future__ import annotations

import ast
import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import battery as b
import nibabel as nib
import numpy as np
import pytest

import r2star as package

ROOT = Path(package.__file__).parent
WORDS = ("participant", "--fit-only", "--nprocs", "1")
#: Calls that run text or unpickle data, with the one place where each is allowed.
FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "os.spawnv", "pickle.load",
    "pickle.loads", "pickle.Unpickler", "marshal.loads", "shelve.open", "yaml.load", "yaml.unsafe_load",
    "yaml.full_load", "joblib.load", "dill.loads", "subprocess.getoutput", "subprocess.getstatusoutput",
    "pandas.read_pickle", "pd.read_pickle", "pd.eval", "tempfile.mktemp",
}  # fmt: skip
ALLOWED = {("fit/compiling.py", "compile")}
NETWORK_MODULES = {
    "socket",
    "urllib.request",
    "http",
    "http.client",
    "requests",
    "ftplib",
    "smtplib",
    "aiohttp",
    "httpx",
}


def sources() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def test_no_call_runs_text_or_unpickles_data() -> None:
    found = []
    for name, tree in sources():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called in FORBIDDEN and (name, called) not in ALLOWED:
                found.append(f"{name}:{node.lineno} {called}")
            for option in node.keywords:
                value = option.value.value if isinstance(option.value, ast.Constant) else None
                if (option.arg, value) in {("shell", True), ("allow_pickle", True), ("trust_input", True)}:
                    found.append(f"{name}:{node.lineno} {option.arg}=True")
    assert found == []


def test_nothing_imports_the_network() -> None:
    found = []
    for name, tree in sources():
        for node in ast.walk(tree):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{name}: {one}" for one in names if one in NETWORK_MODULES]
    # the host's name tells which machine holds a lock
    assert found == ["runs/locks.py: socket"]


IDENTITY = {
    "PatientName": "CANARY^NAME", "PatientID": "CANARYID", "PatientBirthDate": "19310402CANARY",
    "AcquisitionDateTime": "2019-04-02T10:11:12.CANARY", "AccessionNumber": "CANARYACC",
    "InstitutionName": "<script>alert('CANARY')</script>", "InstitutionAddress": "CANARY Street 1",
    "SeriesDescription": "CANARY series", "ProtocolName": "CANARY protocol", "StationName": "CANARYSTATION",
    "DeviceSerialNumber": "CANARY123", "OperatorsName": "CANARY^OP", "ImageComments": "CANARY comment",
    "ReferringPhysicianName": "CANARY^DR", "StudyInstanceUID": "1.2.3.CANARY", "Custom": {"deep": ["CANARY"]},
    "SequenceName": "CANARYSEQ", "PulseSequenceDetails": "CANARY", "CANARYKEY": 1,
}  # fmt: skip


def test_no_identity_and_no_free_text_reaches_an_output(tmp_path: Path, r2star: b.Run) -> None:  # S13
    bids = tmp_path / "bids"
    for label in ("01", "02"):
        folder = b.write_participant(bids, label)
        for number in range(1, 5):
            b.edit_json(
                folder, number, **IDENTITY, Manufacturer="<b>CANARY</b>", ScanningSequence=["CANARY\n"]
            )
            image = nib.load(b.image(folder, number))
            header = nib.Nifti1Header.from_header(image.header)
            header["descrip"], header["aux_file"], header["intent_name"] = b"CANARY", b"CANARY.txt", b"CANARY"
            new = nib.Nifti1Image(np.asarray(image.dataobj), image.affine, header)
            new.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"CANARY in an extension"))
            nib.save(new, b.image(folder, number))
        (folder.parent / f"sub-{label}_scans.tsv").write_text("filename\tacq_time\nx\tCANARY\n")
    b.edit_json(bids / "sub-02/anat", 2, EchoTime="CANARY")
    described = {"Name": "CANARY", "BIDSVersion": "1.10.0", "Authors": ["CANARY"], "Funding": ["CANARY"]}
    (bids / "dataset_description.json").write_text(json.dumps(described))
    (bids / "participants.tsv").write_text("participant_id\tname\nsub-01\tCANARY\nsub-02\tCANARY\n")
    (bids / "participants.json").write_text('{"name": {"Description": "CANARY"}}')
    (bids / "README").write_text("CANARY")
    done = r2star("app", bids, tmp_path / "out", *WORDS)
    assert done.returncode == 1, done.stderr  # sub-02's echo time is refused
    said = (done.stdout + done.stderr).replace("EchoTime is 'CANARY'", "")
    assert "CANARY" not in said
    for path in tmp_path.joinpath("out").rglob("*"):
        assert "CANARY" not in path.name
        if path.is_file():
            data = path.read_bytes()
            if path.name.endswith(".nii.gz"):
                data = gzip.decompress(data)
            # the one value that is wrong is quoted, in pages escaped
            hidden = data.replace(b"EchoTime is 'CANARY'", b"").replace(b"EchoTime is &#39;CANARY&#39;", b"")
            assert b"CANARY" not in hidden, path


def test_names_that_a_shell_would_run_are_text(tmp_path: Path, r2star: b.Run) -> None:  # S11
    bids = tmp_path / "bids"
    b.write_participant(bids, "01")
    for name in ("$(touch pwn)", ";touch pwn", "`touch pwn`", "a b", "x\ny", "..", "-rf"):
        (bids / f"sub-{name}" / "anat").mkdir(parents=True)
    done = r2star("app", bids, tmp_path / "out", *WORDS, cwd=tmp_path)
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr
    assert b.states(tmp_path / "out")["sub-01"]["state"] == "ok"
    assert not list(tmp_path.rglob("pwn"))
    lines = (tmp_path / "out/status.tsv").read_text().splitlines()
    assert all(len(line.split("\t")) == 8 for line in lines)


@pytest.mark.parametrize(
    "label", ["../../x", "/etc", "..", "01/../../x", "$(touch pwn)", "a b", "", "01\n02", "x" * 300]
)
def test_labels_never_become_paths(tmp_path: Path, r2star: b.Run, label: str) -> None:
    b.write_participant(tmp_path / "deep/bids", "01")
    before = set(tmp_path.rglob("*"))
    done = r2star("app", tmp_path / "deep/bids", tmp_path / "deep/out", *WORDS, "--participant-label", label)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    new = set(tmp_path.rglob("*")) - before
    assert all(path.relative_to(tmp_path / "deep").parts[0] in ("out", "out_work") for path in new)


@pytest.mark.parametrize("path", ["../../secret.nii.gz", "{root}/secret.nii.gz", "bids::../../secret.nii.gz"])
def test_an_atlas_names_no_file_outside_its_folder(tmp_path: Path, r2star: b.Run, path: str) -> None:  # S05
    b.write_participant(tmp_path / "bids", "01")
    (tmp_path / "secret.nii.gz").write_bytes(b"secret")
    atlas = tmp_path / "a/b/atlas.toml"
    atlas.parent.mkdir(parents=True)
    shipped = next((ROOT / "data").rglob("*.toml"), None) or next(ROOT.rglob("CIT168*.toml"))
    lines = [
        f'labels = "{path.format(root=tmp_path)}"' if line.startswith("labels") and "nii" in line else line
        for line in shipped.read_text().splitlines()
    ]
    assert lines != shipped.read_text().splitlines()
    atlas.write_text("\n".join(lines))
    words = ("participant", "--nprocs", "1", "--atlas", atlas)
    done = r2star("app", tmp_path / "bids", tmp_path / "out", *words)
    assert done.returncode == 2, done.stderr
    assert "R2S-E453" in done.stderr
    assert not (tmp_path / "out/sub-01").exists()


def test_planted_links_are_replaced_and_their_targets_untouched(tmp_path: Path, r2star: b.Run) -> None:  # S07
    b.write_participant(tmp_path / "bids", "01")
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    planted = [
        tmp_path / "out" / name
        for name in (
            "sub-01/anat/sub-01_R2starmap.nii.gz", "sub-01/anat/sub-01_R2starmap.json", "status.tsv",
            "dataset_description.json", ".bidsignore", "logs/units/sub-01.json", "logs/failures/sub-01.json",
        )
    ]  # fmt: skip
    for path in planted:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(victim)
    done = r2star("app", tmp_path / "bids", tmp_path / "out", *WORDS)
    assert done.returncode == 0, done.stderr
    assert victim.read_text() == "untouched"
    assert not [path for path in planted if path.is_symlink()]


def test_a_run_makes_no_connection(tmp_path: Path) -> None:  # H16
    tracer = shutil.which("strace")
    if tracer is None:
        pytest.skip("no strace on this machine")
    b.write_participant(tmp_path / "bids", "01")
    log = tmp_path / "calls"
    code = "import sys; from r2star.cli.app import main; sys.exit(main())"
    words = [sys.executable, "-c", code, str(tmp_path / "bids"), str(tmp_path / "out"), *WORDS]
    done = subprocess.run(
        [tracer, "-f", "-qq", "-e", "trace=connect,sendto,bind", "-o", log, *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "ptrace" in done.stderr.lower():
        pytest.skip("this machine lets nobody trace")
    assert done.returncode == 0, done.stderr
    calls = [line for line in log.read_text().splitlines() if "AF_INET" in line or "AF_NETLINK" in line]
    assert calls == []


def test_a_run_needs_no_network(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if (
        unshare is None
        or subprocess.run([unshare, "-n", "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this machine can't take the network away from a process")
    b.write_participant(tmp_path / "bids", "01")
    code = "import sys; from r2star.cli.app import main; sys.exit(main())"
    words = [sys.executable, "-c", code, str(tmp_path / "bids"), str(tmp_path / "out"), *WORDS]
    done = subprocess.run(
        [unshare, "-n", *words], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
