"""How does a client that waits for a lock sleep in Redis?

Each waiter has its own list, the inbox. The script that releases the lock puts the hand-over into it.
"""

from __future__ import annotations

from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

ANSWER_SECONDS: Final = 2.0
"""If a blocking command takes this many seconds longer than requested, its connection is lost."""


def pop(client: Any, inbox: bytes, seconds: float) -> Any:
    """Sleep in Redis until the inbox has an entry; `None` after `seconds`, or when the connection breaks.

    redis-py applies a client's `socket_timeout` (5 s unless set) to blocking commands too. So this function waits on a
    connection from the client's pool with its own time limit. If the connection breaks, the caller asks for the lock
    again.
    """
    pool = getattr(client, "connection_pool", None)
    if pool is None:  # the Cluster client selects the node; it has no timeout unless one is set
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
        connection.disconnect()  # the reply may still arrive: no other code must read it
        raise
    finally:
        pool.release(connection)
    return None if answer is None else answer[1]


def _connection(pool: Any) -> Any:
    try:
        return pool.get_connection()
    except TypeError:  # redis-py before 5.3 requires a name that it does not use
        return pool.get_connection("_")
