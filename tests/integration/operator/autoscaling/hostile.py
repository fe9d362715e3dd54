"""Servers that answer as no broker does. An answer is a text, or pieces without an end.

`REDIS` speaks RESP up to a point and then gives its answer; `HTTP` answers a request to RabbitMQ's management API.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

Answer = bytes | Callable[[], Iterator[bytes]]

SECRET = "secret-of-another-service"
"""Is in every answer that has room for it, and must appear nowhere."""

MEGABYTE = 2**20


def for_ever(piece: bytes) -> Callable[[], Iterator[bytes]]:
    """An answer that repeats this piece."""

    def answer() -> Iterator[bytes]:
        while True:
            yield piece

    return answer


def after(head: bytes, piece: bytes) -> Callable[[], Iterator[bytes]]:
    """An answer with this head that repeats the piece for ever."""

    def answer() -> Iterator[bytes]:
        yield head
        yield from for_ever(piece)()

    return answer


def bulk(text: bytes) -> bytes:
    """A text in RESP."""
    return b"$%d\r\n%s\r\n" % (len(text), text)


def reply(text: bytes, *reports: bytes) -> bytes:
    """A reply of the operator's script with one queue."""
    return b"*%d\r\n:0\r\n" % (2 + len(reports)) + bulk(text) + b"".join(map(bulk, reports))


def records() -> Callable[[], Iterator[bytes]]:
    """A new layout record at each question: there is one piece for each."""

    def answer() -> Iterator[bytes]:
        number = 0
        while True:
            number += 1
            yield b"*2\r\n:1\r\n" + bulk(b"record %d of %s" % (number, SECRET.encode()))

    return answer


REDIS: dict[str, Answer] = {
    "an error of 40 kB": b"-ERR " + SECRET.encode() * 1600 + b"\r\n",
    "an error with line breaks": b"!60\r\n"
    + (b"NOPERM x\r\n2026-01-01 INFO forged " + SECRET.encode()).ljust(60, b"x")[:60]
    + b"\r\n",
    "an error code of its own": b"-" + SECRET.encode() + b" 1\r\n",
    "words": b"220 mail " + SECRET.encode() + b" ESMTP\r\n",
    "noise": bytes(range(256)) * 64,
    "a number": b":5\r\n",
    "a text": b"+OK\r\n",
    "null": b"_\r\n",
    "an empty list": b"*0\r\n",
    "a negative list": b"*-5\r\n",
    "a negative text": b"$-100\r\n",
    "a length of 5000 digits": b"$" + b"9" * 5000 + b"\r\n",
    "a number of 5000 digits": b":" + b"9" * 5000 + b"\r\n",
    "a list without end": after(b"*1000000000\r\n", b":1\r\n" * 1000),
    "a text of a gigabyte": after(b"$1073741824\r\n", b"x" * 2**16),
    "a line without end": after(b"+", b"x" * 2**16),
    "lists in lists": for_ever(b"*1\r\n" * 1000),
    "maps in maps": for_ever(b"%1\r\n+a\r\n" * 1000),
    "a map with a list as its key": b"%1\r\n*1\r\n:1\r\n:1\r\n",
    "announcements without end": for_ever((b">2\r\n" + bulk(b"invalidate") + b"*1\r\n" + bulk(b"q")) * 100),
    "an odd announcement": b">1\r\n" + bulk(b"invalidate") + b":1\r\n",
    "an announcement that sends elsewhere": b">4\r\n" + bulk(b"MOVING") + b":1\r\n:0\r\n" + bulk(b"127.0.0.1:1"),
    "more replies than questions": b":0\r\n" * 1000,
    "an unknown code": b"*1\r\n:7\r\n",
    "too few numbers": reply(b"0 0"),
    "too many numbers": reply(b"0 0 0 0"),
    "a backlog of 20 digits": reply(b"0 0 1" + b"0" * 20),
    "a backlog of 400 digits": reply(b"0 0 1" + b"0" * 400),
    "a negative backlog": reply(b"0 0 -1"),
    "a backlog in other digits": reply("0 0 ٣".encode()),
    "a time of 400 digits": reply(b"1" * 400 + b" 0 1"),
    "not UTF-8": reply(b"0 0 \xff\xfe"),
    "a report that is no text": b"*3\r\n:0\r\n" + bulk(b"0 0 1") + b":5\r\n",
    "reports that are huge": reply(b"0 0 1", *[b"{" + b" " * 2 * MEGABYTE + b"}"] * 8),
    "ever new records": records(),
    "a record of 20 MB": b"*2\r\n:1\r\n" + bulk(b"x" * 20 * MEGABYTE),
    "drop by drop": after(b"$1000\r\n", b""),
    "nothing": after(b"", b""),
    "the end": b"",
}

