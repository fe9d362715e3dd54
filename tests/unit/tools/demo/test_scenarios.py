"""Each row judges what it measured: what holds is silent, what falls short is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from demo.programme import ROWS, STAGES
from demo.scenarios import (
    burst,
    crawl,
    failure,
    frozen_worker,
    logs,
    notify,
    redis_outage,
    scaling,
    time_limits,
    wrong_manifest,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def a_crawl(site: str, start: float, end: float) -> crawl.Crawl:
    return crawl.Crawl(site, 3, NOON + timedelta(seconds=start), NOON + timedelta(seconds=end))


MAILS = notify.Measured(clicks=5, mails_in_window=1, mails_after=2, seconds_to_mail=0.3)
CRAWLS = crawl.Measured((a_crawl("a", 0, 2), a_crawl("a", 2.1, 4)), a_crawl("b", 0, 2))
EVENT = failure.Measured("id", events=1, names_task=True, names_id=True, names_pool=True, error="E: no")
LINES = logs.Measured("worker", "code", "task")
FROZEN = frozen_worker.Measured(restarted=1, seconds_to_restart=8, seconds_to_finish=30, state="SUCCESS", deliveries=2)
SOFT = time_limits.Measured("SoftTimeLimitExceeded: 3", 3.1, 3, "SoftTimeLimitExceeded", {"pod/worker": 0})
OUTAGE = redis_outage.Measured(
    away_seconds=21,
    restarted={"pod/worker": 0},
    pods_kept=True,
    not_ready_meanwhile=True,
    finished=12,
    started=12,
    seconds_to_resume=2,
)
SCALED = scaling.Measured("scaled", before=1, ready=3, wanted=3, seconds=4)
BURST = burst.Measured(
    tasks=60,
    done=60,
    samples=(
        burst.Sample(at=0, backlog=0, oldest_wait_seconds=0, in_flight=0, replicas=0, ready=0),
        burst.Sample(at=0.3, backlog=58, oldest_wait_seconds=0, in_flight=0, replicas=5, ready=0),
        burst.Sample(at=9, backlog=20, oldest_wait_seconds=0, in_flight=10, replicas=5, ready=5),
        burst.Sample(at=21, backlog=0, oldest_wait_seconds=0, in_flight=0, replicas=0, ready=0),
    ),
)
REFUSED = wrong_manifest.Measured("softSeconds must be less than hardSeconds", exists=False)


@pytest.mark.parametrize(
    "evidence",
    [MAILS, CRAWLS, EVENT, LINES, FROZEN, SOFT, OUTAGE, SCALED, BURST, REFUSED],
    ids=lambda evidence: type(evidence).__module__.rpartition(".")[2],
)
def test_a_promise_that_holds_has_a_sentence_and_no_shortfall(evidence):
    assert evidence.shortfall() is None
    assert evidence.sentence()


@pytest.mark.parametrize(
    ("evidence", "says"),
    [
        pytest.param(replace(MAILS, mails_in_window=5), "one e-mail", id="five clicks send five e-mails"),
        pytest.param(replace(MAILS, mails_in_window=0), "one e-mail", id="five clicks send none"),
        pytest.param(replace(MAILS, mails_after=1), "second e-mail", id="the click after the window sends none"),
        pytest.param(
            replace(CRAWLS, same_site=(a_crawl("a", 0, 2), a_crawl("a", 1.5, 3))), "0.50 s", id="crawls overlap"
        ),
        pytest.param(
            replace(CRAWLS, same_site=(a_crawl("a", 1.5, 3), a_crawl("a", 0, 2))), "0.50 s", id="in whichever order"
        ),
        pytest.param(
            replace(CRAWLS, other_site=a_crawl("b", 5, 6)), "another site", id="the lock is one for all sites"
        ),
        pytest.param(replace(EVENT, events=2), "one event", id="a failure is reported twice"),
        pytest.param(replace(EVENT, names_pool=False), "pool", id="an event does not name the pool"),
        pytest.param(replace(LINES, task_line=""), "task logger's", id="a kind of log line is missing"),
        pytest.param(replace(FROZEN, restarted=2), "one restart", id="the container is restarted twice"),
        pytest.param(replace(FROZEN, state="FAILURE"), "finish", id="the frozen worker's task fails"),
        pytest.param(replace(FROZEN, deliveries=1), "proves nothing", id="the frozen worker finished its task"),
        pytest.param(replace(SOFT, error="SUCCESS: None"), "SoftTimeLimitExceeded", id="the task ends otherwise"),
        pytest.param(replace(SOFT, seconds=1), "it had 3 s", id="the task ends before its limit"),
        pytest.param(replace(SOFT, restarted={"pod/worker": 1}), "must not restart", id="the worker is restarted"),
        pytest.param(replace(OUTAGE, restarted={"pod/worker": 1}), "pod/worker", id="a worker is restarted for Redis"),
        pytest.param(replace(OUTAGE, pods_kept=False), "pods were replaced", id="a pod is replaced for Redis"),
        pytest.param(replace(OUTAGE, not_ready_meanwhile=False), "not to be Ready", id="ready without a broker"),
        pytest.param(replace(OUTAGE, finished=11), "every task", id="a task is lost with Redis"),
        pytest.param(replace(SCALED, ready=2), "3 workers", id="a worker is missing"),
        pytest.param(replace(BURST, done=59), "1 were not", id="a task of the burst is lost"),
        pytest.param(replace(BURST, samples=BURST.samples[:1]), "did not follow", id="no worker is asked for"),
        pytest.param(replace(BURST, samples=BURST.samples[:3]), "to rest", id="the pool stays large after the burst"),
        pytest.param(replace(REFUSED, exists=True), "accepted", id="the wrong manifest is kept"),
        pytest.param(replace(REFUSED, said=""), "accepted", id="nothing is said"),
        pytest.param(replace(REFUSED, said="invalid"), "name the field", id="the sentence helps nobody"),
    ],
)
def test_a_promise_that_does_not_hold_is_named(evidence, says):
    assert says in str(evidence.shortfall())


def test_every_row_of_the_table_runs_exactly_once():
    running = [row for stage in STAGES for track in stage for row in track]
    assert sorted(row.name for row in running) == sorted(row.name for row in ROWS)


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("[2026-01-01 12:00:00,123:INFO] Task a.b[1-2]: packing order 7", True),
        ("[2026-01-01 12:00:00,123: INFO/MainProcess] a.b[1-2]: packing order 7", False),
        ("[2026-01-01 12:00:00,123:INFO] Task a.b[1-2]: packing order 77", False),
    ],
    ids=["the promised format", "Celery's own format", "another order's line"],
)
def test_only_a_whole_line_of_the_promised_format_is_quoted(line, is_found):
    found = logs.find(f"before\n{line}\nafter", rf"{logs.TIME} Task a\.b\[1-2\]: packing order 7")
    assert found == (line if is_found else "")


def test_the_live_table_of_the_burst_shows_how_full_the_queue_is():
    assert burst.line(BURST.samples[2], tasks=60) == "   9.0        5      5       10       20  ##########"
    assert burst.line(BURST.samples[3], tasks=60) == "  21.0        0      0        0        0"


def test_a_burst_counts_from_the_moment_at_which_a_message_was_taken():
    # The pool says that its worker is ready seconds after the worker began.
    assert BURST.taken == 9
    samples = [replace(sample, ready=0, in_flight=0) for sample in BURST.samples]
    assert replace(BURST, samples=tuple(samples)).taken == 9
    earlier = replace(BURST.samples[2], at=5, in_flight=1, ready=0, backlog=57)
    assert replace(BURST, samples=(*BURST.samples[:2], earlier, *BURST.samples[2:])).taken == 5
