"""Tasks with policies, and tests of them, as users write them. mypy reads this file; it is never run.

`assert_type` holds what a type checker with celery-types makes of each expression. A line that must be refused carries
an ignore with its code, and mypy fails when that ignore is no longer needed.
"""

from __future__ import annotations

from typing import Any, assert_type

from celery import Celery, shared_task
from celery.result import AsyncResult

import celeriac
from celeriac import testing

app = Celery("shop", task_cls=celeriac.Task)


@shared_task(bind=True, base=celeriac.Task, policy=celeriac.Throttle(key="user_id", seconds=30))
def notify(self: celeriac.Task, user_id: int) -> str:
    self.logger.info("telling %s", user_id)
    assert_type(self.fence, int | None)
    return f"told {user_id}"


@shared_task(
    bind=True,
    base=celeriac.Task,
    policy=[celeriac.Debounce(key=None, seconds=2, max_wait=30), celeriac.Exclusive("{site}", on_conflict="wait")],
)
def crawl(self: celeriac.Task, site: str) -> None:
    self.logger.info("crawling %s with fence %s", site, self.fence)


@app.task(base=celeriac.Task, policy=celeriac.Unique(key=lambda order, **_: f"order-{order}", until="start"))
def invoice(order: int, copies: int = 1) -> bool:
    return order > copies


@app.task(base=celeriac.Task, policy=celeriac.Coalesce(key="account", claim_seconds=60))
def sync(account: str) -> None: ...


@shared_task
def plain(order: int) -> bool:
    return order > 0


# A task with `base` is of that class: celery-types then knows nothing of its function's parameters.
assert_type(notify, celeriac.Task)
assert_type(notify.delay(7), AsyncResult[Any])
assert_type(invoice.apply_async((1,), countdown=3), Any)
# A task without `base` keeps them, also where `task_cls` makes it a celeriac.Task.
assert_type(plain.delay(7), AsyncResult[bool])
plain.delay("seven")  # type: ignore[arg-type]

celeriac.Throttle(key="user_id")  # type: ignore[call-arg]
celeriac.Throttle(key="user_id", seconds="30")  # type: ignore[arg-type]
celeriac.Unique(key="user_id", until="never")  # type: ignore[arg-type]
celeriac.Exclusive(key="site", on_conflict="queue")  # type: ignore[arg-type]


def test_a_second_click_sends_nothing() -> None:
    with testing.policies(app) as calls:
        first, second = notify.delay(7), notify.delay(7)
        assert second.id == first.id
        assert_type(calls.dropped[0].task_id, str)
        assert_type(calls.run()[0].state, str)
        assert_type(calls.queued()[0].eta, float | None)
        calls.advance(2.5)
        calls.advance("2")  # type: ignore[arg-type]
