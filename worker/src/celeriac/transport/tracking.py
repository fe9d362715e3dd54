"""How does a connection get to hear of new messages?

The fetch's connection speaks RESP3 and tracks what its script reads (CLIENT TRACKING, Redis 6): the server says once
that a list has changed. Where the server, its ACL or a proxy refuses that, the lists are polled.
"""

from __future__ import annotations

import logging
from typing import Any

from redis.exceptions import ResponseError

from celeriac import scripts

logger = logging.getLogger(__name__)


def prepare(connection: Any) -> bool:
    """Load the script and switch tracking on, once for each socket; whether the server announces changes."""
    if connection._sock is None:
        connection.connect()
    connection.send_command("SCRIPT", "LOAD", scripts.TAKE.source)
    connection.read_response()
    return _track(connection)


def _track(connection: Any) -> bool:
    if str(getattr(connection, "protocol", 2)) != "3":
        return False
    try:
        connection.send_command("CLIENT", "TRACKING", "ON")
        connection.read_response()
    except ResponseError as error:
        logger.info("this Redis refuses CLIENT TRACKING (%s): queues are polled", error)
        return False
    parser = connection._parser
    # redis-py before 5.1 knows one handler for everything that is announced; this connection hears nothing else.
    listen = getattr(parser, "set_invalidation_push_handler", None) or parser.set_push_handler
    listen(lambda _: None)
    return True


def parameters(params: dict[str, Any]) -> dict[str, Any]:
    """A connection's parameters, changed so that it can be told of changes."""
    # redis-py before 6 logs whatever is announced, other people's messages too, unless this logger exists.
    logging.getLogger("push_response").setLevel(logging.WARNING)
    greeting = _greets_before_it_is_checked(params["connection_class"])
    return {**params, "protocol": 3, "connection_class": greeting}  # announcements need RESP3


def _greets_before_it_is_checked(connection_class: type[Any]) -> type[Any]:
    """redis-py before 6 checks a new RESP3 connection's health before it has sent the password, which a server that
    wants one refuses. A connection that was opened just now needs no check."""

    class Greeting(connection_class):  # type: ignore[misc]  # a class made at run time
        def on_connect(self, *args: Any, **kwargs: Any) -> None:
            self.next_health_check = float("inf")  # the first answer sets it right
            super().on_connect(*args, **kwargs)

    Greeting.__name__ = connection_class.__name__
    return Greeting
