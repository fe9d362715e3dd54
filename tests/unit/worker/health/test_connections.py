"""The health server's connections are added, removed and ended by different threads at the same time."""

from __future__ import annotations

import socket
import threading
from typing import cast

from celeriac.health.server import MOST_CONNECTIONS, REQUEST_TIMEOUT_SECONDS, Connections


class Connection:
    """Stands for a socket that is ended."""

    def __init__(self) -> None:
        self.is_ended = False

    def shutdown(self, _how: int) -> None:
        self.is_ended = True


def a_connection() -> socket.socket:
    return cast("socket.socket", Connection())


class Watched(dict[socket.socket, float]):
    """A dict that may only be read while its lock is held."""

    lock: threading.Lock

    def values(self):  # type: ignore[no-untyped-def]
        assert self.lock.locked(), "another thread may change this dict now"
        return super().values()


def test_connections_are_only_looked_at_while_no_thread_changes_them() -> None:
    connections = Connections()
    watched = Watched()
    watched.lock, connections._since = connections._lock, watched
    for number in range(MOST_CONNECTIONS):
        connections.add(a_connection(), float(number))
    connections.end_old(0.0)
    connections.make_room(0.0)
    assert len(connections) == MOST_CONNECTIONS - 1


def test_a_connection_that_is_open_for_too_long_is_ended_and_a_younger_one_is_not() -> None:
    connections = Connections()
    old, young = a_connection(), a_connection()
    connections.add(old, 0.0)
    connections.add(young, REQUEST_TIMEOUT_SECONDS)
    connections.end_old(REQUEST_TIMEOUT_SECONDS + 0.1)
    assert [cast("Connection", it).is_ended for it in (old, young)] == [True, False]
