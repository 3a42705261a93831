"""Fetch the scripts that come along from the npm registry, check them, and pack them: only to renew them.

NiiVue is the reports' viewer; axe-core checks the pages' accessibility in tests. Needs npm.
"""

import gzip
import hashlib
import subprocess
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: package, version, file inside it, SHA-256 of that file, where it goes
SCRIPTS = (
    (
        "@niivue/niivue",
        "0.69.0",
        "package/dist/niivue.umd.js",
        "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af",
        "r2star/report/static/niivue.umd.js.gz",
    ),
    (
        "axe-core",
        "4.14.1",
        "package/axe.min.js",
        "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c",
        "tests/report/axe.min.js.gz",
    ),
)


def fetch(package: str, version: str, member: str) -> bytes:
    """One file of a package."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", f"{package}@{version}"]
        name = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.split()[
            -1
        ]
        with tarfile.open(Path(folder) / name) as archive:
            file = archive.extractfile(member)
            if file is None:
                raise SystemExit(f"{package} {version} has no {member}")
            return file.read()


def main() -> None:
    """Renew all scripts; stops at one whose hash is another."""
    for package, version, member, expected, target in SCRIPTS:
        content = fetch(package, version, member)
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise SystemExit(f"{package} {version}: SHA-256 {found}, expected {expected}")
        (ROOT / target).write_bytes(gzip.compress(content, 9, mtime=0))
        print(f"{target}: {package} {version}")


if __name__ == "__main__":
    main()
