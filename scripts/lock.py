"""Renew the hash-locked requirements of every purpose. No index address is written into the files."""

import subprocess
import sys

COMMON = ("--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url",
          "--no-emit-find-links", "--no-header", "--quiet")  # fmt: skip


def compile_lock(output: str, *what: str) -> None:
    """Resolve for all supported Pythons and write ``output``; more options for uv may follow on the command line."""
    command = [sys.executable, "-m", "uv", "pip", "compile", *what, *COMMON, "--output-file", output]
    subprocess.run([*command, *sys.argv[1:]], check=True)


if __name__ == "__main__":
    compile_lock("requirements.lock", "pyproject.toml")
    compile_lock("requirements-build.lock", "--group", "build")
    compile_lock("requirements-audit.lock", "--group", "audit")
    everything = ("test", "lint", "build", "lock")
    groups = [word for name in everything for word in ("--group", name)]
    compile_lock("requirements-dev.lock", "pyproject.toml", "--all-extras", *groups)
    # goes into the same environment as the one above: what both hold must agree
    compile_lock(
        "requirements-docs.lock", "pyproject.toml", "--group", "docs", "--constraint", "requirements-dev.lock"
    )
    # the lower bounds of pyproject.toml, for `make test-oldest`
    oldest = ("--resolution", "lowest-direct", "--upgrade")
    compile_lock("requirements-oldest.lock", "pyproject.toml", "--group", "test", *oldest)
