"""What several suites of faults share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from nursery import Nursery, has_compiler


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts runs in milliseconds."""
    with Nursery(tmp_path_factory.mktemp("nursery"), counted=has_compiler()) as one:
        yield one
