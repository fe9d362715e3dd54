"""Which queues are an application's tasks sent to, and which of them does this worker consume?

Celery decides at each call. What a call without options would get is asked here, of Celery's own router, for each task:
the task's `queue`, then `task_routes` (mappings, patterns, functions), then `task_default_queue`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from celery.utils.functional import maybe_evaluate

from celeriac.config.contract import Config


def read_consumed(app: Any, config: Config) -> tuple[str, ...]:
    """The queues of a worker with this configuration: the pool's, else all that the application declares."""
    if config.queues is not None:
        return config.queues
    return tuple(app.amqp.queues.consume_from)


def read_problem(app: Any) -> str | None:
    """Why no call can be routed; `None` where calls can."""
    try:
        for router in app.amqp.Router().routes:
            found = maybe_evaluate(router)  # the name of a class or function is looked up at the first call
            if not callable(found) and not hasattr(found, "route_for_task"):
                raise TypeError(f"{found!r} is not callable")  # noqa: TRY301 - as Celery says it at the first call
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def read_destinations(app: Any, tasks: list[Any]) -> dict[str, tuple[str, ...]]:
    """The names of the tasks that are sent to each queue by themselves, by queue.

    A task is left out when its route cannot be known beforehand: a function that looks at arguments, an exchange that
    no declared queue is bound to.
    """
    # A copy: the router declares each queue that it is asked for, and a worker would consume from all declared ones.
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
