"""Settles a delivery that must not run its task now; each way raises Celery's `Ignore`, which settles it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

from celery.exceptions import Ignore, Reject

from celeriac.backoff import Retry
from celeriac.policies import values
from celeriac.policies.publishing import FAILURES

logger = logging.getLogger(__name__)

T = TypeVar("T")

BACKOFF_SECONDS: Final = (1.0, 30.0)
PATIENCE: Final = Retry(max_retries=30, initial_seconds=0.1, max_seconds=2.0)
"""Retries while Redis does not answer, for a message that leads to a call in another message."""


class Errand(Ignore):
    """This delivery was not a run: its call has another message, or will get one."""


def insist(task: Any, step: Callable[[], T]) -> T:
    """Do a step that must not be skipped, because a call that exists only in Redis would be lost without it.

    Raises:
        celery.exceptions.Reject: Redis has not answered for about a minute; the message is given back.
    """
    retries = 0
    while True:
        try:
            return step()
        except FAILURES as error:  # noqa: PERF203 - each round asks again
            if PATIENCE.is_exhausted(retries):
                raise Reject(f"Redis does not answer: {error}", requeue=True) from error
            if retries == 0:
                logger.warning("%s[%s] waits for Redis: %s", task.name, task.request.id, error)
            time.sleep(PATIENCE.delay_seconds(retries, random.random()))  # noqa: S311 - jitter
            retries += 1


def skip(task: Any, reason: str) -> NoReturn:
    """Discard a call: its result is `REVOKED`, with the reason."""
    logger.info("skipped %s[%s]: %s", task.name, task.request.id, reason)
    task.backend.mark_as_revoked(task.request.id, reason, request=task.request, store_result=not task.ignore_result)
    raise Ignore(reason)


def drop(reason: str) -> NoReturn:
    """Settle a message whose call has another message."""
    raise Errand(reason)


def put_back(task: Any, reason: str, backoff_seconds: tuple[float, float] = BACKOFF_SECONDS) -> NoReturn:
    """Publish a call again under its own id, to run after a growing delay, and settle this message.

    Raises:
        celery.exceptions.Reject: it cannot be published; this message is given back, so that the call is not lost.
    """
    conflicts = int(getattr(task.request, values.CONFLICTS_HEADER, None) or 0)
    shortest, longest = backoff_seconds
    pauses = Retry(max_retries=None, initial_seconds=shortest, max_seconds=longest)
    delay = pauses.delay_seconds(conflicts, random.random())  # noqa: S311 - jitter
    logger.info("%s[%s] runs again in %.1f s: %s", task.name, task.request.id, delay, reason)
    insist(task, lambda: publish_again(task, delay, {values.CONFLICTS_HEADER: conflicts + 1}))
    raise Errand("put back")


def publish_again(task: Any, delay_seconds: float, headers: dict[str, Any]) -> None:
    """Publish the message that is being delivered again, with a new ETA.

    The number of retries stays the same, because this is not a retry.

    Raises:
        celery.exceptions.Reject: publishing raised an exception that says nothing of the connection.
    """
    request = task.request
    headers = {**(request.headers or {}), **headers}
    call = task.signature_from_request(request, countdown=delay_seconds, retries=request.retries, headers=headers)
    try:
        call.apply_async()
    except FAILURES:
        raise
    except Exception as error:  # kombu raises AttributeError too when a connection breaks at the wrong moment
        raise Reject(f"the call could not be published again: {error!r}", requeue=True) from error