FINE: dict[str, Answer] = {
    "a report with a number of 400 digits": reply(b"0 0 1", b'{"slots":1,"busy":1' + b"0" * 400 + b"}"),
    "a report with Infinity": reply(b"0 0 1", b'{"slots":1,"serviceSeconds":Infinity,"recentTasks":1}'),
    "a report with 1e300": reply(b"0 0 1", b'{"slots":1,"serviceSeconds":1e300,"recentTasks":1}'),
    "a report that is deep": reply(b"0 0 1", b"[" * 100_000),
    "a report that is not UTF-8": reply(b"0 0 1", b"\xff\xfe"),
    "ten thousand reports": reply(b"0 0 1", *[b'{"slots":1,"busy":1,"recentTasks":1,"serviceSeconds":1.5}'] * 10_000),
    "a message with a time of 400 digits": reply(b"0 0 1 " + b"9" * 400 + b"|"),
    "a message with bars without end": reply(b"0 0 1 " + b"|" * 1000),
    "a message with a time of dots": reply(b"0 0 1 1.2.3|x"),
    "a message that is due at the edge of time": reply(b"0 0 1 1|0001-01-01T00:00:00.000001+23:59"),
    "the largest numbers": reply(b"9007199254740991 9007199254740991 9007199254740991"),
}
"""Answers from which there are figures all the same."""


def http(body: bytes, headers: bytes = b"", status: bytes = b"200 OK", kind: bytes = b"application/json") -> bytes:
    """A response."""
    head = b"HTTP/1.1 %s\r\nContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n" % (status, kind, headers, len(body))
    return head + body


OPEN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

