"""Runs a Lua script by its digest; the text is sent only to a server that does not have it yet.

A script is one atomic step. Every script of this library keeps these rules: time comes from the server (`TIME`), never
from a client; a script never touches a member or token that does not belong to the caller; a script decodes nothing (no
cjson: it turns `[]` into `{}` and rounds large numbers), so that a message stays byte for byte as its producer wrote
it. The scripts run on Redis 6.0 and later and on Valkey. `NOW` in a source stands for the server's time in
milliseconds.
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
        """Run the script on a redis-py client (plain, Sentinel or Cluster): one round trip, two on the first call."""
        try:
            return client.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return client.eval(self.source, len(keys), *keys, *args)

    def run_each(self, client: Any, calls: Sequence[tuple[list[str], list[Any]]]) -> list[Any]:
        """Run the script for each (keys, arguments) in order, in one round trip; return the result of each call."""
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
        """Add the script to a pipeline, with its text: a pipeline cannot send it later if the digest is missing."""
        pipeline.eval(self.source, len(keys), *keys, *args)

    def __repr__(self) -> str:
        return f"<Script {self.name}>"
