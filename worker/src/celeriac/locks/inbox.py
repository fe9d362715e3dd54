"""How does somebody who waits for a lock sleep in Redis?

Each waiter has a list of its own, its inbox, into which the script that releases the lock puts the hand-over.
"""

from __future__ import annotations

from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

ANSWER_SECONDS: Final = 2.0
"""A blocking command that takes this many seconds longer than asked has lost its connection."""


def pop(client: Any, inbox: bytes, seconds: float) -> Any:
    """Sleep in Redis until something is in the inbox; `None` after `seconds`, or when the connection breaks.

    redis-py applies a client's `socket_timeout` (5 s unless set) to blocking commands too. So this waits on a
    connection from its pool, and bounds the wait here. After a break the caller asks for the lock itself.
    """
    pool = getattr(client, "connection_pool", None)
    if pool is None:  # Cluster's client picks the node; it has no timeout unless one is set
        handed = client.blpop([inbox], timeout=seconds)
        return None if handed is None else handed[1]
    connection = _connection(pool)
    try:
        connection.send_command("BLPOP", inbox, seconds)
        if not connection.can_read(timeout=seconds + ANSWER_SECONDS):
            connection.disconnect()
            return None
        answer = connection.read_response()
    except (RedisConnectionError, RedisTimeoutError, OSError):
        connection.disconnect()
        return None
    except BaseException:
        connection.disconnect()  # the answer is still due: nobody else must read it
        raise
    finally:
        pool.release(connection)
    return None if answer is None else answer[1]


def _connection(pool: Any) -> Any:
    try:
        return pool.get_connection()
    except TypeError:  # redis-py before 5.3 wants a name that it does not use
        return pool.get_connection("_")
