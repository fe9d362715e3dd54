"""How does one connection to Redis send many commands at once and receive announcements as well?

Commands go out in one write. A task of the connection reads everything that arrives: replies in the order of the
commands, with announcements in between. It hands each over before it reads the next, so they are processed in the order
in which Redis sent them: a change after a reply is announced after that reply.

    ask ──commands──> Redis            reader ──reply n───> receive(n, reply)
                      Redis ──────────────── announcement ─> on_change(keys)

What the server sends is bounded, for each reply and for all announcements between two questions.

A connection that fails is not repaired. All waiting callers get the error, and the owner opens a new connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from redis.exceptions import RedisError, ResponseError

from celeriac_operator.autoscaling.brokers import scripts
from celeriac_operator.autoscaling.brokers.readings import Misbehaving

RedisReply = Any
"""A reply of Redis, with texts as bytes; a `ResponseError` if Redis refused the command."""
Command = Sequence[str | bytes | int]

_ANNOUNCED: Final = object()

UNINTERRUPTED_SECONDS: Final = 0.005
"""Longest time for which replies are read before other tasks may run."""

CLOSE_SECONDS: Final = 1.0
"""Longest wait for the reader to end; it is left behind after that."""


class Conversation:
    """One connection; `open` connects.

    Args:
        on_change: called with the names of keys that this connection has read and that have changed since.
    """

    def __init__(self, connection: Any, on_change: Callable[[Iterable[bytes]], None]) -> None:
        self._connection = connection  # a connection of `metering`
        self._on_change = on_change
        self._waiting: deque[Callable[[RedisReply], None]] = deque()
        self._failure: BaseException | None = None
        self._asking: asyncio.Future[None] | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether the connection has failed, so that a new one is needed."""
        return self._failure is not None

    async def open(self) -> None:
        """Connect.

        Raises:
            redis.exceptions.RedisError: it cannot connect, or the server refuses the credentials.
        """
        await self._connection.connect()
        self._connection._parser.set_invalidation_push_handler(self._hear)
        self._connection._parser.set_pubsub_push_handler(_pass_over)
        self._reader = asyncio.create_task(self._read_for_ever(), name="celeriac-broker-reader")

    def pack(self, commands: Iterable[Command]) -> list[bytes]:
        """Encode commands, so that they can be sent repeatedly."""
        packed: list[bytes] = self._connection.pack_commands(commands)
        return packed

    async def ask(self, packed: list[bytes], receivers: Iterable[Callable[[RedisReply], None]]) -> None:
        """Send commands and wait until each receiver has got its reply.

        Raises:
            redis.exceptions.RedisError, OSError: the connection has failed, and a new one is needed.
        """
        if self._failure is not None:
            raise self._failure
        self._waiting.extend(receivers)
        self._connection.metered.allow(scripts.MAX_REPLY)
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asking = answered
        try:
            await self._connection.send_packed_command(packed, check_health=False)
            await answered
        except BaseException as error:
            self._asking = None
            self._fail(error)
            raise
        finally:
            self._asking = None
            if answered.done() and not answered.cancelled():
                answered.exception()  # marks the error as retrieved, also if sending failed first

    async def ask_one(self, *command: str | bytes | int) -> RedisReply:
        """Send one command; returns its reply, or the `ResponseError`."""
        answers: list[RedisReply] = []
        await self.ask(self.pack([command]), [answers.append])
        return answers[0]

    async def close(self) -> None:
        """Close the connection. Safe to call twice."""
        self._fail(ConnectionError("closed"))
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader], timeout=CLOSE_SECONDS)
        with contextlib.suppress(RedisError, OSError):
            await self._connection.disconnect(nowait=True)

    async def _read_for_ever(self) -> None:
        try:
            paused_at = time.monotonic()
            while True:
                answer = await self._next()
                if time.monotonic() - paused_at > UNINTERRUPTED_SECONDS:
                    # What has arrived is read without a pause; other tasks must get their turns.
                    await asyncio.sleep(0)
                    paused_at = time.monotonic()
                if answer is _ANNOUNCED:
                    continue
                self._connection.metered.allow(scripts.MAX_REPLY)
                self._waiting.popleft()(answer)
                if not self._waiting and self._asking is not None and not self._asking.done():
                    self._asking.set_result(None)
        except Exception as error:  # after any error replies no longer match the commands
            self._fail(error)

    async def _next(self) -> RedisReply:
        try:
            return await self._connection.read_response(disable_decoding=True, timeout=math.inf, push_request=True)
        except ResponseError as refusal:
            return refusal

    async def _hear(self, announcement: list[Any]) -> object:
        match announcement:
            case [_, None]:
                pass  # all keys were flushed, which is not an arrival
            case [_, [*names]] if all(isinstance(name, bytes) for name in names):
                self._on_change(names)
            case _:
                self._fail(Misbehaving("announces what Redis does not"))
        return _ANNOUNCED

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        self._waiting.clear()
        if self._asking is not None and not self._asking.done():
            self._asking.set_exception(self._failure)


async def _pass_over(_: list[Any]) -> object:
    return _ANNOUNCED
