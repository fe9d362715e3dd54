"""A short fault campaign, and that what looks for broken promises finds a lock that is broken on purpose.

The long one: `make chaos-worker`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.chaos.worker import failover
from tests.chaos.worker.__main__ import progress, run_tasks
from tests.chaos.worker.campaign import Settings
from tests.chaos.worker.lock import campaign as lock_campaign

SEED = int(os.environ.get("CHAOS_SEED", "20261124"))


@pytest.mark.timeout(600)
def test_nothing_is_lost_and_every_repetition_is_explained(tmp_path: Path) -> None:
    progress(f"seed {SEED}")
    verdict = run_tasks(tmp_path, Settings(seed=SEED, tasks=200, seconds=32, gap_seconds=(0.5, 1.5)))
    assert verdict.violations == [], verdict.counts
    assert verdict.counts["published"] == verdict.counts["done"]
    assert verdict.counts["malformed messages"] == verdict.counts["dead letters"]


@pytest.mark.timeout(600)
def test_only_what_was_in_the_window_of_a_failover_is_lost_or_doubled(tmp_path: Path) -> None:
    progress(f"seed {SEED}")
    verdict = failover.run(tmp_path, seed=SEED, failovers=2, progress=progress)
    assert verdict.violations == [], (verdict.counts, verdict.explanations)
    assert verdict.counts["SENTINEL FAILOVER"] == verdict.counts["primary killed"] == 1
    assert verdict.counts["published"] > 0


@pytest.mark.timeout(200)
def test_the_history_of_a_lock_under_faults_is_without_fault(tmp_path: Path) -> None:
    progress(f"seed {SEED}")
    verdict = lock_campaign.run(tmp_path, seed=SEED, seconds=6, progress=progress)
    assert verdict.violations == [], verdict.counts
    assert verdict.counts["acquisitions"] >= lock_campaign.CLIENTS


@pytest.mark.parametrize("kind", ["releases anybody's", "counts for itself", "takes what is taken"])
@pytest.mark.timeout(200)
def test_a_lock_that_is_broken_on_purpose_is_found(tmp_path: Path, kind: str) -> None:
    progress(f"seed {SEED}")
    verdict = lock_campaign.run(tmp_path, seed=SEED, seconds=90, progress=progress, kind=kind, late=0.15)
    assert verdict.violations
