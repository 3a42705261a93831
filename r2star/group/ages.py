"""Ages as tables have them, and as they may be shown: the oldest people are not told apart. Standard library only."""

from __future__ import annotations

import re

#: Ages above this are shown as "89+" in every table and figure; models use the number of participants.tsv.
OLDEST_SHOWN_AGE = 89
OLDEST_AGE = 125

#: A number in a cell, and a capped one, such as ``89+`` or ``> 89``.
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
CAPPED = re.compile(r"(\d+)\s*\+|[>≥]=?\s*(\d+)")


def shown_age(text: str) -> str:
    """Ages above 89 are told as ``89+``: they could tell who it is.

    >>> shown_age("92"), shown_age("34.5"), shown_age("n/a")
    ('89+', '34.5', 'n/a')
    """
    old = NUMBER.fullmatch(text) and float(text) > OLDEST_SHOWN_AGE
    capped = CAPPED.fullmatch(text)
    return (
        f"{OLDEST_SHOWN_AGE}+"
        if old or (capped and float(capped[1] or capped[2]) >= OLDEST_SHOWN_AGE)
        else text
    )


def is_age_column(name: str) -> bool:
    """Whether a column holds an age, which is capped where it is shown."""
    return re.fullmatch(r"age(_.*)?|.*_age(_years)?", name, re.IGNORECASE) is not None
