"""How is a connection notified of new messages?

The fetch's connection speaks RESP3 and tracks the keys that its script reads (CLIENT TRACKING, Redis 6): the server
announces once that a list has changed. If the server, its ACL or a proxy refuses that, the lists are polled.
"""

from __future__ import annotations

import functools
import inspect
import logging
from typing import Any

import redis
import redis.connection
from redis.exceptions import ResponseError

from celeriac.delivery import scripts

logger = logging.getLogger(__name__)

AbstractConnection: Any = getattr(redis.connection, "AbstractConnection", redis.connection.Connection)
"""The base class of all connections; redis-py before 4.5.2 has only `Connection`."""


def prepare(connection: Any) -> bool:
    """Load the script and switch tracking on, once for each socket; return whether the server announces changes."""
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
    # redis-py before 5.1 has one handler for all announcements; this connection gets no others.
    listen = getattr(parser, "set_invalidation_push_handler", None) or parser.set_push_handler
    listen(lambda _: None)
    return True


def parameters(params: dict[str, Any]) -> dict[str, Any]:
    """Return a connection's parameters, changed so that the server can announce changes to it."""
    # redis-py before 6 logs every announcement, also those for other code, unless this logger exists.
    logging.getLogger("push_response").setLevel(logging.WARNING)
    connection_class = _greets_before_it_is_checked(_can_be_asked_for_announcements(params["connection_class"]))
    if not speaks_resp3():
        return {**params, "connection_class": connection_class}
    return {**params, "protocol": 3, "connection_class": connection_class}  # announcements need RESP3


@functools.cache
def speaks_resp3() -> bool:
    """Return whether this redis-py speaks RESP3; if it does not, log that once."""
    speaks = "protocol" in inspect.signature(AbstractConnection.__init__).parameters
    if not speaks:
        logger.warning("redis-py %s does not speak RESP3: queues are polled (from 5.0 on it does)", redis.__version__)
    return speaks


def _can_be_asked_for_announcements(connection_class: type[Any]) -> type[Any]:
    """Return a connection class that can be asked for announcements, also behind Sentinel with redis-py 5.0.

    There a connection behind Sentinel cannot be asked, and a subscription over RESP3 raises TypeError. Its own code for
    reading concerns only replies to writes, so announcements bypass it. With redis-py 4 no connection can be asked; the
    only thing that arrives without a request is the end of the connection.
    """
    if "push_request" in inspect.signature(connection_class.read_response).parameters:
        return connection_class

    class Asked(connection_class):  # type: ignore[misc]  # a class made at run time
        def read_response(self, *args: Any, push_request: bool = False, **kwargs: Any) -> Any:
            if push_request and speaks_resp3():
                return AbstractConnection.read_response(self, *args, push_request=True, **kwargs)
            return super().read_response(*args, **kwargs)

    Asked.__name__ = connection_class.__name__
    return Asked


def _greets_before_it_is_checked(connection_class: type[Any]) -> type[Any]:
    """Return a connection class that skips the health check of a new connection.

    redis-py before 6 checks a new RESP3 connection before it has sent the password, and a server with a password
    refuses that. A connection that was just opened needs no check.
    """

    class Greeting(connection_class):  # type: ignore[misc]  # a class made at run time
        def on_connect(self, *args: Any, **kwargs: Any) -> None:
            self.next_health_check = float("inf")  # the first reply sets the real time
            super().on_connect(*args, **kwargs)

    Greeting.__name__ = connection_class.__name__
    return Greeting
