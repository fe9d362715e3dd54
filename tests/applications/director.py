"""celery-director: workflows from a file, whose states its own task class keeps in a database."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from tests.applications.place import Place, until

ENDS = ("success", "error", "canceled")


def states(database: Path, workflow: str) -> tuple[str, dict[str, str]]:
    """The state of a workflow and of its tasks, as director's own pages show them."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT id, status FROM workflows WHERE name = ?", (workflow,)).fetchall()
        if not rows:
            return "missing", {}
        ((identity, state),) = rows
        tasks = dict(connection.execute("SELECT key, status FROM tasks WHERE workflow_id = ?", (identity,)).fetchall())
    return str(state), tasks


def steps(place: Place) -> Iterator[tuple[str, str]]:
    place.copy_programs("director")
    database = place.directory / "director.db"
    place.environment |= {
        "DIRECTOR_HOME": str(place.directory),
        "DIRECTOR_DATABASE_URI": f"sqlite:///{database}",
        "DIRECTOR_BROKER_URI": place.redis.url,
        "DIRECTOR_RESULT_BACKEND_URI": place.redis.url,
    }
    place.run("director", "db", "upgrade")
    worker = place.worker("director._auto:cel", concurrency=2)
    for workflow in ("LOAD", "FANS", "BREAKS"):
        place.run("director", "workflow", "run", f"shop.{workflow}", "{}")
        state, tasks = until(
            lambda name=workflow: states(database, name),  # type: ignore[misc]  # mypy infers no type for a default
            lambda it: it[0] in ENDS and all(each in ENDS for each in it[1].values()),
            what=f"the workflow {workflow} has ended",
        )
        told = ", ".join(f"{name} {its}" for name, its in sorted(tasks.items()))
        yield f"workflow {workflow}", f"{state} ({told})"
    until(place.left_in_queue, lambda it: it == 0, what="all messages are settled")
    yield "SIGTERM", f"exit code {worker.terminate()}"
