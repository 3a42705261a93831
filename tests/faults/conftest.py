"""What several suites of faults share."""

from __future__ import annotations

from collections.abc import Iterator

import battery as b
import pytest
from nursery import Nursery, has_compiler


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts runs in milliseconds."""
    with Nursery(tmp_path_factory.mktemp("nursery"), counted=has_compiler()) as one:
        yield one


@pytest.fixture(scope="module")
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, r2star: b.Run
) -> b.Finished:
    """All rows of a module's ``ROWS`` in one dataset, run once."""
    return b.run_battery(tmp_path_factory.mktemp("battery"), r2star, request.module.ROWS)
