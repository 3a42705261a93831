"""Step: participants.tsv and sessions.tsv, read with a message for each cell that can't be used.

Cells stay text; `parse_number` turns one into a number when a model asks for it. May import files and errors.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from r2star.errors import InputError, Notice
from r2star.files import read_fault
from r2star.group.ages import CAPPED, NUMBER, OLDEST_AGE, is_age_column

MISSING = "n/a"

_LOOSELY_MISSING = frozenset({"", "na", "nan", "none", "null", "-", "."})
_QUOTES = frozenset("\"'“”‘’")
_LEVEL_MISSING = frozenset({"n/a", "na", "nan", "-", ".", "?"})
_PRIVATE = re.compile(r"acq_time|birth|date|name$|address", re.IGNORECASE)


class Cell(NamedTuple):
    """A cell's text and the row that it stands in (the header is row 1)."""

    text: str
    path: str
    row: int


class People(NamedTuple):
    """Covariates as text: of participants by label, and of sessions by (participant, session) labels."""

    columns: tuple[str, ...]
    participants: Mapping[str, Mapping[str, Cell]]
    sessions: Mapping[tuple[str, str], Mapping[str, Cell]]
    notices: tuple[Notice, ...]

    def cell(self, participant: str, session: str, column: str) -> Cell | None:
        """The session's value where it has one, else the participant's."""
        for row in (self.sessions.get((participant, session), {}), self.participants.get(participant, {})):
            if column in row:
                return row[column]
        return None


def read_people(bids_dir: Path, participants: Sequence[str]) -> People:
    """Read participants.tsv, and sessions.tsv of the dataset and of each of the participants.

    Raises
    ------
    InputError
        R2S-E705: two rows of one participant or session that differ, or a row with too many or too few cells.
    """
    notices: list[Notice] = []
    path = bids_dir / "participants.tsv"
    if path.is_symlink() and not path.exists():
        raise InputError(
            "E705", "a link to a file that is not here", fix=f"run `datalad get {path.name}`", path=path
        )
    people: dict[str, Mapping[str, Cell]] = {}
    if path.is_file():
        for row in read_rows(path):
            label = _label(row, "participant_id", "sub-", path)
            _add(people, label, row, f"participant {label}")
        notices += _missing_people(path, participants, people)
    else:
        notices.append(Notice("W703", "participants.tsv is missing, no covariates", "add it", str(path)))
    sessions = _read_sessions(bids_dir, participants)
    columns = [name for row in [*people.values(), *sessions.values()] for name in row]
    kept = tuple(name for name in dict.fromkeys(columns) if not _PRIVATE.search(name))
    return People(kept, people, sessions, tuple(notices))


def read_rows(path: Path) -> list[dict[str, Cell]]:
    """A tab-separated table; byte order marks, Windows line ends and letters that nobody sees are as good as none."""
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise read_fault(error, path) from error
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise InputError("E705", f"row {row} is not UTF-8 text", fix="save it as UTF-8", path=path) from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    names = [_visible(name) for name in lines[0].split("\t")]
    if len(set(names)) < len(names):
        raise InputError("E705", "row 1 has a column twice", "columns with different names", path=path)
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        cells = [_visible(cell) for cell in line.split("\t")]
        if not any(cells):
            continue
        if len(cells) != len(names):
            found = f"row {number} has {len(cells)} cells, row 1 has {len(names)}"
            raise InputError("E705", found, "one tab between cells", path=path)
        if any(unicodedata.category(letter) == "Cc" for cell in cells for letter in cell):
            raise InputError("E705", f"row {number} holds control characters", "text", path=path)
        rows.append({name: Cell(cell, str(path), number) for name, cell in zip(names, cells)})
    return rows


def _visible(text: str) -> str:
    """What is seen of a cell: a zero-width letter from a web page would make a control a patient."""
    if text.isascii():
        return text.strip()
    return "".join(letter for letter in text if unicodedata.category(letter) != "Cf").strip()


def parse_number(cell: Cell, column: str) -> tuple[float, Notice | None]:
    """A cell as a number; ``n/a`` is NaN, and nothing else becomes NaN in silence.

    ``89+`` (a capped age) counts as 89 with a warning. Raises `InputError` R2S-E706 for any other text.

    >>> parse_number(Cell("34.5", "participants.tsv", 2), "age")
    (34.5, None)
    >>> parse_number(Cell("34,5", "participants.tsv", 2), "age")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    r2star.errors.InputError: R2S-E706: participants.tsv: row 2, column age: '34,5', a number with ...
    """
    text = cell.text
    if text == MISSING:
        return float("nan"), None
    if NUMBER.fullmatch(text):
        return _plausible(float(text), cell, column), None
    where = f"row {cell.row}, column {column}: {text!r}"
    capped = CAPPED.fullmatch(text)
    if capped:
        value = capped[1] or capped[2]
        told = Notice("W705", f"{where} is a capped value", f"it counts as {value}", cell.path)
        return _plausible(float(value), cell, column), told
    if text.lower() in _LOOSELY_MISSING:
        return float("nan"), Notice("W706", f"{where} counts as missing", "write n/a", cell.path)
    needed = "a number with a decimal point" if "," in text else "a number or n/a"
    raise InputError("E706", where, needed, "correct the cell", path=cell.path)


