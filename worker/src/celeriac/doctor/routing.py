"""Which queues are an application's tasks sent to, and which of them does this worker consume?

Celery decides this at each call. For each task, this module asks Celery's own router where a call without options would
go: to the task's `queue`, or else according to `task_routes` (mappings, patterns, functions), or else to
`task_default_queue`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from celery.utils.functional import maybe_evaluate

from celeriac.config.contract import Config


def read_consumed(app: Any, config: Config) -> tuple[str, ...]:
    """The queues of a worker with this configuration: the pool's, or else all that the application declares."""
    if config.queues is not None:
        return config.queues
    return tuple(app.amqp.queues.consume_from)


def read_problem(app: Any) -> str | None:
    """Why calls cannot be routed; `None` if they can."""
    try:
        for router in app.amqp.Router().routes:
            found = maybe_evaluate(router)  # the name of a class or function is looked up at the first call
            if not callable(found) and not hasattr(found, "route_for_task"):
                raise TypeError(f"{found!r} is not callable")  # noqa: TRY301 - as Celery says it at the first call
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def read_destinations(app: Any, tasks: list[Any]) -> dict[str, tuple[str, ...]]:
    """For each queue, the names of the tasks whose calls without options go there.

    A task is left out if its route is not known in advance: a function decides by the arguments, or no declared queue
    is bound to the exchange.
    """
    # Use a copy: the router declares each queue that it returns, and a worker would consume from all declared queues.
    queues = copy.copy(app.amqp.queues)
    if read_problem(app) is not None:
        return {}
    router = app.amqp.Router(queues=queues)
    found: dict[str, list[str]] = {}
    for task in tasks:
        queue = _destination(app, router, queues, task)
        if queue is not None:
            found.setdefault(queue, []).append(task.name)
    return {queue: tuple(names) for queue, names in sorted(found.items())}


def _destination(app: Any, router: Any, queues: Mapping[str, Any], task: Any) -> str | None:
    try:
        options = router.route(dict(task._get_exec_options()), task.name, (), {}, task)
    except Exception:
        return None
    queue, exchange = options.get("queue"), options.get("exchange")
    if queue is not None:
        return str(getattr(queue, "name", queue))
    if exchange is None:
        return str(app.conf.task_default_queue)
    place = (getattr(exchange, "name", exchange), options.get("routing_key"))
    bound = [it.name for it in queues.values() if (it.exchange.name, it.routing_key) == place]
    return str(bound[0]) if bound else None
