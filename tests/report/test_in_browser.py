"""Pages in a real browser: no request, no error, readable with a keyboard, a phone, in the dark and on paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from r2star.report.facts import UnitFacts
from r2star.steps.report import page_text

Make = Callable[..., UnitFacts]
Open = Callable[..., Any]
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>\u202e"


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_no_request_no_error_no_overflow_no_serious_fault(
    browser: Open, page: str, dark: bool, width: int
) -> None:
    visit = browser(page, dark=dark, width=width)
    assert visit.run("return document.documentElement.scrollWidth <= window.innerWidth")
    assert visit.faults() == []
    visit.collect()
    assert (visit.requests, visit.console) == ([], [])
    ground = visit.run("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is not dark


def test_the_viewer_opens_offline_and_tells_where_it_is(browser: Open, page: str) -> None:
    visit = browser(page)
    visit.run("document.querySelector('[data-open]').click()")
    wait_for(visit, "return !!document.querySelector('[data-viewer][data-ready]')")
    read = "return document.querySelector('[data-readout]').textContent"
    assert "1/s" in visit.run(read)
    before = visit.run(read)
    visit.run(
        "const s = document.querySelector('[data-axis=\"0\"]'); s.focus(); s.value = 300;"
        "s.dispatchEvent(new Event('input'))"
    )
    after = visit.run(read)
    assert before != after
    assert "Putamen, left" in after  # the box at low x
    visit.collect()
    assert (visit.requests, visit.console) == ([], [])
    assert visit.faults() == []


def test_hostile_text_stays_text(browser: Open, unit_facts: Make) -> None:
    notice = {"code": "W1", "message": HOSTILE, "fix": HOSTILE, "path": HOSTILE}
    visit = browser(page_text("01", [unit_facts(notices=[notice], voxel_rule=HOSTILE)]))
    assert visit.run("return document.title") == "sub-01: R2*"
    assert visit.run("return document.querySelectorAll('img[src=x]').length") == 0
    assert "<img src=x" in visit.run("return document.body.innerText")
    visit.collect()
    assert (visit.requests, visit.console) == ([], [])


def test_a_column_sorts_both_ways_and_says_so(browser: Open, page: str) -> None:
    visit = browser(page)
    column = (
        "return [...document.querySelectorAll('#sub-01-regions tbody tr')]"
        ".map((row) => Number(row.cells[2].textContent))"
    )
    press = "document.querySelectorAll('#sub-01-regions thead button')[2].click()"
    visit.run(press)
    assert visit.run(column) == sorted(visit.run(column))
    visit.run(press)
    assert visit.run(column) == sorted(visit.run(column), reverse=True)
    assert visit.run("return document.querySelectorAll('[aria-sort=descending]').length") == 1


def test_flicker_moves_only_when_asked_and_never_where_motion_is_unwelcome(browser: Open, page: str) -> None:
    shown = "return [...document.querySelectorAll('[data-flicker] figure')].map((one) => one.hidden).indexOf(false)"
    press = "document.querySelector('[data-play]').click()"
    pressed = "return document.querySelector('[data-play]').getAttribute('aria-pressed')"
    visit = browser(page)
    assert (visit.run(shown), visit.run(pressed)) == (0, "false")
    visit.run(press)
    assert (visit.run(shown), visit.run(pressed)) == (1, "true")
    wait_for(visit, f"{shown} === 2")
    visit.run(press)
    assert visit.run(pressed) == "false"
    still = browser(page, media={"prefers-reduced-motion": "reduce"})
    still.run(press)
    assert (still.run(shown), still.run(pressed)) == (1, "false")


def test_everything_can_be_reached_with_the_keyboard(browser: Open, page: str) -> None:
    visit = browser(page)
    hidden = visit.run(
        "return [...document.querySelectorAll('button, a, input, summary')]"
        ".filter((one) => one.offsetParent && one.tabIndex < 0).map((one) => one.outerHTML)"
    )
    assert hidden == []
    unnamed = visit.run("return [...document.images].filter((one) => !one.alt.trim()).length")
    assert unnamed == 0


def wait_for(visit: Any, condition: str) -> None:
    """Until a script is true; the browser's own clock decides."""
    visit.driver.set_script_timeout(60)
    script = (
        "const done = arguments[arguments.length - 1]; const ask = () => (() => {"
        + condition
        + "})() ? done(true) : setTimeout(ask, 50); ask();"
    )
    assert visit.driver.execute_async_script(script)
