"""How does a Lua script run? By its digest; its text is sent only to a server that does not have it yet.

A script is one atomic step. Every script of this library keeps these rules: time comes from the server (`TIME`), never
from a client; a member or token that is not the caller's is never touched; nothing is decoded (no cjson: it turns `[]`
into `{}` and rounds large numbers), so that a message stays byte for byte what its producer wrote. They run on Redis
6.0 and later and on Valkey. `NOW` in a source stands for the server's time in milliseconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import NoScriptError

_NOW: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""


class Script:
    """A script and its digest; `run` sends the digest, and the text only to a server that does not have it yet."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source.replace("NOW\n", _NOW)
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: Any, keys: Sequence[str | bytes], args: list[Any]) -> Any:
        """Run it on a redis-py client (plain, Sentinel's or Cluster's): one round trip, two on the first call."""
        try:
            return client.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return client.eval(self.source, len(keys), *keys, *args)

    def run_each(self, client: Any, calls: Sequence[tuple[list[str], list[Any]]]) -> list[Any]:
        """Run it once for each (keys, arguments), in this order: one round trip; what each call returned."""
        if not calls:
            return []
        with client.pipeline(transaction=False) as pipeline:
            for keys, args in calls:
                pipeline.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)
            answers = pipeline.execute(raise_on_error=False)
        for at, answer in enumerate(answers):
            if isinstance(answer, NoScriptError):
                answers[at] = self.run(client, *calls[at])
            elif isinstance(answer, Exception):
                raise answer
        return list(answers)

    def queue(self, pipeline: Any, keys: list[str], args: list[Any]) -> None:
        """Add it to a pipeline, with its text: a pipeline cannot answer a missing digest half-way."""
        pipeline.eval(self.source, len(keys), *keys, *args)

    def __repr__(self) -> str:
        return f"<Script {self.name}>"
