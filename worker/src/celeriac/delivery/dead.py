"""`python -m celeriac dead`: which messages were given up, and what becomes of them?

A message lands in its queue's dead-letter queue (`celeriac:dead:{queue}`, a Redis stream) when it was delivered
`maxDeliveries` times without coming to an end, or cannot be read. It stays there until a person decides.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TextIO

from celeriac import brokers
from celeriac.delivery import messages, outcomes, scripts
from celeriac.store import keys, replies

DESCRIPTION = """\
Messages that were delivered too often, or cannot be read, wait in a dead-letter queue for a person to decide."""

EPILOG = """\
An entry's id is shown by `list`; `all` stands for every entry of the queues chosen.

examples:
  celeriac dead list
  celeriac dead show 1732370000000-0
  celeriac dead requeue 1732370000000-0
  celeriac dead drop --queue emails all
"""


@dataclass(frozen=True)
class Entry:
    """One dead message."""

    entry: str
    """Its id in the dead-letter queue."""
    queue: str
    task: str
    id: str
    """The task's id."""
    why: str
    where: str
    """The worker that gave it up."""
    at: float
    """Seconds since the epoch."""
    message: bytes

    def payload(self) -> dict[str, Any] | None:
        """The message, if it can be read."""
        return messages.read(self.message)

    def summary(self) -> dict[str, Any]:
        """What `list --json` prints."""
        payload = self.payload()
        return {
            "entry": self.entry,
            "queue": self.queue,
            "task": self.task,
            "id": self.id,
            "at": datetime.fromtimestamp(self.at, timezone.utc).isoformat(timespec="seconds"),
            "why": self.why,
            "where": self.where,
            "deliveries": outcomes.deliveries(payload) if payload else 0,
        }

    def details(self) -> dict[str, Any]:
        """What `show --json` prints."""
        payload = self.payload() or {}
        record = (payload.get("properties") or {}).get("celeriac") or {}
        headers = payload.get("headers") or {}
        return {
            **self.summary(),
            "args": headers.get("argsrepr"),
            "kwargs": headers.get("kwargsrepr"),
            "history": record.get("history", []),
            "message": self.message.decode(errors="replace"),
        }


class DeadLetters:
    """The dead-letter queues of one Redis database."""

    def __init__(self, client: Any, prefix: str = "") -> None:
        """Use a redis-py client; `prefix` is the transport's `global_keyprefix`."""
        self._client = client
        self._prefix = prefix

    def queues(self) -> list[str]:
        """Queues that have dead messages, sorted."""
        start = keys.dead("", prefix=self._prefix).removesuffix("{}")
        names = {_text(name) for name in self._client.scan_iter(keys.dead_pattern(prefix=self._prefix), count=1000)}
        found = (name.removeprefix(start) for name in names)
        return sorted(name[1:-1] if name.startswith("{") and name.endswith("}") else name for name in found)

    def read(self, queues: Iterable[str] | None = None) -> Iterator[Entry]:
        """Entries of these queues (default: of all), the oldest of each first."""
        for queue in self.queues() if queues is None else queues:
            for entry, fields in self._client.xrange(self._key(queue)):
                values = {_text(name): value for name, value in fields.items()}
                yield Entry(
                    entry=_text(entry),
                    queue=_text(values.get("queue", queue)),
                    task=_text(values.get("task", "")),
                    id=_text(values.get("id", "")),
                    why=_text(values.get("why", "")),
                    where=_text(values.get("where", "")),
                    at=float(_text(values.get("at", "0"))),
                    message=replies.content(values.get("message", b"")),
                )

    def requeue(self, entry: Entry) -> bool:
        """Put a message back into its queue, with its deliveries counted from zero; whether it was still there.

        Raises:
            ValueError: the message cannot be read, so no worker could run it.
        """
        payload = entry.payload()
        if payload is None:
            raise ValueError(f"entry {entry.entry} is no message that a worker could read; it can only be dropped")
        properties = {name: value for name, value in payload["properties"].items() if name != "celeriac"}
        text = messages.write({**payload, "properties": properties})
        names = [self._key(entry.queue), self._prefix + entry.queue]
        return bool(scripts.REVIVE.run(self._client, names, [entry.entry, text]))

    def drop(self, entry: Entry) -> bool:
        """Delete an entry for good; whether it was still there."""
        return bool(self._client.xdel(self._key(entry.queue), entry.entry))

    def _key(self, queue: str) -> str:
        return keys.dead(queue, prefix=self._prefix)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments; `parser` is that of `dead`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("-A", "--app", help="the Celery application; absent: that of the pool's document")
    parser.add_argument("action", choices=["list", "show", "requeue", "drop"], help="what to do")
    parser.add_argument("entries", nargs="*", metavar="entry", help="ids of entries, or `all`")
    parser.add_argument("--queue", action="append", metavar="NAME", help="only this queue; may be given more than once")
    parser.add_argument("--json", action="store_true", help="one JSON document for a script to read")


