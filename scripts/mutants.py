"""Mutation testing: change operators and numbers of the program, one at a time, and see whether tests notice.

    python scripts/mutants.py regions images [--sample 250] [--seed 20140] [--report FILE.json]

cosmic-ray makes the mutants, in a copy of the checkout. A mutant is killed when a test of its package fails or takes
too long; a survivor is a line that no test holds. Mutants of annotations, which nothing runs, are left out.
"""

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import WorkerOutcome, WorkResult

ROOT = Path(__file__).parents[1]
#: Package → its tests, the quickest first.
TESTS = {
    "regions": ["r2star/regions", "tests/regions", "tests/steps/test_region_table.py"],
    "images": ["r2star/images", "tests/images"],
    "fit": ["r2star/fit", "tests/fit", "tests/contracts"],
}
LONGEST_S = 240.0


def copy_checkout(target: Path) -> None:
    """Copy what git knows of, links as links."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, names.split("\0")):
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)


def prepare(folder: Path, package: str, modules: list[str], python: str) -> Path:
    """Find all mutants of a package; returns the session file."""
    quiet = '-m pytest -x -q -p no:cacheprovider -m "not faults and not slow"'
    command = f"{python} {quiet} {' '.join(TESTS[package])}"
    paths = [f"r2star/{package}/{module}.py" for module in modules] or [f"r2star/{package}"]
    config = (
        f"[cosmic-ray]\nmodule-path = {json.dumps(paths)}\ntimeout = {LONGEST_S}\nexcluded-modules = []\n"
        f'test-command = {json.dumps(command)}\n[cosmic-ray.distributor]\nname = "local"\n'
    )
    (folder / "mutants.toml").write_text(config)
    subprocess.run([cosmic_ray(), "init", "mutants.toml", "mutants.sqlite"], cwd=folder, check=True)
    return folder / "mutants.sqlite"


def cosmic_ray() -> str:
    """The command that was installed beside this Python."""
    return str(Path(sys.executable).parent / "cosmic-ray")


def annotations(source: str) -> list[tuple[int, int, int, int]]:
    """Places of all annotations: first line and column, last line and column."""
    nodes = []
    for node in ast.walk(ast.parse(source)):
        nodes += [getattr(node, key, None) for key in ("annotation", "returns")]
    return [
        (node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0)
        for node in nodes
        if isinstance(node, ast.AST)
    ]


def choose(session: Path, folder: Path, sample: int, seed: int) -> int:
    """Keep a sample of the mutants and mark the rest as skipped; returns how many there were."""
    places: dict[Path, list[tuple[int, int, int, int]]] = {}
    skipped, real = [], []
    with use_db(session) as database:
        for item in database.work_items:
            (mutation,) = item.mutations
            path = folder / mutation.module_path
            known = places.setdefault(path, annotations(path.read_text()))
            if any((line, column) <= mutation.start_pos < (last, end) for line, column, last, end in known):
                skipped.append(item.job_id)
            else:
                what = (
                    str(mutation.module_path),
                    mutation.start_pos,
                    mutation.operator_name,
                    mutation.occurrence,
                )
                real.append((what, item.job_id))
        real.sort()
        chosen = set(random.Random(seed).sample([job for _, job in real], min(sample, len(real))))
        skipped += [job for _, job in real if job not in chosen]
        database.set_multiple_results(skipped, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))
    return len(real)


def read_results(session: Path) -> list[dict[str, object]]:
    """What became of each mutant that was tried."""
    rows: list[dict[str, object]] = []
    with use_db(session) as database:
        for item, result in database.completed_work_items:
            (mutation,) = item.mutations
            if result.test_outcome is not None:
                where = {"file": str(mutation.module_path), "line": mutation.start_pos[0]}
                changed = {"change": mutation.operator_name, "diff": result.diff}
                rows.append(where | {"outcome": result.test_outcome.value} | changed)
    return sorted(rows, key=lambda row: (row["file"], row["line"]))


def try_package(package: str, modules: list[str], sample: int, seed: int, python: str) -> dict[str, object]:
    """Try a sample of a package's mutants; the share that was killed, and the survivors."""
    with tempfile.TemporaryDirectory(prefix="r2star-mutants-") as name:
        folder = Path(name)
        copy_checkout(folder)
        session = prepare(folder, package, modules, python)
        n_all = choose(session, folder, sample, seed)
        environment = {**os.environ, "PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(folder / "numba")}
        subprocess.run(
            [cosmic_ray(), "exec", "mutants.toml", session.name], cwd=folder, env=environment, check=True
        )
        rows = read_results(session)
    survivors = [row for row in rows if row["outcome"] == "survived"]
    killed = 1 - len(survivors) / max(1, len(rows))
    print(f"{package}: {len(rows)} of {n_all} mutants tried, {killed:.1%} killed")
    for row in survivors:
        print(f"  survived: {row['file']}:{row['line']} {row['change']}")
    return {"package": package, "n_mutants": n_all, "n_tried": len(rows), "killed": round(killed, 4),
            "survivors": survivors}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("packages", nargs="+", choices=tuple(TESTS))
    parser.add_argument("--module", action="append", default=[], help="only these modules of the package")
    parser.add_argument("--sample", type=int, default=250)
    parser.add_argument("--seed", type=int, default=20140)
    parser.add_argument("--python", default=sys.executable, help="the Python that runs the tests")
    parser.add_argument("--least", type=float, default=0.0, help="fail below this share of killed mutants")
    parser.add_argument("--report", type=Path, help="write what was found as JSON")
    options = parser.parse_args()
    found = [
        try_package(name, options.module, options.sample, options.seed, options.python)
        for name in options.packages
    ]
    if options.report:
        options.report.write_text(json.dumps(found, indent=1) + "\n")
    return int(any(one["killed"] < options.least for one in found))


if __name__ == "__main__":
    sys.exit(main())
