"""`celeriac dead`: lists, shows, requeues and drops dead-lettered messages.

A message is moved to its queue's dead-letter queue when it was delivered `maxDeliveries` times without being finished,
or when it cannot be delivered at all. On Redis this is the stream `celeriac:dead:{queue}`, on RabbitMQ the queue
`celeriac.dead.{queue}`. It stays there until a person requeues or drops it. Everything that comes from a message is
escaped and cut before it is printed; `--json` escapes it as JSON does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, TextIO

from celeriac import brokers
from celeriac.delivery import scripts
from celeriac.delivery.amqp.dead import AmqpDeadLetters
from celeriac.delivery.values import messages
from celeriac.delivery.values.dead_entry import DeadEntry
from celeriac.delivery.values.letter import SHOWN_LENGTH, Letter, moment
from celeriac.printable import printable
from celeriac.store import keys, replies

DESCRIPTION = """\
Messages that were delivered too often, or that cannot be delivered, wait in a dead-letter queue for a person to decide.
"""

EPILOG = """\
An entry's id is shown by `list`; `all` stands for every entry of the queues chosen. `requeue` counts deliveries from
zero again and makes the task's result pending again.

examples:
  celeriac dead list
  celeriac dead show 1732370000000-0
  celeriac dead requeue 1732370000000-0
  celeriac dead drop --queue emails all
"""

LIST_LENGTH: Final = 120
"""Characters of one value that `list` prints."""


class DeadLetters:
    """The dead-letter queues of one Redis database."""

    def __init__(self, client: Any, prefix: str = "", *, forget: Callable[[str], object] = lambda _: None) -> None:
        """Prepare to read a database.

        Args:
            client: a redis-py client.
            prefix: the transport's `global_keyprefix`.
            forget: called with the id of a task that will run again; makes its result pending.
        """
        self._client = client
        self._prefix = prefix
        self._forget = forget

    def queues(self) -> list[str]:
        """Return the names of the queues that have dead messages, sorted."""
        start = keys.dead("", prefix=self._prefix).removesuffix("{}")
        pattern = keys.dead_pattern(prefix=self._prefix)
        names = {
            replies.text(name, errors="replace") for name in self._client.scan_iter(pattern, count=1000, _type="STREAM")
        }
        found = (name.removeprefix(start) for name in names)
        return sorted(name[1:-1] if name.startswith("{") and name.endswith("}") else name for name in found)

    def read(self, queues: Iterable[str] | None = None) -> Iterator[Letter]:
        """Yield the entries of these queues (default: all queues), the oldest entry of each queue first."""
        for queue in self.queues() if queues is None else queues:
            for entry, fields in self._client.xrange(self._key(queue)):
                dead = DeadEntry.read(fields, queue=queue)
                if self._key(dead.queue) != self._key(queue):  # anybody may have written it
                    dead = replace(dead, queue=queue)
                yield Letter(replies.text(entry), dead)

    def requeue(self, letter: Letter) -> bool:
        """Put a message back into its queue and reset its count of deliveries; return whether it was still there.

        The task's result becomes pending again. A chord that failed because of the message stays failed.

        Raises:
            ValueError: the message cannot be read, so no worker could run it.
        """
        payload = letter.dead.payload()
        if payload is None:
            raise ValueError(f"entry {letter.entry} is not a message that a worker can read; it can only be dropped")
        key = self._key(letter.dead.queue)
        if not self._client.xrange(key, letter.entry, letter.entry):
            return False
        task_id = messages.task_of(payload)[1]
        if task_id:
            # Forget the result before a worker can take the message, or the new result could be deleted.
            self._forget(task_id)
        properties = {name: value for name, value in payload["properties"].items() if name != "celeriac"}
        text = messages.write({**payload, "properties": properties})
        return bool(scripts.REVIVE.run(self._client, [key, self._prefix + letter.dead.queue], [letter.entry, text]))

    def drop(self, letter: Letter) -> bool:
        """Delete an entry permanently; return whether it was still there."""
        return bool(self._client.xdel(self._key(letter.dead.queue), letter.entry))

    def close(self) -> None:
        """Nothing is kept open."""

    def _key(self, queue: str) -> str:
        return keys.dead(queue, prefix=self._prefix)


def make_pending(app: Any) -> Callable[[str], object]:
    """Return a function that deletes the failure of a task, which will run again, from the result backend."""

    def forget(task_id: str) -> None:
        with contextlib.suppress(NotImplementedError):  # backend cannot forget: the next result replaces the failure
            app.backend.forget(task_id)

    return forget


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`, the parser of `dead`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "-A",
        "--app",
        default=argparse.SUPPRESS,
        help="the Celery application, as for `celery -A` (default: the pool's)",
    )
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
    """Run the command on an application's broker and return the exit code.

    0: done. 1: a named entry does not exist or cannot be requeued. 2: the arguments cannot be combined.
    """
    out = out or sys.stdout
    if action != "list" and not entries:
        print(f"celeriac: dead {action} needs the ids of entries, or `all`", file=sys.stderr)
        return 2
    letters = letters_of(app)
    if letters is None:
        print("celeriac: only brokers of Redis and RabbitMQ have dead-letter queues of Celeriac's", file=sys.stderr)
        return 2
    with contextlib.closing(letters):
        return _run(letters, action, entries, queues=queues, as_json=as_json, out=out)


def letters_of(app: Any) -> DeadLetters | AmqpDeadLetters | None:
    """Return the dead letters of an application's broker; `None` if this library keeps none there."""
    from celeriac.store import connections

    broker = brokers.of_publishing(app.conf)
    if broker.counts_by_copy:
        return AmqpDeadLetters(app, queues=app.amqp.queues, forget=make_pending(app))
    if not broker.is_redis:
        return None
    store = connections.store(app)
    return DeadLetters(store.client, store.prefix, forget=make_pending(app))


