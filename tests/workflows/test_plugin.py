"""What nipype's plugin asks of its table of dependencies, asked of ours and of its own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from r2star.workflows.plugin import Dependencies


@pytest.fixture
def waits() -> np.ndarray:
    """Jobs of which each waits for some of those before it."""
    return np.triu(np.random.default_rng(3).random((12, 12)) < 0.3, k=1).astype(float)


def test_jobs_become_ready_as_with_a_sparse_matrix(waits: np.ndarray) -> None:
    ours, theirs = waits.view(Dependencies), sparse.lil_matrix(waits)
    done = np.zeros(len(waits), bool)
    while not done.all():
        ready = [np.nonzero(~done & (one.sum(0) == 0))[1].tolist() for one in (ours, theirs)]
        assert ready[0] == ready[1]
        assert ready[0]
        job = ready[0][0]
        done[job] = True
        for one in (ours, theirs):
            row = one.getrowview(job)
            row[row.nonzero()] = 0
            one[one[:, job].nonzero()[0], job] = 0
        np.testing.assert_array_equal(ours, theirs.toarray())
        np.testing.assert_array_equal(ours.sum(axis=1), theirs.sum(axis=1))