def parse_level(cell: Cell, column: str) -> tuple[str, Notice | None]:
    """A cell of a category: its text, ``""`` where it is missing.

    Other ways than ``n/a`` to say that nothing is known count as missing with a warning: as a level of their own they
    would make people without a group patients. ``none`` and ``null`` stay, for they are levels of some categories.
    So would a level in quotation marks; it raises `InputError` R2S-E706, for a table has none.

    >>> parse_level(Cell("RR", "participants.tsv", 2), "course"), parse_level(Cell("n/a", "participants.tsv", 3), "sex")
    (('RR', None), ('', None))
    """
    if cell.text in {MISSING, ""}:
        return "", None
    where = f"row {cell.row}, column {column}: {cell.text!r}"
    if cell.text[0] in _QUOTES and cell.text[-1] in _QUOTES:
        raise InputError("E706", where, "text without quotation marks", "correct the cell", path=cell.path)
    if cell.text.casefold() in _LEVEL_MISSING:
        return "", Notice("W706", f"{where} counts as missing", "write n/a", cell.path)
    return cell.text, None


def _plausible(value: float, cell: Cell, column: str) -> float:
    """A number that may be: finite, and an age that people reach (not a year of birth, not months)."""
    if not isfinite(value) or (is_age_column(column) and not 0 <= value <= OLDEST_AGE):
        found = f"row {cell.row}, column {column}: {cell.text!r}"
        needed = f"an age in years, 0 to {OLDEST_AGE}" if is_age_column(column) else "a finite number"
        raise InputError("E706", found, needed, "correct the cell", path=cell.path)
    return value


def _label(row: Mapping[str, Cell], column: str, prefix: str, path: Path) -> str:
    if column not in row:
        raise InputError("E705", f"row 1 has no column {column}", f"{column} first", path=path)
    return row[column].text.removeprefix(prefix)


def _add(known: dict[str, Mapping[str, Cell]], key: str, row: Mapping[str, Cell], what: str) -> None:
    """Add a row without its labels; a second row of the same key must be the same."""
    values = {name: cell for name, cell in row.items() if name not in {"participant_id", "session_id"}}
    number, path = next(iter(row.values())).row, next(iter(row.values())).path
    before = known.setdefault(key, values)
    unlike = [name for name in values if values[name].text != before[name].text]
    if unlike:
        first = before[unlike[0]].row
        told = ", ".join(f"{name} {before[name].text!r} and {values[name].text!r}" for name in unlike[:3])
        raise InputError(
            "E705", f"rows {first} and {number} are both {what} and differ ({told})", "one row each",
            "remove the wrong one", path=path,
        )  # fmt: skip


def _missing_people(path: Path, participants: Iterable[str], people: Mapping[str, object]) -> list[Notice]:
    present = set(participants)
    without_row = sorted(present - set(people))
    without_data = sorted(set(people) - present)
    notices = [
        Notice(
            "W704",
            f"sub-{label} has results but no row",
            "add its row to include it in the models",
            str(path),
        )
        for label in without_row
    ]
    return notices + [
        Notice("W707", f"sub-{label} has a row but no complete unit", "see status.tsv", str(path))
        for label in without_data
    ]


def _read_sessions(bids_dir: Path, participants: Iterable[str]) -> dict[tuple[str, str], Mapping[str, Cell]]:
    found: dict[tuple[str, str], Mapping[str, Cell]] = {}
    whole = bids_dir / "sessions.tsv"
    files: list[tuple[Path, str | None]] = [(whole, None)] if whole.is_file() else []
    for label in sorted(set(participants)):
        path = bids_dir / f"sub-{label}" / f"sub-{label}_sessions.tsv"
        files += [(path, label)] if path.is_file() else []
    for path, owner in files:
        by_person: dict[str, dict[str, Mapping[str, Cell]]] = {}
        for row in read_rows(path):
            person = owner if owner is not None else _label(row, "participant_id", "sub-", path)
            session = _label(row, "session_id", "ses-", path)
            _add(by_person.setdefault(person, {}), session, row, f"sub-{person} ses-{session}")
        for person, rows in by_person.items():
            found.update({(person, session): row for session, row in _with_years(rows).items()})
    return found


def _with_years(rows: Mapping[str, Mapping[str, Cell]]) -> dict[str, Mapping[str, Cell]]:
    """Add ``years_from_baseline`` from ``acq_time`` where it is not given; the times go no further."""
    times: dict[str, datetime] = {}
    for session, row in rows.items():
        if "years_from_baseline" in row or "acq_time" not in row or row["acq_time"].text == MISSING:
            continue
        try:
            # BIDS knows no zones; what an export wrote is dropped, as hours do not matter here
            times[session] = datetime.fromisoformat(row["acq_time"].text).replace(tzinfo=None)
        except ValueError:
            cell = row["acq_time"]
            found = f"row {cell.row}, column acq_time: {cell.text!r}"
            raise InputError("E706", found, "a time as 2009-06-15T13:45:30", path=cell.path) from None
    first = min(times.values(), default=None)
    out = dict(rows)
    for session, time in times.items():
        years = (time - first).total_seconds() / (365.25 * 86400) if first else 0.0
        stamp = rows[session]["acq_time"]
        out[session] = {**rows[session], "years_from_baseline": Cell(f"{years:.4f}", stamp.path, stamp.row)}
    return out
