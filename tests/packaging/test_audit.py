"""The audit of dependencies: what counts, what is accepted with a reason, what can't be known."""

from __future__ import annotations

import datetime
import importlib.util
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/audit.py"


@pytest.fixture(scope="module")
def audit() -> Any:
    if not SCRIPT.exists():
        pytest.skip("the scripts are not part of a wheel")
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FLAW = {"id": "PYSEC-1", "aliases": ["CVE-9"], "fix_versions": ["2.0"]}
SOUND = {"name": "numpy", "version": "1", "vulns": []}
FLAWED = {"name": "h5py", "version": "1", "vulns": [FLAW]}
UNKNOWN = {"name": "antspyx", "skip_reason": "not found"}


def test_an_advisory_fails_unless_it_is_accepted_by_any_of_its_names(audit: Any) -> None:
    code, lines = audit.judge({"dependencies": [SOUND, FLAWED]}, {})
    assert code == 1
    assert lines[0] == "h5py 1: PYSEC-1, fixed in 2.0"
    code, lines = audit.judge({"dependencies": [SOUND, FLAWED]}, {"CVE-9": "never called"})
    assert code == 0
    assert "accepted: never called" in lines[0]


def test_what_could_not_be_audited_is_said(audit: Any) -> None:
    code, lines = audit.judge({"dependencies": [SOUND, UNKNOWN]}, {})
    assert (code, lines[0]) == (0, "not audited: antspyx")
    code, lines = audit.judge({"dependencies": [UNKNOWN, UNKNOWN]}, {})
    assert code == 0
    assert lines[0].startswith("left out")


def test_an_accepted_advisory_comes_back_on_its_day(audit: Any) -> None:
    text = '[[accepted]]\nid = "CVE-9"\nreason = "never called"\nlook_again = 2027-05-01\n'
    assert audit.accepted_advisories(text, datetime.date(2027, 4, 30)) == {"CVE-9": "never called"}
    assert audit.accepted_advisories(text, datetime.date(2027, 5, 1)) == {}
    own = (SCRIPT.parent / "advisories.toml").read_text()
    assert audit.accepted_advisories(own, datetime.date(2026, 1, 1)) == {}
