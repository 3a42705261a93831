"""Compare the locked dependencies with the advisory database; or write a bill of materials in CycloneDX form.

    python scripts/audit.py            exit code 1 where an advisory concerns a locked version
    python scripts/audit.py --sbom sbom.json

An advisory that does not concern r2star stands with its reason, and the day on which to look again, in
``advisories.toml``. Where the database can't be reached the audit says that it was left out.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
ACCEPTED = Path(__file__).with_name("advisories.toml")
LONGEST_S = 300


def accepted_advisories(text: str, today: datetime.date) -> dict[str, str]:
    """Advisory → reason, of those whose day has not come."""
    entries = tomllib.loads(text).get("accepted", [])
    return {entry["id"]: entry["reason"] for entry in entries if entry["look_again"] > today}


def judge(report: dict, accepted: dict[str, str]) -> tuple[int, list[str]]:
    """Exit code and what to say of a report of pip-audit."""
    known = report["dependencies"]
    skipped = [one["name"] for one in known if "skip_reason" in one]
    found = [(one, flaw) for one in known for flaw in one.get("vulns", ())]
    if known and len(skipped) == len(known):
        return 0, ["left out: the audit of dependencies, for the advisory database can't be reached"]
    open_flaws, lines = 0, []
    for one, flaw in found:
        names = {flaw["id"], *flaw.get("aliases", ())}
        reason = next((accepted[name] for name in sorted(names) if name in accepted), None)
        open_flaws += reason is None
        fixed = ", ".join(flaw.get("fix_versions", ())) or "none yet"
        verdict = f"accepted: {reason}" if reason else f"fixed in {fixed}"
        lines.append(f"{one['name']} {one['version']}: {flaw['id']}, {verdict}")
    if skipped:
        lines.append(f"not audited: {', '.join(skipped)}")
    lines.append(f"{len(known) - len(skipped)} dependencies audited, {open_flaws} advisories concern them")
    return int(open_flaws > 0), lines


def run_audit() -> int:
    """Run pip-audit over the lock."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--format", "json"]
    try:
        done = subprocess.run(
            [*command, "-r", LOCK], capture_output=True, text=True, check=False, timeout=LONGEST_S
        )
        report = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        report = {"dependencies": [{"name": "all", "skip_reason": "no answer"}]}
    accepted = accepted_advisories(ACCEPTED.read_text(), datetime.datetime.now(datetime.UTC).date())
    code, lines = judge(report, accepted)
    print("\n".join(lines))
    return code


def write_sbom(path: Path) -> int:
    """Write the bill of materials of the locked dependencies; the same lock gives the same bytes."""
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", str(LOCK), "--output-reproducible"]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), "--of", "JSON", "-o", str(path)]
    return subprocess.run(command, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sbom", type=Path, help="write a bill of materials instead")
    options = parser.parse_args()
    return write_sbom(options.sbom) if options.sbom else run_audit()


if __name__ == "__main__":
    sys.exit(main())