def main(
    app: Any,
    action: str,
    entries: Sequence[str],
    *,
    queues: Sequence[str] | None,
    as_json: bool,
    out: TextIO | None = None,
) -> int:
    """Run the command on an application's broker; its exit code.

    0: done. 1: an entry that was named is not there, or cannot be put back. 2: the arguments do not fit together.
    """
    out = out or sys.stdout
    if action != "list" and not entries:
        print(f"celeriac: dead {action} needs the ids of entries, or `all`", file=sys.stderr)
        return 2
    from celeriac.store import connections

    if not brokers.of_publishing(app.conf).is_redis:
        print("celeriac: only a Redis broker has a dead-letter queue of Celeriac's", file=sys.stderr)
        return 2
    store = connections.store(app)
    letters = DeadLetters(store.client, store.prefix)
    found = list(letters.read(queues))
    if action == "list" and not entries:
        chosen, missing = found, []
    else:
        chosen = found if "all" in entries else [it for it in found if it.entry in entries]
        missing = sorted(set(entries) - {"all"} - {it.entry for it in found})
    code = _act(letters, action, chosen, as_json, out)
    for name in missing:
        print(f"celeriac: no dead message {name}; `celeriac dead list` shows them", file=sys.stderr)
    return 1 if missing else code


def _act(letters: DeadLetters, action: str, chosen: list[Entry], as_json: bool, out: TextIO) -> int:
    if action == "list":
        _print_list(chosen, as_json, out)
        return 0
    if action == "show":
        _print_details(chosen, as_json, out)
        return 0
    done, code = [], 0
    for entry in chosen:
        try:
            changed = letters.requeue(entry) if action == "requeue" else letters.drop(entry)
        except ValueError as error:
            print(f"celeriac: {error}", file=sys.stderr)
            code = 1
            continue
        if changed:
            done.append(entry)
    word = "requeued" if action == "requeue" else "dropped"
    if as_json:
        json.dump({word: [entry.entry for entry in done]}, out)
        print(file=out)
    else:
        for entry in done:
            print(f"{word} {entry.entry}: {entry.task}[{entry.id}] in queue {entry.queue}", file=out)
        print(f"{word} {len(done)} message(s)", file=out)
    return code


def _print_list(chosen: list[Entry], as_json: bool, out: TextIO) -> None:
    rows = [entry.summary() for entry in chosen]
    if as_json:
        json.dump(rows, out, indent=2)
        print(file=out)
        return
    if not rows:
        print("no dead messages", file=out)
        return
    columns = ("entry", "at", "queue", "task", "deliveries", "why")
    widths = [max(len(name), *(len(str(row[name])) for row in rows)) for name in columns[:-1]]
    for cells in [[name.upper() for name in columns], *([str(row[name]) for name in columns] for row in rows)]:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
        print("  ".join([*padded, cells[-1]]), file=out)


def _print_details(chosen: list[Entry], as_json: bool, out: TextIO) -> None:
    details = [entry.details() for entry in chosen]
    if as_json:
        json.dump(details, out, indent=2)
        print(file=out)
        return
    for it in details:
        for name in ("entry", "queue", "task", "id", "args", "kwargs", "at", "why", "where", "deliveries"):
            print(f"{name:11}{it[name]}", file=out)
        for event in it["history"]:
            moment = datetime.fromtimestamp(event.get("at", 0), timezone.utc).isoformat(timespec="seconds")
            print(f"  {moment}  {event.get('where', '?')}: {event.get('why', '?')}", file=out)
        print(file=out)


def _text(value: bytes | str) -> str:
    return replies.text(value, errors="replace")  # shown to a person
