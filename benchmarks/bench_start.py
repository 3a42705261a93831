"""How long a user waits before anything happens: ``import r2star``, the help of each command, beside bare Python.

    python benchmarks/bench_start.py [--rounds 15] [--write]

Each case is a process of its own; cases are interleaved round by round, and medians are told. ``--write`` rewrites the
table in ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- start: begin -->", "<!-- start: end -->"
COMMANDS = {"r2star": "app", "r2star-fit": "fit", "r2star-submit": "submit", "r2star-verify": "verify"}


def cases() -> dict[str, list[str]]:
    """Case → command; every one with this Python, so that they differ in what they import alone."""
    python = [sys.executable, "-c"]
    help_of = "import sys; sys.argv = [{name!r}, '--help']; from r2star.cli.{module} import main; main()"
    found = {"python -c pass": [*python, "pass"], "import r2star": [*python, "import r2star"]}
    for name, module in COMMANDS.items():
        found[f"{name} --help"] = [*python, help_of.format(name=name, module=module)]
    return found


def measure(rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each case, one number a round; a round before them fills the caches."""
    took: dict[str, list[float]] = {name: [] for name in cases()}
    for number in range(rounds + 1):
        for name, command in cases().items():
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            if number:
                took[name].append(1000 * (time.perf_counter() - start))
    return took


def table(took: dict[str, list[float]], rounds: int) -> str:
    """Rows in Markdown."""
    medians = {name: statistics.median(times) for name, times in took.items()}
    bare = medians["python -c pass"]
    load = f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} CPUs ({platform.machine()})"
    lines = [f"Python {platform.python_version()}, {load}, medians of {rounds} rounds.", ""]
    lines += ["| case | ms | more than bare Python, ms |", "|---|---:|---:|"]
    lines += [f"| `{name}` | {each:.0f} | {each - bare:.0f} |" for name, each in medians.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and with ``--write`` renew the README."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    text = table(measure(options.rounds), options.rounds)
    print(text)
    if options.write:
        before, _, rest = README.read_text().partition(BEGIN)
        README.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
