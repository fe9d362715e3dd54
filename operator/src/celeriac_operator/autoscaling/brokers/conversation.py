"""How does one connection to Redis ask many questions at once, and hear what it did not ask for?

Questions go out in one write; a task of the connection's own reads whatever comes, answers in the order of the
questions and announcements in between, and hands each over before it reads the next. So the order in which Redis said
things is the order in which they are learnt: what changes after an answer is announced after it.

    ask ──commands──> Redis            reader ──answer n──> receive(n, answer)
                      Redis ──────────────── announcement ─> on_change(keys)

A connection that fails is not repaired. All who wait learn of it, and the owner makes a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from redis.asyncio import Connection
from redis.exceptions import RedisError, ResponseError

RedisReply = Any
"""What Redis answered, texts as bytes; a `ResponseError` where it refused."""
Command = Sequence[str | bytes | int]

_ANNOUNCED: Final = object()


class Conversation:
    """One connection, from its first to its last word. Made by `open`.

    Args:
        on_change: told the names of keys that this connection has read and that were changed since.
    """

    def __init__(self, connection: Connection, on_change: Callable[[Iterable[bytes]], None]) -> None:
        self._connection: Any = connection  # redis-py's own types do not know its parsers
        self._on_change = on_change
        self._waiting: deque[Callable[[RedisReply], None]] = deque()
        self._failure: BaseException | None = None
        self._asking: asyncio.Future[None] | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether a new one is needed."""
        return self._failure is not None

    async def open(self) -> None:
        """Connect.

        Raises:
            redis.exceptions.RedisError: it cannot, or the server does not take the credentials.
        """
        await self._connection.connect()
        self._connection._parser.set_invalidation_push_handler(self._hear)
        self._connection._parser.set_pubsub_push_handler(_pass_over)
        self._reader = asyncio.create_task(self._read_for_ever(), name="celeriac-broker-reader")

    def pack(self, commands: Iterable[Command]) -> list[bytes]:
        """Commands as they are sent, to be kept for asking them again."""
        packed: list[bytes] = self._connection.pack_commands(commands)
        return packed

    async def ask(self, packed: list[bytes], receivers: Iterable[Callable[[RedisReply], None]]) -> None:
        """Send commands and wait until each receiver has had its answer.

        Raises:
            redis.exceptions.RedisError, OSError: the connection failed; it is over then.
        """
        if self._failure is not None:
            raise self._failure
        self._waiting.extend(receivers)
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
                answered.exception()  # seen, also where sending failed first

    async def ask_one(self, *command: str | bytes | int) -> RedisReply:
        """Send one command; its answer, or the `ResponseError`."""
        answers: list[RedisReply] = []
        await self.ask(self.pack([command]), [answers.append])
        return answers[0]

    async def close(self) -> None:
        """End it; a second call changes nothing."""
        self._fail(ConnectionError("closed"))
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
        with contextlib.suppress(RedisError, OSError):
            await self._connection.disconnect(nowait=True)

    async def _read_for_ever(self) -> None:
        try:
            while True:
                answer = await self._next()
                if answer is _ANNOUNCED:
                    continue
                self._waiting.popleft()(answer)
                if not self._waiting and self._asking is not None and not self._asking.done():
                    self._asking.set_result(None)
        except Exception as error:  # whatever it was, this connection is out of step
            self._fail(error)

    async def _next(self) -> RedisReply:
        try:
            return await self._connection.read_response(disable_decoding=True, timeout=math.inf, push_request=True)
        except ResponseError as refusal:
            return refusal

    async def _hear(self, announcement: list[Any]) -> object:
        names = announcement[1]
        if names is not None:  # else everything was thrown away, which is no arrival
            self._on_change(names)
        return _ANNOUNCED

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        self._waiting.clear()
        if self._asking is not None and not self._asking.done():
            self._asking.set_exception(self._failure)


async def _pass_over(_: list[Any]) -> object:
    return _ANNOUNCED
