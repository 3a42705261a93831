"""The package's docstring lists every code that it raises, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import r2star.bids


def test_every_code_is_listed() -> None:
    folder = Path(r2star.bids.__file__).parent
    raised = {code for path in folder.glob("*.py") for code in re.findall(r'"([EW]\d{3})"', path.read_text())}
    listed = set(re.findall(r"\b([EW]\d{3})\b", r2star.bids.__doc__ or ""))
    assert listed == raised
    assert len(raised) > 30
