"""Which promises does the demo show, and which of them at the same time?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from demo.scenarios import (
    Evidence,
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
)  # fmt: skip
from demo.shop import Shop


@dataclass(frozen=True)
class Row:
    """One promise: a line of the demo's table."""

    name: str
    title: str
    run: Callable[[Shop], Evidence]


NOTIFY = Row("notify", "Five clicks, one e-mail", notify.run)
CRAWL = Row("crawl", "Crawls of one site do not overlap", crawl.run)
FAILURE = Row("failure", "A failure reaches Sentry once", failure.run)
LOGS = Row("logs", "Log lines name their task", logs.run)
FROZEN = Row("frozen-worker", "A worker that hangs is restarted", frozen_worker.run)
SOFT = Row("soft-limit", "A task that hangs: soft limit", time_limits.run_soft)
HARD = Row("hard-limit", "A task that ignores it: hard limit", time_limits.run_hard)
OUTAGE = Row("redis-outage", "Redis is killed", redis_outage.run)
SCALING = Row("scale", "kubectl scale", scaling.run)
BURST = Row("burst", "A burst: no worker, many, none", burst.run)
WRONG = Row("wrong-manifest", "A wrong manifest is refused", wrong_manifest.run)

# As the table shows them.
ROWS = (NOTIFY, CRAWL, FAILURE, LOGS, FROZEN, SOFT, HARD, OUTAGE, SCALING, BURST, WRONG)

# As they run. The tracks of a stage run at the same time, because each uses its own pool and mostly waits (for a
# window, a probe, a limit). The stages run one after the other, because an outage affects all pools, and the burst
# draws a table while it runs.
STAGES: tuple[tuple[tuple[Row, ...], ...], ...] = (
    ((NOTIFY,), (CRAWL, FAILURE, LOGS), (SOFT, HARD), (FROZEN,)),
    ((OUTAGE,),),
    ((SCALING, WRONG),),
    ((BURST,),),
)
