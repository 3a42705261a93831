"""Reference pages are made from the code: everything the code knows is in them."""

from __future__ import annotations

import re
from pathlib import Path

import command_line
import error_codes
import generated
import pytest
import result_tables
import streams

from r2star.bids.names import DERIVATIVES
from r2star.fit import METHODS, Status
from r2star.group.rows import STATS_COLUMNS
from r2star.regions.table import COLUMNS

ROOT = Path(__file__).parents[2]


def test_every_code_of_the_source_is_in_the_table() -> None:
    written = {
        code
        for path in error_codes.SOURCES
        for code in re.findall(r'"([EW]\d{3})"', path.read_text(encoding="utf-8"))
    }
    told = {use.code for use in error_codes.uses()}
    assert len(written) > 150
    assert written - told == set()


def test_a_code_comes_with_its_exit_code_and_its_words() -> None:
    by_code = {use.code: use for use in error_codes.uses()}
    assert by_code["E511"].kind == "UsageError"
    assert by_code["E511"].found == "the folder is not empty"
    assert (
        by_code["E104"].fix == "copy the file again from its source and compare the checksums"
    )  # a constant
    assert by_code["W463"].found == "few valid voxels"  # from a table of codes
    assert "| `R2S-E511` | 2 | the folder is not empty |" in error_codes.codes("E5")


def test_most_codes_say_what_was_found() -> None:
    """A code whose words are put together elsewhere shows as …; a few may, a new habit may not."""
    silent = {use.code for use in error_codes.uses() if not re.search("[a-z]{2}", use.found)}
    assert len(silent) <= 0.08 * len({use.code for use in error_codes.uses()}), sorted(silent)


@pytest.mark.parametrize("command", list(command_line.COMMANDS))
def test_every_option_of_a_parser_is_on_the_page(command: str) -> None:
    page = command_line.command(command)
    parsers = [command_line.parser_of(command)]
    for parser in parsers:
        for action in parser._actions:
            parsers += (
                list(getattr(action, "choices", None).values()) if hasattr(action, "_name_parser_map") else []
            )
            for option in action.option_strings:
                assert f"`{option}" in page or f", {option}" in page, option
    assert "%(" not in page


def test_every_column_file_status_and_estimator_is_on_its_page() -> None:
    for maker, names in (
        (result_tables.region_columns, list(COLUMNS)),
        (result_tables.model_columns, list(STATS_COLUMNS)),
        (result_tables.fit_status, [status.label for status in Status]),
        (result_tables.estimators, list(METHODS)),
        (result_tables.derivatives, [kind.suffix for kind in DERIVATIVES.values()]),
        (result_tables.calibrations, ["langkammer2010"]),
        (result_tables.model_schema, ["models[].formula", "columns.<name>.role", "reference.level"]),
    ):
        text = maker("")
        assert [name for name in names if name not in text] == []


def test_every_marker_of_the_pages_is_answered() -> None:
    pages = list((ROOT / "docs").rglob("*.md"))
    filled = [generated.fill(page.read_text(encoding="utf-8")) for page in pages]
    assert not any(re.search("^% generated:", text, re.MULTILINE) for text in filled)
    used = {
        name
        for page in pages
        for name in re.findall(r"^% generated: ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert used == set(generated.PAGES)


def test_what_a_cell_printed_in_pieces_is_whole_again() -> None:
    def piece(name: str, text: str) -> dict[str, str]:
        return {"output_type": "stream", "name": name, "text": text}

    picture = {"output_type": "display_data"}
    pieces = [
        piece("stdout", "trut"),
        piece("stderr", "W"),
        piece("stdout", "h.tsv\n"),
        picture,
        piece("stderr", "1\n"),
    ]
    assert streams.merge_streams(pieces) == [piece("stdout", "truth.tsv\n"), piece("stderr", "W1\n"), picture]
