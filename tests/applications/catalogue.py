"""Which applications are run, and where do they differ from stock Celery on purpose?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.applications import director, extensions, monitors
from tests.applications.comparison import Difference
from tests.applications.place import Place

Steps = Callable[[Place], Iterator[tuple[str, str]]]
"""Does the steps of an application at a place; gives each step's name and outcome."""


@dataclass(frozen=True, kw_only=True)
class Application:
    """One application.

    Attributes:
        environment: Name of its Python environment and of its lock in `requirements/`.
        different: By step, what is not as with stock Celery, and the page that says so.
    """

    name: str
    summary: str
    environment: str
    steps: Steps
    needs_postgres: bool = False
    different: Mapping[str, Difference] = field(default_factory=dict)


APPLICATIONS = (
    Application(
        name="batches",
        summary="celery-batches on four pools",
        environment="extensions",
        steps=extensions.batches,
    ),
    Application(
        name="once-only",
        summary="RedBeat, celery-singleton and celery-once",
        environment="extensions",
        steps=extensions.once_only,
    ),
    Application(
        name="aio-pool",
        summary="coroutines as tasks on celery-aio-pool",
        environment="extensions",
        steps=extensions.aio_pool,
    ),
    Application(
        name="monitors",
        summary="Flower and celery-exporter beside a worker",
        environment="monitors",
        steps=monitors.steps,
    ),
    Application(
        name="director",
        summary="a workflow of celery-director",
        environment="director",
        steps=director.steps,
    ),
)