def _run(
    letters: DeadLetters | AmqpDeadLetters,
    action: str,
    entries: Sequence[str],
    *,
    queues: Sequence[str] | None,
    as_json: bool,
    out: TextIO,
) -> int:
    found = list(letters.read(queues))
    if action == "list" and not entries:
        chosen, missing = found, []
    else:
        chosen = found if "all" in entries else [it for it in found if it.entry in entries]
        missing = sorted(set(entries) - {"all"} - {it.entry for it in found})
    code = _act(letters, action, chosen, as_json, out)
    for name in missing:
        print(f"celeriac: no dead message {printable(name)}; `celeriac dead list` shows them", file=sys.stderr)
    return 1 if missing else code


def _act(letters: DeadLetters | AmqpDeadLetters, action: str, chosen: list[Letter], as_json: bool, out: TextIO) -> int:
    if action == "list":
        _print_list(chosen, as_json, out)
        return 0
    if action == "show":
        _print_details(chosen, as_json, out)
        return 0
    done, code = [], 0
    for letter in chosen:
        try:
            changed = letters.requeue(letter) if action == "requeue" else letters.drop(letter)
        except ValueError as error:
            print(f"celeriac: {error}", file=sys.stderr)
            code = 1
            continue
        if changed:
            done.append(letter)
    word = "requeued" if action == "requeue" else "dropped"
    if as_json:
        json.dump({word: [letter.entry for letter in done]}, out)
        print(file=out)
    else:
        for letter in done:
            task, task_id, queue = (printable(it) for it in (letter.dead.task, letter.dead.id, letter.dead.queue))
            print(f"{word} {letter.entry}: {task}[{task_id}] in queue {queue}", file=out)
        print(f"{word} {len(done)} message(s)", file=out)
    return code


def _print_list(chosen: list[Letter], as_json: bool, out: TextIO) -> None:
    rows = [letter.summary() for letter in chosen]
    if as_json:
        json.dump(rows, out, indent=2)
        print(file=out)
        return
    if not rows:
        print("no dead messages", file=out)
        return
    columns = ("entry", "at", "queue", "task", "deliveries", "why")
    table = [[name.upper() for name in columns]]
    table += [[printable(row[name], limit=LIST_LENGTH) for name in columns] for row in rows]
    widths = [max(len(cells[at]) for cells in table) for at in range(len(columns) - 1)]
    for cells in table:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
        print("  ".join([*padded, cells[-1]]), file=out)


def _print_details(chosen: list[Letter], as_json: bool, out: TextIO) -> None:
    details = [letter.details() for letter in chosen]
    if as_json:
        json.dump(details, out, indent=2)
        print(file=out)
        return
    for it in details:
        for name in ("entry", "queue", "task", "id", "args", "kwargs", "at", "why", "where", "deliveries"):
            print(f"{name:11}{printable(it[name], limit=SHOWN_LENGTH)}", file=out)
        for event in it["history"]:
            where, why = printable(event["where"]), printable(event["why"])
            print(f"  {moment(event['at'])}  {where}: {why}", file=out)
        print(file=out)