HTTP: dict[str, Answer] = {
    "deep": http(b"[" * 200_000),
    "a number": http(b"5"),
    "null": http(b"null"),
    "an object": http(b'{"name": "%s"}' % SECRET.encode()),
    "a list of numbers": http(b"[1, 2]"),
    "a queue without a name": http(b'[{"messages_ready": 1}]'),
    "a name that is a list": http(b'[{"name": [["%s"]]}]' % SECRET.encode()),
    "a negative number": http(b'[{"name": "q", "messages_ready": -1}]'),
    "Infinity": http(b'[{"name": "q", "messages_ready": Infinity}]'),
    "NaN": http(b'[{"name": "q", "messages_ready": NaN}]'),
    "1e400": http(b'[{"name": "q", "messages_ready": 1e400}]'),
    "400 digits": http(b'[{"name": "q", "messages_ready": 1' + b"0" * 400 + b"}]"),
    "a fraction": http(b'[{"name": "q", "messages_ready": 1.5}]'),
    "a text for a number": http(b'[{"name": "q", "messages_ready": "%s"}]' % SECRET.encode()),
    "a key twice": http(b'[{"name": "q", "name": "%s"}]' % SECRET.encode()),
    "not UTF-8": http(b'[{"name": "\xff\xfe"}]'),
    "words": http(b"root:x:0:0 " + SECRET.encode(), kind=b"text/plain"),
    "a redirect": http(b"", headers=b"Location: http://127.0.0.1:1/%s\r\n" % SECRET.encode(), status=b"302 Found"),
    "another protocol": b"SSH-2.0-" + SECRET.encode() + b"\r\n",
    "noise": bytes(range(256)) * 16,
    "a status of its own": http(b"", status=b"999 " + SECRET.encode()),
    "no content": http(b"", status=b"204 No Content"),
    "a header without a colon": b"HTTP/1.1 200 OK\r\n" + SECRET.encode() + b"\r\n\r\n",
    "an encoding": http(b"xxxx", headers=b"Content-Encoding: gzip\r\n"),
    "another encoding": http(b"xxxx", headers=b"Content-Encoding: br\r\n"),
    "a gigabyte": after(OPEN + b"Content-Length: 1073741824\r\n\r\n", b" " * 2**16),
    "chunks without end": after(OPEN + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 2**16 + b"\r\n"),
    "chunks of 5000 digits": OPEN + b"Transfer-Encoding: chunked\r\n\r\n" + b"9" * 5000 + b"\r\n",
    "headers without end": after(b"HTTP/1.1 200 OK\r\n", b"X-%s: 1\r\n" % SECRET.encode() * 1000),
    "a header without end": after(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 2**16),
    "promises without end": for_ever(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "drop by drop": after(OPEN + b"Content-Length: 1000\r\n\r\n", b""),
    "nothing": after(b"", b""),
    "the end": b"",
    "a failure": http(SECRET.encode(), status=b"500 " + SECRET.encode()),
}

HANDSHAKE = b"%1\r\n$5\r\nproto\r\n:3\r\n"


@dataclass
class Server:
    """A server that gives one answer to every client, and counts."""

    answer: Answer
    is_http: bool
    answers_at_once: bool = False
    """Redis: whether the handshake gets the answer already."""
    port: int = 0
    asked: int = 0
    received: list[bytes] = field(default_factory=list)
    sent: int = 0
    """Bytes that clients have taken from it."""

    talks: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one client."""
        task = asyncio.current_task()
        assert task is not None
        self.talks[task] = writer
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            if self.is_http:
                self.received.append(await reader.readuntil(b"\r\n\r\n"))
                self.asked += 1
                await self._give(writer, self._pieces())
            else:
                await self._speak(reader, writer)
        writer.close()

    async def _speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pieces = self._pieces()
        while command := await _command(reader):
            name = command[0].upper()
            if self.answers_at_once or name == b"EVALSHA":
                self.asked += 1
                each = self.answer is REDIS["ever new records"]
                await self._give(writer, iter([next(pieces)]) if each else pieces)
                if not each:
                    pieces = self._pieces()
            else:
                await self._give(writer, iter([HANDSHAKE if name == b"HELLO" else b"+OK\r\n"]))
            if self.answer == b"":
                return

    def _pieces(self) -> Iterator[bytes]:
        return iter([self.answer]) if isinstance(self.answer, bytes) else self.answer()

    async def _give(self, writer: asyncio.StreamWriter, pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            if piece:
                writer.write(piece)
                await writer.drain()
                self.sent += len(piece)
            else:  # drop by drop
                writer.write(b"" if not self.sent else b" ")
                await writer.drain()
                await asyncio.sleep(0.05)


async def _command(reader: asyncio.StreamReader) -> list[bytes]:
    line = await reader.readline()
    parts = []
    for _ in range(int(line[1:]) if line.startswith(b"*") else 0):
        size = int((await reader.readline())[1:])
        parts.append((await reader.readexactly(size + 2))[:-2])
    return parts


@contextlib.asynccontextmanager
async def serving(answer: Answer, *, is_http: bool, answers_at_once: bool = False) -> AsyncIterator[Server]:
    """Run a server on a free port of the loopback address."""
    server = Server(answer, is_http, answers_at_once)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=2**24)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for writer in server.talks.values():
            writer.transport.abort()
        for task in server.talks:
            task.cancel()
        await asyncio.gather(*server.talks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close their sockets in the next turn of the loop
